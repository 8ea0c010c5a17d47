"""Ends runs of a schedule, probes and later tries that waited in the queue longer than `schedule.expire`.

What they were to do is late by then. The run is cancelled and tagged, so that `refresh gaps` lists the tick that
asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.orchestration.herds import sources_of
from refresh_pipelines.orchestration.internals import cancel_run
from refresh_pipelines.orchestration.tags import EXPIRED, EXPIRING, TICK, TRIGGER
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.units import format_duration


def expire_runs(instance: dg.DagsterInstance, specs: Sequence[SourceSpec], now: datetime) -> list[str]:
    """Cancel the runs that waited too long and return what was cancelled, in words."""
    sources = {spec.source: spec for spec in specs}
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED], tags={TRIGGER: list(EXPIRING)})
    out = []
    for record in instance.get_run_records(filters, ascending=True):
        run = record.dagster_run
        # All sources of a batch allow the same time.
        spec = next(filter(None, map(sources.get, sources_of(run.tags))), None)
        if spec is None or spec.schedule is None or now - record.create_timestamp <= spec.schedule.expire:
            continue
        why = f"queued longer than schedule.expire {format_duration(spec.schedule.expire)} allows"
        current = instance.get_run_by_id(run.run_id)
        if current is None or current.status is not dg.DagsterRunStatus.QUEUED:
            continue  # it began in the meantime
        if cancel_run(instance, run.run_id, f"{spec.name}: {why}"):
            instance.add_run_tags(run.run_id, {EXPIRED: now.isoformat(timespec="seconds")})
            _log_expired(spec, run, why)
            out.append(f"run {run.run_id[:8]} of {spec.name}, tick {run.tags.get(TICK, 'unknown')}, {why}")
    return out


def _log_expired(spec: SourceSpec, run: dg.DagsterRun, why: str) -> None:
    text, tags = f"{spec.name}: {why}", run.tags
    log.event(
        "run.expired",
        text,
        source=spec.source,
        group=spec.group,
        run_id=run.run_id,
        trigger=tags.get(TRIGGER),
        due_at=tags.get(TICK),
    )
