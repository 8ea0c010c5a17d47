"""What a tick of a schedule does: request runs, or skip and say why. Pure; the table of design §7.

Asked in this order: is the source blocked, is a run of the same partitions still under way, and how
late is the tick. Dagster evaluates only the newest of the ticks that were missed, so one tick may
stand for several.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from refresh_pipelines.ranges import runs_of
from refresh_pipelines.spec import Schedule, SourceSpec
from refresh_pipelines.units import format_duration
from refresh_pipelines.window import due_keys, partition_keys, split_key

CatchUp = Literal["none", "latest", "all"]
# So many periods at one tick: a host is not asked for decades at once.
MOST_CAUGHT_UP = 31
# Runs of a person or a backfill never hold a schedule up: they may last for days.
HOLDING_UP = frozenset({"schedule", "catch_up", "probe", "retry"})


@dataclass(frozen=True)
class Flight:
    """A run of the source that is queued or in progress.

    Attributes:
        keys: its partitions, empty for a source without any.
        trigger: why it was launched.
    """

    run_id: str
    keys: frozenset[str]
    trigger: str


@dataclass(frozen=True)
class Facts:
    """What a tick needs to know of its source.

    Attributes:
        missing: expected partitions without a success, oldest first and those that were refused last;
            asked only where they are caught up on.
        flights: its runs that are queued or in progress.
        blocked: why nothing is to be asked of the upstream now, as a clause; empty otherwise.
        coalesced: how many due ticks this one stands for, itself included.
        dynamic: keys of a dynamic dimension.
    """

    missing: Sequence[str] = ()
    flights: Sequence[Flight] = ()
    blocked: str = ""
    coalesced: int = 1
    dynamic: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """One run to ask for.

    Attributes:
        keys: a gapless range of partitions, empty for a source without any.
        run_key: the same for the same tick and partitions, so that none is requested twice.
    """

    keys: tuple[str, ...]
    trigger: Literal["schedule", "catch_up"]
    run_key: str
    coalesced: int = 1


@dataclass(frozen=True)
class Decision:
    """What a tick does.

    Attributes:
        reason: why the newest partitions are not among the requests, if they are not.
        cancel: runs to be cancelled first (`overlap: cancel`).
    """

    requests: tuple[Request, ...] = ()
    reason: str = ""
    cancel: tuple[str, ...] = field(default=())


def catch_up_of(spec: SourceSpec) -> CatchUp:
    """Return how a source makes up for missed ticks: as it says, or else `all` for periods and `latest` without."""
    if spec.schedule is not None and spec.schedule.catch_up is not None:
        return spec.schedule.catch_up
    return "all" if spec.partitions is not None and spec.partitions.time is not None else "latest"


def loads_history(spec: SourceSpec) -> bool:
    """Whether ticks load what lies before the first one."""
    return bool(spec.partitions and spec.partitions.time and spec.partitions.initial == "all")


def decide(spec: SourceSpec, tick: datetime, now: datetime, facts: Facts) -> Decision:
    """Return what the tick of an instant does when it is looked at `now`."""
    if facts.blocked:
        return Decision(reason=facts.blocked)
    due = due_keys(spec, tick, facts.dynamic)
    if spec.partitions and not due:
        return Decision(reason=_nothing_due(spec))
    schedule = spec.schedule or Schedule()
    late, catch_up = now - tick, catch_up_of(spec)
    holding = [flight for flight in facts.flights if flight.trigger in HOLDING_UP]
    free, cancel, reason = _overlap(schedule, due, holding)
    past = _past(spec, tick, facts, due) if catch_up == "all" or loads_history(spec) else []
    if free is None and not past:
        return Decision(reason=reason)
    if late > schedule.misfire_grace and catch_up == "none":
        return Decision(reason=_misfired(late, schedule.misfire_grace))
    requests = [*_newest(spec, tick, free, late > schedule.misfire_grace, facts), *past]
    return Decision(tuple(requests), reason, cancel)


def _overlap(
    schedule: Schedule, due: list[str], holding: Sequence[Flight]
) -> tuple[list[str] | None, tuple[str, ...], str]:
    """Return the due keys that are free, None if there is nothing to ask for, with runs to cancel, or the reason.

    Without partitions the free keys are an empty list.
    """
    same = [flight for flight in holding if not due or not flight.keys or flight.keys & set(due)]
    if not same or schedule.overlap == "queue":
        return due, (), ""
    if schedule.overlap == "cancel":
        return due, tuple(flight.run_id for flight in same), ""
    taken = frozenset().union(*(flight.keys for flight in same))
    free = [key for key in due if key not in taken] if taken else []
    names = ", ".join(flight.run_id[:8] for flight in same)
    return free or None, (), f"overlap: skip, because run {names} of the same partitions is queued or in progress"


def _newest(spec: SourceSpec, tick: datetime, free: list[str] | None, late: bool, facts: Facts) -> list[Request]:
    if free is None:
        return []
    trigger: Literal["schedule", "catch_up"] = "catch_up" if late else "schedule"
    if spec.partitions is None:
        return [Request((), trigger, run_key_of(tick, ()), facts.coalesced)]
    runs = runs_of(spec, set(free), due_keys(spec, tick, facts.dynamic))
    return [Request(run, trigger, run_key_of(tick, run), facts.coalesced) for run in runs]


def _past(spec: SourceSpec, tick: datetime, facts: Facts, due: Collection[str]) -> list[Request]:
    """Return runs over what was missed: nothing that is under way, and with what is caught up on at most 31 periods."""
    taken = frozenset().union(*(flight.keys for flight in facts.flights))
    before = {split_key(key)[0] for flight in facts.flights if flight.trigger == "catch_up" for key in flight.keys}
    left = [key for key in facts.missing if key not in taken and key not in set(due)]
    room = max(0, MOST_CAUGHT_UP - len(before))
    periods = set(list(dict.fromkeys(split_key(key)[0] for key in left))[:room])
    wanted = {key for key in left if split_key(key)[0] in periods}
    runs = runs_of(spec, wanted, partition_keys(spec, tick, facts.dynamic))
    return [Request(run, "catch_up", run_key_of(tick, run)) for run in runs]


def run_key_of(tick: datetime, keys: Sequence[str]) -> str:
    """Return the key by which Dagster knows that a run was requested already."""
    return f"{tick_text(tick)}|{keys[-1] if keys else ''}"


def tick_text(tick: datetime) -> str:
    """Write a tick's instant, UTC, as run keys and tags have it."""
    return tick.strftime("%Y-%m-%dT%H:%M:%SZ")


def _misfired(late: timedelta, grace: timedelta) -> str:
    return (
        f"misfired: looked at {format_duration(late)} after it was due, later than misfire_grace "
        f"{format_duration(grace)} allows; catch_up is none"
    )


def _nothing_due(spec: SourceSpec) -> str:
    if spec.partitions and spec.partitions.dynamic:
        return f"no partition is known: `refresh run {spec.source} --partition KEY` adds one"
    return f"no partition is due: the first one begins at {spec.partitions and spec.partitions.start}"
