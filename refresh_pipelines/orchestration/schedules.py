"""One schedule per source that is due at times: each tick gathers facts, and `decide` says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.breaker import sentence
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.decide import Decision, Facts, Request, catch_up_of, decide, loads_history, tick_text
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.gates import Closed
from refresh_pipelines.later import left_alone_until
from refresh_pipelines.orchestration.checks import own_checks, own_target
from refresh_pipelines.orchestration.gates import Gates
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, cancel_run, shared_instance
from refresh_pipelines.orchestration.logged import log_requested, log_skipped
from refresh_pipelines.orchestration.looks import newest_look, own_schedule
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import COALESCED, TICK, range_tags, run_tags
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys, split_key

# Above this many sources a job for each costs the daemon and the UI more than ten seconds at every load.
MOST_OWN_TARGETS = 300
_REMEMBERED = 1000
SWITCHED_OFF = "REFRESH_SCHEDULES_ENABLED is false"


def source_schedule(
    spec: SourceSpec, workshop: Workshop, reads: Reads, *, shared: bool = False
) -> dg.ScheduleDefinition:
    """Return the schedule of a source that is due at times; it runs unless somebody stops it.

    Args:
        reads: what the ticks of this process ask of the instance.
        shared: target the job that Dagster has for all assets, and name the asset in each request,
            in place of a job of the source's own, which the asset's page would show.
    """
    rhythm = rhythm_of(spec)
    if rhythm is None:
        raise ValueError(f"{spec.name} is not due at times")
    return dg.ScheduleDefinition(
        name=own_schedule(spec),
        cron_schedule=rhythm.cron,
        execution_timezone=rhythm.zone,
        job_name=IMPLICIT_ASSET_JOB if shared else None,
        target=None if shared else own_target(spec),
        execution_fn=_tick(spec, workshop, reads, shared=shared),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes {spec.name} at {rhythm.cron} {rhythm.zone}.",
    )


def _tick(
    spec: SourceSpec, workshop: Workshop, reads: Reads, *, shared: bool
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    selection = [key_of(spec)] if shared else None

    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.astimezone(timezone.utc)
        now = max(workshop.clock(), at)
        instance = shared_instance(context)
        decision = decide(spec, at, now, facts_of(instance, spec, workshop.settings, reads, at, now))
        make_room(instance, decision, at)
        requests = [run_request(spec, at, request, selection=selection) for request in decision.requests]
        log_requested(own_schedule(spec), requests, at)
        yield from requests
        if not requests:
            log_skipped(own_schedule(spec), spec, decision.reason, at)
            yield dg.SkipReason(decision.reason)

    return tick


def make_room(instance: dg.DagsterInstance, decision: Decision, at: datetime) -> None:
    """Cancel the runs that the requests of a tick are to take the place of (`overlap: cancel`)."""
    for run_id in decision.cancel:
        cancel_run(instance, run_id, f"overlap: cancel; the tick of {tick_text(at)} takes its place")


def facts_of(
    instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, reads: Reads, at: datetime, now: datetime
) -> Facts:
    """Return what the tick of an instant needs to know of its source."""
    # Also of a tick that skips: from the first one on it can be said which were due.
    reads.note(instance, at, [spec])
    blocked = _blocked(spec, settings) or sentence(spec.source, reads.breaker(instance, spec, now))
    blocked = blocked or _left_alone(instance, spec, reads, now)
    if blocked:
        return Facts(blocked=blocked)
    dynamic = dynamic_keys(instance, spec)
    closed = _closed(instance, spec, reads, due_keys(spec, at, dynamic), now)
    if closed:
        return Facts(blocked=closed)
    return Facts(
        missing=_missing(instance, spec, reads, at) if catch_up_of(spec) == "all" or loads_history(spec) else (),
        flights=reads.flights(instance, spec, now),
        coalesced=_coalesced(instance, spec, reads, at),
        dynamic=dynamic,
    )


def hindrance(
    instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings, reads: Reads, due: Sequence[str], now: datetime
) -> str:
    """Return why nothing is to be asked of a source, also not by a probe; empty if nothing hinders."""
    return _blocked(spec, settings) or _closed(instance, spec, reads, due, now)


def _blocked(spec: SourceSpec, settings: Settings) -> str:
    if not settings.schedules_enabled:
        return SWITCHED_OFF
    variable = missing_key(spec, settings)
    return f"blocked: set {variable} in the environment or in .env, then reload" if variable else ""


def _left_alone(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, now: datetime) -> str:
    """Return that the upstream wants no request yet, empty if it takes them."""
    log = reads.logs(instance).get(spec.source)
    until = left_alone_until(log.waiting, spec.breaker.probe_max) if log else None
    return f"left alone: the upstream wants no request before {until:%F %T} UTC" if until and until > now else ""


def _closed(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, due: Sequence[str], now: datetime) -> str:
    """Return why the gate of a source that requires others is closed, empty if it is open."""
    if not spec.requires:
        return ""
    gate = Gates(reads.sources, reads).gate(instance, spec, now, due)
    return f"closed: {gate.reason}" if isinstance(gate, Closed) else ""


def _coalesced(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, at: datetime) -> int:
    """Return how many due ticks this one stands for: those since the newest one that was looked at."""
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return 1
    before = newest_look(instance, spec, before=at)
    if before is None:
        return 1
    since = reads.since(instance, spec, at)
    counted = max(filter(None, (before, since.resumed_at)))
    return max(1, len(rhythm.between(counted, at)))


def _missing(instance: dg.DagsterInstance, spec: SourceSpec, reads: Reads, at: datetime) -> Sequence[str]:
    """Return what is expected and was never loaded, oldest first, and what was refused behind it: it may not exist."""
    expectation = reads.expectation(instance, spec, at)
    if expectation is None:
        return ()
    missing = [key for key in expectation.missing(reads.succeeded(instance, spec)) if key is not None]
    if not missing or spec.partitions is None or spec.partitions.time is None:
        return missing
    refused = instance.fetch_observations(dg.AssetRecordsFilter(key_of(spec)), limit=_REMEMBERED).records
    since: dict[str, int] = {}
    for rank, record in enumerate(refused):
        since.setdefault(split_key(record.partition_key or "")[0], rank)
    return sorted(missing, key=lambda key: -since.get(split_key(key)[0], _REMEMBERED))


def run_request(
    spec: SourceSpec,
    tick: datetime,
    request: Request,
    *,
    selection: list[dg.AssetKey] | None = None,
    among: bool = False,
) -> dg.RunRequest:
    """Return one run as Dagster wants it asked for: a single partition, or a whole range.

    Args:
        selection: the source's asset, where the schedule's job holds others too.
        among: whether the schedule asks for runs of other sources too, whose keys may be the same.
    """
    tags = {**run_tags(spec, request.trigger), TICK: tick_text(tick)}
    if request.coalesced > 1:
        tags[COALESCED] = str(request.coalesced)
    checks = own_checks(spec) if selection else None
    if len(request.keys) > 1:
        tags |= range_tags(request.keys)
    only = request.keys[0] if len(request.keys) == 1 else None
    return dg.RunRequest(
        run_key=request.run_key + (f"|{spec.source}" if among else ""),
        tags=tags,
        partition_key=only,
        asset_selection=selection,
        asset_check_keys=checks,
    )
