"""What is remembered of an accepted payload, so that a later one can be compared with it. Values, and pure.

The last few profiles of a partition lie in its load state, written in the transaction of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# A partition of long ago has one or two; those of a source that changes every day stay as many.
KEPT = 8


@dataclass(frozen=True)
class Profile:
    """One payload in numbers.

    Attributes:
        spec: hash of the YAML under which it was read; profiles of another one are not compared.
        at: when it was accepted, ISO text.
        rows: rows it gave, each key once.
        bytes: its size; 0 where that is not known for the partition alone.
        whole: it was everything there is of its partition, and not only what is new since the last one.
        nulls: empty values per thousand rows, of columns that have any.
        flat: the one value of number columns that have only one.
        before: rows of the partition in the table before.
        known: rows of it that the table had already; `updated` are those whose values differed.
        deleted: rows that it took out of the table.
        lost: rows of the table that it lacks and that stay, from its own first instant on.
        instants: different dates or times of the table between its first and its last; 0 where nothing is lost.
        holes: those of them that it lacks.
    """

    spec: str = ""
    at: str = ""
    rows: int = 0
    bytes: int = 0
    whole: bool = True
    nulls: Mapping[str, int] = field(default_factory=dict)
    flat: Mapping[str, str] = field(default_factory=dict)
    before: int = 0
    known: int = 0
    updated: int = 0
    deleted: int = 0
    lost: int = 0
    instants: int = 0
    holes: int = 0

    def like(self, last: Profile) -> bool:
        """Whether it says nothing that the last one has not said: as many rows, and none of them new to the table."""
        kept = {name: getattr(last, name) for name in ("at", "bytes", "before", "known", "updated")}
        nothing_new = not self.updated and not self.deleted and self.known == self.rows
        return nothing_new and replace(self, **kept) == replace(last, deleted=0)


_PLAIN = asdict(Profile())


def written(profiles: Iterable[Profile]) -> str:
    """Return profiles as the text of a load state, without what is as it is in most."""
    lines = [{name: value for name, value in asdict(one).items() if value != _PLAIN[name]} for one in profiles]
    return json.dumps(lines, ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> tuple[Profile, ...]:
    """Return the profiles of a load state, oldest first; members that a later version has written are left out."""
    lines: list[dict[str, Any]] = json.loads(text) if text else []
    return tuple(Profile(**{name: value for name, value in line.items() if name in _PLAIN}) for line in lines)


def comparable(profiles: Sequence[Profile], spec: str) -> tuple[Profile, ...]:
    """Return the profiles of one version of the YAML."""
    return tuple(one for one in profiles if one.spec == spec)


def with_profile(text: str, new: Profile) -> str:
    """Return the text of a load state with one more profile, which pushes out the oldest."""
    return written([*read(text), new][-KEPT:])
