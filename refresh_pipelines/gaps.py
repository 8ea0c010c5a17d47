"""Which due ticks were neither a run nor an explained skip, and what is missing. Pure.

A due tick that nobody looked at is a gap, until everything it would have asked for has been refreshed
since: then it was made up for. A run that was cancelled in the queue leaves a gap as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from refresh_pipelines.expected import Expectation, Rhythm
from refresh_pipelines.ranges import runs_of
from refresh_pipelines.rhythms import Change
from refresh_pipelines.spec import Schedule, SourceSpec
from refresh_pipelines.units import format_duration
from refresh_pipelines.window import due_keys, newest_periods, partition_keys, split_key

Verdict = Literal["run", "skipped", "coalesced", "paused", "pending", "made_up", "expired", "gap", "missing"]
OPEN: frozenset[str] = frozenset({"gap", "expired"})
# The daemon looks every half minute, however short the grace is.
_A_LOOK = timedelta(minutes=2)
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Look:
    """One tick as Dagster's history has it."""

    at: datetime
    status: Literal["started", "skipped", "success", "failure"]
    reason: str = ""
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A run that stands for a due tick, and perhaps for some before it.

    Attributes:
        coalesced: how many due ticks it stands for, its own included.
        status: of the run, in small letters, as Dagster calls it.
        expired: whether it was cancelled because it stayed queued for too long.
    """

    run_id: str
    tick: datetime
    coalesced: int = 1
    status: str = "success"
    expired: bool = False


def _nothing() -> Mapping[str | None, datetime]:
    return {}


@dataclass(frozen=True)
class Seen:
    """What is known of a source's ticks.

    Attributes:
        pauses: from when to when it was paused; None for a pause that lasts.
        refreshed: when each partition was last refreshed with success; asked only where a gap would be.
        dynamic: keys of a dynamic dimension.
    """

    looks: Sequence[Look] = ()
    runs: Sequence[Made] = ()
    pauses: Sequence[tuple[datetime, datetime | None]] = ()
    refreshed: Callable[[], Mapping[str | None, datetime]] = _nothing
    dynamic: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """What became of one due tick, or (`missing`) of one partition since the tick that had to load it first."""

    tick: datetime
    verdict: Verdict
    reason: str = ""
    run_id: str = ""
    partition: str | None = None

    @property
    def open(self) -> bool:
        """Whether something is left to do."""
        return self.verdict in OPEN


@dataclass(frozen=True)
class Horizon:
    """From when ticks are compared, and what is known of the time before."""

    start: datetime
    notes: tuple[str, ...] = field(default=())


def horizon_of(
    changes: Sequence[Change],
    wanted: datetime,
    kept_days: int | None,
    now: datetime,
    kept_runs: timedelta | None = None,
) -> Horizon | None:
    """Return from when a source's due ticks can be compared with what happened; None if it was never seen due.

    Args:
        changes: its schedule-change log, oldest first.
        wanted: from when somebody wants to know.
        kept_days: how long Dagster keeps ticks, None for ever.
        kept_runs: how long runs are kept, None for ever: of older ticks it is not known what came of them.
    """
    if not changes or changes[-1].cron is None:
        return None
    since, start, notes = changes[-1].seen_at, wanted, []
    if kept_days is not None and now - timedelta(days=kept_days) > start:
        start = now - timedelta(days=kept_days)
        notes.append(f"ticks older than {kept_days} days are deleted: not compared")
    if kept_runs is not None and now - kept_runs > start:
        start = now - kept_runs
        notes = [f"runs older than {format_duration(kept_runs)} are removed: not compared"]
    if since > start:
        start = since
        notes = [_before(changes)] if len(changes) > 1 else []
    return Horizon(start, tuple(notes))


def _before(changes: Sequence[Change]) -> str:
    old, until = changes[-2], f"{changes[-1].seen_at:%Y-%m-%d %H:%M} UTC"
    if old.cron is None:
        return f"before {until} it was disabled or not due at times: not compared"
    return f"before {until} the schedule was `{old.cron}` {old.zone}: not compared"


def findings_of(spec: SourceSpec, rhythm: Rhythm, start: datetime, seen: Seen, now: datetime) -> list[Finding]:
    """Return what became of every tick that was due from `start` on, oldest first."""
    due = rhythm.between(start - _MOMENT, now)
    looks = {look.at: look for look in seen.looks}
    own: dict[datetime, list[Made]] = {}
    for run in seen.runs:
        own.setdefault(run.tick, []).append(run)
    covered = _covered(due, seen.runs)
    out = []
    for tick in due:
        found = _of_runs(tick, own.get(tick, ())) or _of_look(tick, looks.get(tick))
        if found is None:
            why = "its evaluation began and did not end" if tick in looks else "nobody looked at it"
            found = _explained(spec, tick, seen, covered, now) or Finding(tick, "gap", why)
        out.append(_made_up(spec, found, seen) if found.open else found)
    return out


def _covered(due: Sequence[datetime], runs: Iterable[Made]) -> dict[datetime, Made]:
    places = {tick: place for place, tick in enumerate(due)}
    out: dict[datetime, Made] = {}
    for run in runs:
        place = places.get(run.tick, -1)
        if place >= 0 and not run.expired:
            out |= dict.fromkeys(due[max(0, place - run.coalesced + 1) : place], run)
    return out


def _of_runs(tick: datetime, runs: Sequence[Made]) -> Finding | None:
    if not runs:
        return None
    lived = [run for run in runs if not run.expired]
    if not lived:
        return Finding(tick, "expired", "its run was cancelled after schedule.expire in the queue", runs[-1].run_id)
    run = lived[-1]
    return Finding(tick, "run", "" if run.status == "success" else run.status, run.run_id)


def _of_look(tick: datetime, look: Look | None) -> Finding | None:
    if look is None:
        return None
    run_id = look.run_ids[-1] if look.run_ids else ""
    if look.status == "success":
        return Finding(tick, "run", "" if run_id else look.reason, run_id)
    if look.status == "skipped":
        return Finding(tick, "skipped", look.reason)
    if look.status == "failure":
        return Finding(tick, "gap", f"its evaluation failed: {look.reason}")
    return None


def _explained(
    spec: SourceSpec, tick: datetime, seen: Seen, covered: Mapping[datetime, Made], now: datetime
) -> Finding | None:
    if any(begun <= tick and (ended is None or tick < ended) for begun, ended in seen.pauses):
        return Finding(tick, "paused", "the source was paused")
    if tick in covered:
        run = covered[tick]
        return Finding(tick, "coalesced", f"the run of {run.tick:%Y-%m-%d %H:%M} UTC stands for it", run.run_id)
    grace = max(_A_LOOK, (spec.schedule or Schedule()).misfire_grace)
    newer = any(look.at > tick for look in seen.looks)
    return Finding(tick, "pending", "nobody has looked at it yet") if now - tick <= grace and not newer else None


def _made_up(spec: SourceSpec, found: Finding, seen: Seen) -> Finding:
    """Return the finding, or that what the tick would have asked for has been refreshed since."""
    refreshed = seen.refreshed()
    asked = due_keys(spec, found.tick, seen.dynamic) if spec.partitions else [None]
    fresh = set(fresh_keys(spec, found.tick, seen.dynamic))
    whole = all(refreshed[key] >= found.tick or key not in fresh for key in asked if key in refreshed)
    if not whole or any(key not in refreshed for key in asked):
        return found
    return Finding(found.tick, "made_up", f"{found.reason}; what it asks for was refreshed later", found.run_id)


def fresh_keys(spec: SourceSpec, tick: datetime, dynamic: Sequence[str] = ()) -> list[str | None]:
    """Return what a tick is the first to ask for: the newest period without its look-back, everything without periods.

    (None,) for a source without partitions.
    """
    partitions = spec.partitions
    if partitions is None:
        return [None]
    keys = due_keys(spec, tick, dynamic)
    if partitions.time is None:
        return [*keys]
    newest = newest_periods(partitions, tick)[-1:]
    return [key for key in keys if split_key(key)[0] in newest]


def missing_of(
    expectation: Expectation | None,
    succeeded: Collection[str | None],
    under_way: Collection[str],
    findings: Sequence[Finding],
    now: datetime,
) -> list[Finding]:
    """Return the partitions that are expected and have no success, each with the tick that had to load it.

    Left out is what is under way, and what is due later: at a tick nobody has looked at yet, or after a pause.
    """
    if expectation is None or expectation.spec.partitions is None:
        return []
    by_tick = {found.tick: found for found in findings}
    out = []
    for key in expectation.missing(succeeded):
        due = expectation.first_due(key)
        found = by_tick.get(due)
        waits = due > now or key in under_way or (found is not None and found.verdict in ("pending", "paused"))
        if not waits:
            out.append(Finding(due, "missing", _why(found), found.run_id if found else "", key))
    return out


def _why(found: Finding | None) -> str:
    if found is None or found.verdict == "made_up":
        return "never loaded"
    said = found.reason or ("ended without loading it" if found.verdict == "run" else "")
    return f"its tick: {found.verdict.replace('_', ' ')}{f', {said}' if said else ''}"


@dataclass(frozen=True)
class Filling:
    """One run that makes up for gaps: its partitions, and the tick it stands for."""

    keys: tuple[str, ...]
    tick: datetime


def fillings_of(
    spec: SourceSpec, findings: Sequence[Finding], missing: Sequence[Finding], now: datetime, dynamic: Sequence[str]
) -> list[Filling]:
    """Return the runs after which nothing is missing and every gap is made up for, oldest first."""
    ticks: dict[str | None, datetime] = {found.partition: found.tick for found in missing}
    for found in findings:
        if found.open:
            ticks |= dict.fromkeys(fresh_keys(spec, found.tick, dynamic), found.tick)
    if spec.partitions is None:
        return [Filling((), ticks[None])] if ticks else []
    wanted = {key for key in ticks if key is not None}
    runs = runs_of(spec, wanted, partition_keys(spec, now, dynamic))
    return [Filling(run, max(ticks[key] for key in run)) for run in runs]
