"""Every trap that `refresh doctor` knows: what it is and how it is mended; docs/operations.md lists the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.settings import Settings

if TYPE_CHECKING:
    from refresh_pipelines.orchestration.health import Health

Level = Literal["wrong", "advice"]


@dataclass(frozen=True)
class Trap:
    """Something that is known to go wrong. `level` is `wrong` where data stops or may be lost."""

    name: str
    level: Level
    what: str
    mend: str


@dataclass(frozen=True)
class Finding:
    """A trap that holds here; `came` says by what it was seen."""

    trap: Trap
    came: str


@dataclass(frozen=True)
class Place:
    """What the checks look at.

    Attributes:
        home: the folder whose dagster.yaml is used.
        health: of the Dagster instance; None where it cannot be opened, and `broken` says why.
        online: whether upstreams may be asked.
    """

    settings: Settings
    now: datetime
    home: Path
    catalogue: Catalogue
    health: Health | None = None
    broken: str = ""
    online: bool = False


Check = Callable[[Place], Iterator[Finding]]
TRAPS: dict[str, Trap] = {}


def trap(name: str, level: Level, what: str, mend: str) -> Trap:
    """Enter a trap into the list and return it."""
    TRAPS[name] = Trap(name, level, what, mend)
    return TRAPS[name]
