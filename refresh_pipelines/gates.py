"""The gate before a source that requires others: open or closed, and whether a derived one is to be built. Pure.

What should be there comes from `expected`, what was refreshed from the event log, both handed in. The
gate asks for refreshes and not for the age of the data in them: a quiet upstream keeps it open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from refresh_pipelines.expected import Expectation
from refresh_pipelines.spec import Requires, SourceSpec
from refresh_pipelines.units import format_duration
from refresh_pipelines.window import UnknownPartition, Window, split_key, window_of

_MOMENT = timedelta(microseconds=1)
# After so long a failed build is tried again with the same inputs; then only new inputs or a person start one.
PAUSES = (timedelta(minutes=10), timedelta(hours=1))
# So long a change waits for refreshes of inputs to end: there may be a backfill of days, or always another one.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Report:
    """The newest success of a partition: when it was reported, the data version it left, and when rows last changed."""

    at: datetime
    version: str = ""
    changed_at: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of one required source.

    Attributes:
        expectation: what should be there; None before the first tick is due, and for a source that is
            disabled or not due at times.
        reports: the newest success of each partition; the key is None without partitions.
    """

    expectation: Expectation | None = None
    reports: Mapping[str | None, Report] = field(default_factory=dict)


@dataclass(frozen=True)
class Open:
    """The source may be refreshed; the notes name what is late and used all the same."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Closed:
    """The source should wait. With `never` a required source has never reported, so there is nothing to work with."""

    reason: str
    never: bool = False


@dataclass(frozen=True)
class _Lack:
    """One partition that is not what it should be; `since` is the first tick it missed, None: never refreshed."""

    key: str | None
    since: datetime | None
    last: datetime | None = None


def gate_of(
    spec: SourceSpec,
    sources: Mapping[str, SourceSpec],
    facts: Mapping[str, Facts],
    now: datetime,
    keys: Sequence[str] = (),
) -> Open | Closed:
    """Decide whether what a source requires is there.

    Args:
        sources: the catalogue's sources that can be loaded, by stem.
        facts: of the required ones among them, by stem.
        keys: the partitions about to be refreshed, for `period: same`.
    """
    notes: list[str] = []
    closed: Closed | None = None
    for need in spec.requires:
        required = sources.get(need.stem)
        if required is None:
            return Closed(f"{need.source} cannot be loaded: `refresh check` says why", never=True)
        found = _answer(need, required, facts.get(need.stem, Facts()), now, [window_of(spec, key) for key in keys])
        if isinstance(found, Open):
            notes += found.notes
        elif closed is None or (found.never and not closed.never):
            closed = found
    return closed or Open(tuple(notes))


def _answer(
    need: Requires, required: SourceSpec, facts: Facts, now: datetime, windows: Sequence[Window]
) -> Open | Closed:
    if not facts.reports:
        return Closed(f"{required.name} has never been refreshed: `refresh run {required.source}`", never=True)
    if need.period == "any" or facts.expectation is None:
        return Open()
    wanted = _needed(need, required, facts.expectation, windows)
    if not wanted:
        return Closed(f"no partition of {required.name} is due yet for the same time")
    lacks = [lack for key in wanted if (lack := _lack(facts.expectation, facts.reports, key, need.period == "same"))]
    never = next((lack for lack in lacks if lack.since is None), None)
    if never:
        return Closed(
            f"{_label(required, never.key)} has never been refreshed: `refresh run {required.source}`", never=True
        )
    return _weigh(need, required, lacks, now)


def _weigh(need: Requires, required: SourceSpec, lacks: Sequence[_Lack], now: datetime) -> Open | Closed:
    if not lacks:
        return Open()
    grace = need.max_lag or timedelta(0)
    worst = min(lacks, key=lambda lack: lack.since or now)
    since = worst.since or now
    others = f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else ""
    last = f"has not been refreshed since {_clock(worst.last)}" if worst.last else "has not been refreshed yet"
    text = f"{_label(required, worst.key)}{others} {last}; expected at {_clock(since)}"
    allowed = f"max_lag {format_duration(grace)}"
    if need.max_lag is not None and now <= since + grace:
        return Open((f"{text}, and used as it is ({allowed})",))
    if need.max_lag is not None:
        text += f", and by {_clock(since + grace)} at the latest ({allowed})"
    return Closed(text) if need.blocking else Open((f"{text}; not waited for (blocking: false)",))


def _needed(
    need: Requires, required: SourceSpec, expectation: Expectation, windows: Sequence[Window]
) -> list[str | None]:
    timed = required.partitions is not None and required.partitions.time is not None
    if not timed:
        return list(expectation.keys)
    if need.period == "newest":
        newest = max((split_key(key or "")[0] for key in expectation.asked), default="")
        return [key for key in expectation.asked if split_key(key or "")[0] == newest]
    return [key for key in expectation.keys if any(_overlaps(required, key, window) for window in windows)]


def _overlaps(required: SourceSpec, key: str | None, window: Window) -> bool:
    try:
        own = window_of(required, key)
    except UnknownPartition:
        return False
    if not (own.start and own.end and window.start and window.end):
        return False
    return own.start < window.end and window.start < own.end


def _lack(
    expectation: Expectation, reports: Mapping[str | None, Report], key: str | None, exactly: bool
) -> _Lack | None:
    """Return what a partition lacks; with `exactly` an older period of the same static key does not stand in for it."""
    report = reports.get(key)
    if report is not None:
        # What lies further back than the newest period need only be there.
        if report.at >= (expectation.first_due(key) if exactly else expectation.due_at(key)):
            return None
        return _Lack(key, expectation.rhythm.first_from(_later(report.at + _MOMENT, expectation)), report.at)
    partitions = expectation.spec.partitions
    if partitions is None or partitions.time is None:
        return _Lack(key, None)
    if exactly:
        return _Lack(key, expectation.first_due(key))
    return _behind(expectation, reports, key or "")


def _later(at: datetime, expectation: Expectation) -> datetime:
    resumed = expectation.since.resumed_at
    return max(at, resumed) if resumed else at


def _behind(expectation: Expectation, reports: Mapping[str | None, Report], key: str) -> _Lack:
    """Say since when a series of periods has not grown: since its first one after the last that was loaded."""
    other = split_key(key)[1]
    series = [one for one in expectation.keys if one is not None and split_key(one)[1] == other]
    loaded = [one for one in reports if one is not None and split_key(one)[1] == other]
    if not loaded:
        return _Lack(key, None)
    newest = max(loaded)
    first = next((one for one in series if one > newest), key)
    return _Lack(key, expectation.first_due(first), reports[newest].at)


def _label(spec: SourceSpec, key: str | None) -> str:
    return f"{spec.name}[{key}]" if key else spec.name


def _clock(at: datetime | None) -> str:
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC" if at else "never"


def inputs_of(spec: SourceSpec, facts: Mapping[str, Facts]) -> str:
    """Return the hash of all that decides what a derived source gives: its own YAML and its inputs' data versions."""
    versions = sorted(
        (need.stem, key or "", report.version)
        for need in spec.requires
        for key, report in facts.get(need.stem, Facts()).reports.items()
    )
    return hashlib.sha256(json.dumps([spec.spec_hash, versions]).encode()).hexdigest()[:16]


