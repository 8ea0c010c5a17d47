"""What is due of a source without a tick of Dagster's: `refresh run --due` does it, `refresh plan` only asks.

The decision is the one a tick takes (`decide`); a success after the newest due tick settles what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import dagster as dg

from refresh_pipelines.breaker import State, sentence
from refresh_pipelines.decide import Request, decide, tick_text
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.gates import Build
from refresh_pipelines.orchestration.gaps import refreshed_since
from refresh_pipelines.orchestration.gates import Gates, builds_due
from refresh_pipelines.orchestration.looks import newest_look, scheduled_runs
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.past import past_of
from refresh_pipelines.orchestration.probing import may_probe, next_number, probe_of
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import INPUTS
from refresh_pipelines.orchestration.runner import Order
from refresh_pipelines.orchestration.schedules import facts_of, hindrance
from refresh_pipelines.orchestration.tags import COALESCED, MEMBER, PROBE, SOURCE, TICK
from refresh_pipelines.plan import Standing, standing_of
from refresh_pipelines.ranges import runs_of
from refresh_pipelines.rhythms import since_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.window import due_keys, partition_keys

# For commands, which must not import Dagster by name.
Instance: TypeAlias = dg.DagsterInstance


@dataclass(frozen=True)
class Due:
    """What is to be done of a source now.

    Attributes:
        orders: the runs to make.
        reason: why there are none, although something has no success since it was due.
        cancel: runs to be cancelled first (`overlap: cancel`).
    """

    orders: tuple[Order, ...] = ()
    reason: str = ""
    cancel: tuple[str, ...] = ()


def due_of(
    instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, reads: Reads, now: datetime
) -> Due | None:
    """Return what has no success for the newest due tick, and what is caught up on; None if nothing is to be done.

    Schedules that are switched off (REFRESH_SCHEDULES_ENABLED) are no hindrance: somebody else's clock asks.
    """
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return None
    tick = rhythm.newest(now)
    settings = replace(settings, schedules_enabled=True)
    state = reads.breaker(instance, spec, now)
    if state.holds:
        return _held(instance, spec, settings, reads, state, tick, now)
    facts = facts_of(instance, spec, settings, reads, tick, now)
    asked = due_keys(spec, tick, facts.dynamic)
    wanted: list[str | None] = [*asked] if spec.partitions else [None]
    settled = refreshed_since(instance, spec, wanted, tick)
    unsettled = set(wanted) - settled
    coalesced = _coalesced(instance, spec, reads, tick)
    decision = decide(spec, tick, now, replace(facts, coalesced=coalesced))
    known = partition_keys(spec, tick, facts.dynamic)
    orders = [order for request in decision.requests for order in _orders(spec, tick, request, settled, known)]
    if not orders and not unsettled:
        return None
    return Due(tuple(orders), decision.reason, decision.cancel if unsettled else ())


def _held(
    instance: dg.DagsterInstance,
    spec: SourceSpec,
    settings: Settings,
    reads: Reads,
    state: State,
    tick: datetime,
    now: datetime,
) -> Due:
    """Return the probe of a source whose breaker is open, when its time has come: without a daemon nobody else asks.

    What was due may be settled all the same: then the probe finds it unchanged, and closes the breaker.
    """
    reason = hindrance(instance, spec, settings, reads, due_keys(spec, tick, dynamic_keys(instance, spec)), now)
    asking = None if reason else probe_of(instance, spec, reads, state, now)
    if asking is None:
        return Due(reason=reason or sentence(spec.source, state))
    keys = () if asking.key is None else (asking.key,)
    return Due((Order(spec, keys, trigger="probe", tags={PROBE: str(asking.number)}),))


def arrived_of(
    instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, reads: Reads, now: datetime
) -> Due | None:
    """Return the days of a drop with files that no run has dealt with, or is dealing with; None without any."""
    past = past_of(instance, spec, open_warehouse(settings), settings)
    if past.trouble is not None:
        return Due((Order(spec, instead=past.instead(spec, ())),))
    taken = frozenset().union(*(flight.keys for flight in reads.flights(instance, spec, now)))
    days = [day for day in past.arrived or () if day not in taken]
    state = reads.breaker(instance, spec, now)
    if days and state.holds:
        if taken or not may_probe(state):
            return Due(reason=sentence(spec.source, state))
        # The next files are the probe.
        tags = {PROBE: str(next_number(instance, spec))}
        return Due((Order(spec, (days[0],), trigger="probe", tags=tags),))
    return Due(tuple(Order(spec, (day,), trigger="schedule") for day in days)) if days else None


def build_of(
    instance: dg.DagsterInstance,
    spec: SourceSpec,
    sources: Mapping[str, SourceSpec],
    settings: Settings,
    now: datetime,
) -> Order | None:
    """Return the build of a derived source that its inputs ask for now; None if they do not, or a gate is closed."""
    if not spec.enabled:
        return None
    found = builds_due(instance, [spec], Gates(sources, Reads(sources.values(), settings)), now)[spec.source]
    return Order(spec, trigger="schedule", tags={INPUTS: found.inputs}) if isinstance(found, Build) else None


def _orders(
    spec: SourceSpec, tick: datetime, request: Request, settled: set[str | None], known: list[str]
) -> Iterator[Order]:
    tags = {TICK: tick_text(tick), **({COALESCED: str(request.coalesced)} if request.coalesced > 1 else {})}
    if not request.keys:
        if None not in settled:
            yield Order(spec, trigger=request.trigger, tags=tags)
        return
    for keys in runs_of(spec, set(request.keys) - settled, known):
        yield Order(spec, keys, trigger=request.trigger, tags=tags)


def _coalesced(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, tick: datetime) -> int:
    """Return how many due ticks the newest stands for: those since the last that was looked at, by whomever."""
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return 1
    run_at = _newest_run_for(instance, spec, tick)
    looked = max(filter(None, (newest_look(instance, spec, before=tick), run_at)), default=None)
    if looked is None:
        return 1
    resumed = reads.since(instance, spec, tick).resumed_at
    return max(1, len(rhythm.between(max(filter(None, (looked, resumed))), tick)))


def _newest_run_for(instance: dg.DagsterInstance, spec: SourceSpec, before: datetime) -> datetime | None:
    records = scheduled_runs(instance, [spec.source], ["schedule", "catch_up"], limit=10)
    texts = [record.dagster_run.tags[TICK] for record in records if TICK in record.dagster_run.tags]
    ticks = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in texts]
    return max((at for at in ticks if at < before), default=None)


def standing(
    instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, reads: Reads, at: datetime
) -> Standing:
    """Return what a daemon that looks at an instant would do about the newest tick; asks and writes nothing.

    The event log is taken as it is now, whatever the instant.
    """
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return Standing("nothing")
    tick = rhythm.newest(at)
    since = since_of(reads.changes().get(spec.source, ()))
    if since is None or tick < since.enabled_at:
        return Standing("nothing", "no tick has been due since the source was first seen")
    looked = newest_look(instance, spec)
    if looked is not None and looked >= tick:
        return Standing("nothing", "the newest tick was looked at", tick)
    if dg_run := _run_for(instance, spec, tick):
        return Standing("nothing", f"run {dg_run[:8]} was made for the newest tick", tick)
    return standing_of(decide(spec, tick, at, facts_of(instance, spec, settings, reads, tick, at)), tick)


def _run_for(instance: dg.DagsterInstance, spec: SourceSpec, tick: datetime) -> str:
    alone = dg.RunsFilter(tags={SOURCE: spec.source, TICK: tick_text(tick)})
    shared = dg.RunsFilter(tags={MEMBER + spec.source: ["schedule", "catch_up"], TICK: tick_text(tick)})
    found = instance.get_runs(alone, limit=1) or instance.get_runs(shared, limit=1)
    return found[0].run_id if found else ""
