"""One schedule per enabled source: each tick requests one run over what is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def schedule_name(spec: SourceSpec) -> str:
    """Return the name of a source's schedule."""
    return f"{spec.source}_schedule"


def source_schedule(spec: SourceSpec, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule of an enabled source; it runs unless somebody stops it."""
    if spec.schedule is None:
        raise ValueError(f"{spec.name} has no schedule")
    cron = cron_of(spec.schedule, spec.source)
    return dg.ScheduleDefinition(
        name=schedule_name(spec),
        cron_schedule=cron,
        execution_timezone=spec.schedule.timezone,
        target=dg.AssetSelection.assets(key_of(spec)),
        execution_fn=_tick(spec, settings),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes {spec.name} at {cron} {spec.schedule.timezone}.",
    )


def _tick(
    spec: SourceSpec, settings: Settings
) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]:
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time.astimezone(timezone.utc)
        variable = missing_key(spec, settings)
        if variable:
            return dg.SkipReason(f"blocked: set {variable} in the environment or in .env, then reload")
        keys = due_keys(spec, at)
        if spec.partitions and not keys:
            return dg.SkipReason(f"no partition is due: the first one begins at {spec.partitions.start}")
        return request_for(spec, keys, at)

    return tick


def request_for(spec: SourceSpec, keys: list[str], at: datetime) -> dg.RunRequest:
    """Return the one run of a tick: a single partition, or the whole range of what is due."""
    tags = run_tags(spec, "schedule")
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    run_key = f"{stamp}|{keys[-1] if keys else ''}"
    if len(keys) > 1:
        return dg.RunRequest(run_key=run_key, tags={**tags, **range_tags(keys)})
    return dg.RunRequest(run_key=run_key, tags=tags, partition_key=keys[0] if keys else None)


def range_tags(keys: list[str]) -> dict[str, str]:
    """Return the tags that make a run cover the partitions from the first key to the last."""
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}
