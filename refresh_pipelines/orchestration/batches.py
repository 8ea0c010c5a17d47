"""One schedule for the sources of a batch: each tick decides for every one of them, and asks for one run for all.

The decision is the one that a source alone takes. What it asks for beside its newest partitions (what was missed) is a
run of its own, so that no member waits for another's history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.decide import Decision, Facts, Request, decide, tick_text
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.herds import member_tags, skipped_tags
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, shared_instance
from refresh_pipelines.orchestration.logged import log_requested, log_shared, log_skipped
from refresh_pipelines.orchestration.looks import batch_of, batch_schedule, reason_line
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.schedules import facts_of, make_room, run_request
from refresh_pipelines.orchestration.tags import BATCH, TICK, TRIGGER
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.spec import SourceSpec

PAUSED = "paused: `refresh resume` lets it go on"


def batches_due(specs: Sequence[SourceSpec]) -> dict[str, list[SourceSpec]]:
    """Return the sources of each batch that are due at times."""
    out: dict[str, list[SourceSpec]] = {}
    for spec in specs:
        batch = batch_of(spec)
        if batch and rhythm_of(spec):
            out.setdefault(batch, []).append(spec)
    return out


def batch_schedule_of(
    batch: str, specs: Sequence[SourceSpec], workshop: Workshop, reads: Reads
) -> dg.ScheduleDefinition:
    """Return the schedule of a batch; it runs unless somebody stops it.

    Args:
        specs: its sources, all due at the same times.
        reads: what the ticks of this process ask of the instance.
    """
    rhythm = rhythm_of(specs[0])
    if rhythm is None:
        raise ValueError(f"the sources of {batch} are not due at times")
    names = ", ".join(spec.name for spec in specs[:5]) + (f" and {len(specs) - 5} more" if len(specs) > 5 else "")
    return dg.ScheduleDefinition(
        name=batch_schedule(batch),
        cron_schedule=rhythm.cron,
        execution_timezone=rhythm.zone,
        # A job of its own cannot hold assets whose partitions differ; this one can.
        job_name=IMPLICIT_ASSET_JOB,
        execution_fn=_tick(batch, specs, workshop, reads),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes {names} at {rhythm.cron} {rhythm.zone}, in one run.",
    )


def _tick(
    batch: str, specs: Sequence[SourceSpec], workshop: Workshop, reads: Reads
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.astimezone(timezone.utc)
        now = max(workshop.clock(), at)
        instance = shared_instance(context)
        reads.note(instance, at, specs)
        paused = open_pauses(workshop.settings.data_dir)
        decisions: dict[str, Decision] = {}
        for spec in specs:
            facts = Facts(blocked=PAUSED) if spec.source in paused else None
            facts = facts or facts_of(instance, spec, workshop.settings, reads, at, now)
            decisions[spec.source] = decide(spec, at, now, facts)
            make_room(instance, decisions[spec.source], at)
        yield from _requests(batch, specs, decisions, at)

    return tick


def _requests(
    batch: str, specs: Sequence[SourceSpec], decisions: Mapping[str, Decision], at: datetime
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Yield the run for all whose newest partitions are due, then the runs of single sources, or why there are none."""
    by, due = batch_schedule(batch), [spec for spec in specs if decisions[spec.source].requests]
    left = [spec for spec in specs if not decisions[spec.source].requests]
    for spec in left:
        log_skipped(by, spec, decisions[spec.source].reason, at)
    if not due:
        yield dg.SkipReason("\n".join(reason_line(spec, decisions[spec.source].reason) for spec in left))
        return
    first = {spec.source: decisions[spec.source].requests[0] for spec in due}
    tags = {name: text for spec in left for name, text in skipped_tags(spec, decisions[spec.source].reason).items()}
    shared = _shared_request(batch, due, first, at, tags)
    log_shared(by, [(spec, first[spec.source]) for spec in due], shared.run_key, at)
    yield shared
    for spec in due:
        rest = decisions[spec.source].requests[1:]
        alone = [run_request(spec, at, one, selection=[key_of(spec)], among=True) for one in rest]
        log_requested(by, alone, at)
        yield from alone


def _shared_request(
    batch: str, due: Sequence[SourceSpec], first: Mapping[str, Request], at: datetime, more: Mapping[str, str]
) -> dg.RunRequest:
    triggers = {request.trigger for request in first.values()}
    tags = {**more, BATCH: batch, TICK: tick_text(at), TRIGGER: "schedule" if "schedule" in triggers else "catch_up"}
    for spec in due:
        tags |= member_tags(spec, first[spec.source])
    return dg.RunRequest(
        run_key=f"{tick_text(at)}|",
        tags=tags,
        asset_selection=[key_of(spec) for spec in due],
        asset_check_keys=[check for spec in due for check in own_checks(spec)],
    )
