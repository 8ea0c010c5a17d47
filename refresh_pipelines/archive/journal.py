"""What was accepted of a source, in the order of the commits: `loads.jsonl` in its folder of the archive.

A line is written inside the open transaction of its rows, so that lines stand in the order of the commits. Of a
process that was killed between the line and its commit the line stays. Nobody trusts a line by itself: each
names the load before it, and the newest is named by the load state, so that the accepted ones are a chain.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from refresh_pipelines.archive.entry import Origin, plain, read_origin
from refresh_pipelines.archive.store import Store, unwritable, write_whole
from refresh_pipelines.warehouse import LoadState

FILE = "loads.jsonl"


@dataclass(frozen=True)
class Load:
    """A payload that was accepted for a partition, or the word that later bytes said the same.

    Attributes:
        kind: load; same: other bytes with the same rows came, and only what is remembered of them has changed.
        partition: "" without partitions.
        payload: the entry that was loaded; "" where nothing had to be read.
        at: when, as the load state and the rows have it (`committed_at`).
        after: that of the load before, None where the table held nothing of the partition.
        outcome, counts, published_at: of `same`, what the load state then said.
    """

    kind: Literal["load", "same"]
    partition: str
    payload: str
    run_id: str
    at: datetime
    spec_hash: str
    trigger: str = "manual"
    after: datetime | None = None
    origin: Origin = field(default_factory=Origin)
    outcome: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    published_at: datetime | None = None

    @property
    def missing(self) -> bool:
        """Whether a part of what was asked for did not come: then no hash was remembered."""
        return bool(self.payload) and not self.origin.sha256 and not self.origin.keys

    def line(self) -> str:
        """Return it as a line of the journal."""
        said: dict[str, Any] = {
            "kind": self.kind,
            "partition": self.partition,
            "payload": self.payload,
            "run_id": self.run_id,
            "at": self.at.isoformat(),
            "spec_hash": self.spec_hash,
            "trigger": self.trigger,
            "after": self.after and self.after.isoformat(),
            **plain(self.origin),
        }
        if self.kind == "same":
            published = self.published_at and self.published_at.isoformat()
            said |= {"outcome": self.outcome, "counts": dict(self.counts), "published_at": published}
        return json.dumps(said, ensure_ascii=False)


@dataclass(frozen=True)
class Chain:
    """What was accepted for one partition, oldest first.

    Attributes:
        whole: whether it reaches back to when the table held nothing of the partition.
    """

    partition: str
    loads: tuple[Load, ...]
    whole: bool

    @property
    def newest(self) -> Load | None:
        """The load whose payload the partition was accepted with, with what was said of it last."""
        places = [place for place, load in enumerate(self.loads) if load.kind == "load"]
        if not places:
            return None
        found, later = self.loads[places[-1]], self.loads[places[-1] + 1 :]
        return replace(found, origin=_later(found.origin, later[-1].origin)) if later else found


def _later(first: Origin, last: Origin) -> Origin:
    """Return how the load was read, with what the upstream has said since."""
    return replace(last, start=first.start, keys=first.keys, files=first.files)


class Journal:
    """The journal of one source."""

    def __init__(self, store: Store) -> None:
        self.store, self.path = store, store.folder / FILE

    def add(self, *loads: Load) -> None:
        """Write lines at its end. Raises InternalError, WarehouseBusy."""
        text = "".join(f"{load.line()}\n" for load in loads)
        with self.store.locked():
            try:
                with self.path.open("a+b") as file:
                    # Behind a line that was cut in the middle a new one begins.
                    end = file.seek(0, os.SEEK_END)
                    file.seek(max(end - 1, 0))
                    cut = end and file.read(1) != b"\n"
                    file.write((b"\n" if cut else b"") + text.encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise unwritable(self.path.parent, error) from error

    def read(self) -> list[Load]:
        """Return all lines, also those whose commit was never made; one that was cut is none."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        out = []
        for line in text.split("\n"):
            with suppress(ValueError, KeyError, TypeError):
                out.append(_load(json.loads(line)))
        return out

    def rewrite(self, keep: Callable[[Load], bool]) -> None:
        """Leave lines out. Only under the lock."""
        loads = self.read()
        kept = [load for load in loads if keep(load)]
        if len(kept) < len(loads):
            write_whole(self.path, "".join(f"{load.line()}\n" for load in kept))


def chains(loads: Sequence[Load], states: Mapping[str, LoadState]) -> dict[str, Chain]:
    """Return what was accepted, by partition.

    Args:
        loads: the lines of the journal.
        states: the load states; where there is none, the newest line counts as accepted.
    """
    by_partition: dict[str, list[Load]] = {}
    for load in loads:
        by_partition.setdefault(load.partition, []).append(load)
    partitions: Iterable[str] = dict.fromkeys([*by_partition, *states])
    return {key: _chain(key, by_partition.get(key, []), states.get(key)) for key in partitions}


def _chain(partition: str, lines: Sequence[Load], state: LoadState | None) -> Chain:
    newest = next((line.at for line in reversed(lines) if line.kind == "load"), None)
    wanted = state.committed_at if state else newest
    found: list[Load] = []
    same: list[Load] = []
    for line in reversed(lines):
        if line.at != wanted:
            continue
        if line.kind == "same":
            same.append(line)
            continue
        found += [*same, line]
        same, wanted = [], line.after
        if wanted is None:
            break
    return Chain(partition, tuple(reversed(found)), wanted is None)


def in_order(loads: Sequence[Load], found: Iterable[Chain]) -> list[Load]:
    """Return the accepted loads of all partitions in the order of their commits."""
    wanted = {id(load) for chain in found for load in chain.loads}
    return [load for load in loads if id(load) in wanted]


def loaded(state: LoadState, trigger: str, known: LoadState | None, origin: Origin) -> Load:
    """Return the line of a commit that is about to be made."""
    return Load(
        "load",
        state.partition,
        state.payload,
        state.run_id,
        state.committed_at,
        state.spec_hash,
        trigger,
        known.committed_at if known else None,
        origin,
    )


def same(state: LoadState, trigger: str, origin: Origin) -> Load:
    """Return the line of a load state that was written alone."""
    return Load(
        "same",
        state.partition,
        state.payload,
        state.run_id,
        state.committed_at,
        state.spec_hash,
        trigger,
        None,
        origin,
        state.outcome,
        asdict(state.counts),
        state.published_at,
    )


def _load(said: dict[str, Any]) -> Load:
    own = {name: said.pop(name) for name in ("kind", "partition", "payload", "run_id", "spec_hash", "trigger")}
    own |= {"outcome": said.pop("outcome", ""), "counts": said.pop("counts", {})}
    times = {name: said.pop(name, None) for name in ("at", "after", "published_at")}
    own |= {name: text and datetime.fromisoformat(text) for name, text in times.items()}
    return Load(**own, origin=read_origin(said))