def changed_since(spec: SourceSpec, facts: Mapping[str, Facts], built: Built | None) -> datetime | None:
    """Return the earliest change of an input that came after the newest build, None if nobody knows of one."""
    changes = [
        report.changed_at
        for need in spec.requires
        for report in facts.get(need.stem, Facts()).reports.values()
        if report.changed_at and (built is None or report.changed_at > built.at)
    ]
    return min(changes, default=None)


@dataclass(frozen=True)
class Built:
    """The newest build that ended well: the inputs it began with, its run and when it was reported."""

    inputs: str
    run_id: str
    at: datetime


@dataclass(frozen=True)
class Build:
    """Request a run; `attempt` counts from 1 for the same inputs."""

    inputs: str
    attempt: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Request none, for this reason."""

    reason: str


def next_build(
    gate: Open | Closed,
    inputs: str,
    built: Built | None,
    *,
    asked_for: Callable[[], str | None],
    failures: Callable[[], Sequence[datetime]],
    building: Callable[[], str | None],
    refreshing: Callable[[], str | None],
    changed: datetime | None,
    now: datetime,
) -> Build | Wait:
    """Decide whether a derived source is built now.

    Args:
        gate: of the source.
        inputs: `inputs_of` the source now.
        built: its newest good build.
        asked_for: asked only if the inputs differ: which ones the newest build was requested for. Where a run
            reads another YAML than the sensor, they would differ for ever.
        failures: asked only if a build is wanted: when runs with the same inputs ended badly.
        building: asked only then: a build that is queued or in progress, in words.
        refreshing: the same of an input's refreshes, after which more may have changed.
        changed: since when the build is wanted (`changed_since`).
    """
    if isinstance(gate, Closed):
        return Wait(f"closed: {gate.reason}")
    if built is not None and (built.inputs == inputs or asked_for() == inputs):
        return Wait(f"nothing changed since run {built.run_id[:8]}")
    patient = changed is None or now - changed <= PATIENCE
    running = building() or (refreshing() if patient else None)
    if running:
        return Wait(running)
    ended = failures()
    tries = len(ended)
    if tries > len(PAUSES):
        return Wait(f"failed {tries} times with these inputs; the next change, or `refresh run`, tries again")
    if tries and now < max(ended) + PAUSES[tries - 1]:
        return Wait(f"failed with these inputs; the next try is due at {_clock(max(ended) + PAUSES[tries - 1])}")
    return Build(inputs, tries + 1, gate.notes)
