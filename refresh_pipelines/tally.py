"""What the event log says of one run's refreshes of one period, added up: all that the score needs of it. Pure.

Tallies are added, so it does not matter in which order or in how many readings the events come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from refresh_pipelines.breaker import COUNTED
from refresh_pipelines.outcome import SUCCESS
from refresh_pipelines.window import split_key

# The period of a source without periods.
WHOLE = ""
_MILLION = 1_000_000


@dataclass(frozen=True)
class Tally:
    """One run's refreshes of one period.

    Attributes:
        order: the newest place in the log.
        ok: partitions that were refreshed well.
        bad: those that failed by the upstream's fault; `contract` and `quarantined` are among them.
        fit: the sum, over those that were refreshed well, of the share of rows that were taken, in millionths.
        later: whether the run was a later try, which takes only what had failed.
        fields: what the upstream served that no column reads; None where no rows were read.
    """

    run_id: str
    period: str
    order: int
    ok: int = 0
    bad: int = 0
    contract: int = 0
    quarantined: int = 0
    fit: int = 0
    ok_at: datetime | None = None
    bad_at: datetime | None = None
    later: bool = False
    fields: frozenset[str] | None = None

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both, which are of the same run and period."""
        read = [fields for fields in (self.fields, other.fields) if fields is not None]
        return Tally(
            self.run_id,
            self.period,
            max(self.order, other.order),
            self.ok + other.ok,
            self.bad + other.bad,
            self.contract + other.contract,
            self.quarantined + other.quarantined,
            self.fit + other.fit,
            max((at for at in (self.ok_at, other.ok_at) if at), default=None),
            max((at for at in (self.bad_at, other.bad_at) if at), default=None),
            self.later or other.later,
            frozenset().union(*read) if read else None,
        )


@dataclass(frozen=True)
class Said:
    """What one event says of one partition.

    Attributes:
        order: its place in the log.
        key: None without partitions.
        fetched: rows that were read.
        fields: what the upstream served that no column reads; None where no rows were read.
    """

    order: int
    run_id: str
    at: datetime
    key: str | None
    outcome: str
    error_class: str = ""
    trigger: str = "manual"
    fetched: int = 0
    rejected: int = 0
    fields: frozenset[str] | None = None


def tally_of(said: Said, *, periods: bool = True) -> Tally | None:
    """Return what an event counts as; None for one that says nothing of the upstream.

    Args:
        said: the event.
        periods: whether partitions of the source are of periods.
    """
    good, quarantined = said.outcome in SUCCESS, said.outcome == "quarantined"
    contract = said.outcome == "failed" and said.error_class == "contract"
    if not (good or quarantined or (said.outcome == "failed" and said.error_class in COUNTED)):
        return None
    period = split_key(said.key)[0] if periods and said.key else WHOLE
    # Events without a run are of no other's.
    run_id = said.run_id or f"event {said.order}"
    taken = _MILLION - _MILLION * min(said.rejected, said.fetched) // said.fetched if said.fetched > 0 else _MILLION
    return Tally(
        run_id,
        period,
        said.order,
        int(good),
        int(not good),
        int(contract),
        int(quarantined),
        taken if good else 0,
        said.at if good else None,
        None if good else said.at,
        said.trigger == "retry",
        said.fields if good else None,
    )


def added(tallies: Iterable[Tally]) -> dict[tuple[str, str], Tally]:
    """Return the tallies by run and period, those of the same added up."""
    out: dict[tuple[str, str], Tally] = {}
    for tally in tallies:
        place = (tally.run_id, tally.period)
        out[place] = out[place] + tally if place in out else tally
    return out


@dataclass(frozen=True)
class Refresh:
    """What one run of a source came to; several partitions of it are one refresh.

    Attributes:
        shares: of each period how many partitions of it were refreshed well, and how many failed.
        fields: what the upstream served that no column reads; None where nothing was read.
    """

    run_id: str
    ok_at: datetime | None
    bad_at: datetime | None
    ok: int
    bad: int
    contract: int
    quarantined: int
    fit: int
    later: bool
    fields: frozenset[str] | None
    shares: Mapping[str, tuple[int, int]]

    @property
    def success(self) -> bool:
        """Whether any partition was refreshed well: then the upstream answers, and what failed is tried again."""
        return self.ok > 0

    @property
    def at(self) -> datetime:
        """When its verdict was known."""
        found = self.ok_at if self.success else self.bad_at
        if found is None:
            raise ValueError(f"run {self.run_id} has no verdict")
        return found

    def of(self, period: str) -> tuple[int, int]:
        """Return how many partitions of a period were refreshed well and how many failed."""
        return (self.ok, self.bad) if period == WHOLE else self.shares.get(period, (0, 0))


def refreshes_of(tallies: Iterable[Tally]) -> list[Refresh]:
    """Return the runs that the tallies are of, oldest first, whatever order they come in."""
    runs: dict[str, list[Tally]] = {}
    for tally in tallies:
        runs.setdefault(tally.run_id, []).append(tally)
    found = [_refresh(run_id, own) for run_id, own in runs.items() if any(one.ok or one.bad for one in own)]
    return sorted(found, key=lambda one: (one.at, not one.success, one.run_id))


def _refresh(run_id: str, own: Sequence[Tally]) -> Refresh:
    read = [one.fields for one in own if one.fields is not None]
    return Refresh(
        run_id,
        max((one.ok_at for one in own if one.ok_at), default=None),
        max((one.bad_at for one in own if one.bad_at), default=None),
        sum(one.ok for one in own),
        sum(one.bad for one in own),
        sum(one.contract for one in own),
        sum(one.quarantined for one in own),
        sum(one.fit for one in own),
        any(one.later for one in own),
        frozenset().union(*read) if read else None,
        {one.period: (one.ok, one.bad) for one in own},
    )
