"""Which request meets which fault of the sandbox, and how a fault is written.

`KIND[:ARGUMENT]`, on the command line with a target and how often it happens,
`TARGET=KIND[:ARGUMENT][*TIMES]`: `fred_fx=status:503,120`, `*=delay:2s`, `bsee_ogora=truncate:50%*2`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from refresh_pipelines.sandbox_answers import Answer, first_values
from refresh_pipelines.sandbox_kinds import KINDS, Asked, Kind, Wire


class FaultError(ValueError):
    """A fault that does not exist or is not written as it should be; the message names the known ones."""


@dataclass(frozen=True)
class Fault:
    """One kind with its argument; `text` is how it was written."""

    text: str
    kind: Kind[Any]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `KIND[:ARGUMENT]`; raise FaultError."""
        name, _, argument = text.partition(":")
        kind = KINDS.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, KINDS, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise FaultError(f"unknown fault {name!r}{hint}; the kinds are {', '.join(KINDS)}")
        if argument and not kind.argument:
            raise FaultError(f"{name} takes no argument, so {argument!r} is none")
        try:
            return cls(text, kind, kind.read(argument or kind.default))
        except ValueError as error:
            raise FaultError(f"{name}{kind.spelling}: {argument!r} is wrong: {error}") from error

    def tamper(self, answer: Answer, asked: Asked) -> Answer:
        """Return what is answered in place of `answer`."""
        return self.kind.tamper(answer, asked, self.value)

    def send(self, wire: Wire, answer: Answer) -> None:
        """Put the changed answer on the wire."""
        self.kind.send(wire, answer, self.value)


def parse_assignment(text: str) -> tuple[str, Fault, int | None]:
    """Read `TARGET=KIND[:ARGUMENT][*TIMES]`; None times means always. Raises FaultError."""
    # A path may have a query, and so more signs of equality; a kind has none, an address in its argument may.
    found = re.fullmatch(r"(?P<target>.+?)=(?P<fault>[a-z_]+(?::.*?)?)(?:\*(?P<times>[0-9]+))?", text)
    if not found or found["times"] == "0":
        raise FaultError(f"{text!r} is not written TARGET=KIND[:ARGUMENT][*TIMES], as in fred_fx=status:503,120*2")
    return found["target"], Fault.parse(found["fault"]), int(found["times"]) if found["times"] else None


@dataclass
class _Planned:
    target: str
    fault: Fault
    left: int | None

    def fits(self, path: str, query: Mapping[str, str], source: str | None) -> bool:
        if self.target == "*":
            # Commands look at / to learn whether a sandbox is there at all.
            return path != "/"
        wanted_path, _, wanted_query = self.target.partition("?")
        return self.target == source or (path == wanted_path and first_values(wanted_query).items() <= query.items())

    @property
    def rank(self) -> int:
        return 0 if self.target == "*" else 1 if not self.target.startswith("/") else 2 + self.target.count("=")


class Plan:
    """The faults that requests meet; used by the threads of a sandbox at once."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._planned: list[_Planned] = []
        self._counting = Lock()

    def add(self, target: str, fault: Fault, times: int | None) -> None:
        """See `Sandbox.fault`."""
        name = target if target.startswith("/") else target.rpartition("/")[2]
        if name != "*" and not name.startswith("/") and name not in self._sources:
            there = ", ".join(self._sources)
            raise FaultError(f"{target!r} is no source with samples; there are {there}; * means all")
        self._planned.append(_Planned(name, fault, times))

    def clear(self) -> None:
        """Forget all faults."""
        self._planned.clear()

    def meet(self, path: str, query: Mapping[str, str], source: str | None) -> Fault | None:
        """Return the fault a request meets, and count it."""
        with self._counting:
            fitting = [planned for planned in self._planned if planned.left != 0 and planned.fits(path, query, source)]
            if not fitting:
                return None
            # max() takes the first of equals; reversed, that is the latest.
            planned = max(reversed(fitting), key=lambda each: each.rank)
            planned.left = None if planned.left is None else planned.left - 1
            return planned.fault
