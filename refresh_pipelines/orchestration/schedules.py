"""One schedule per enabled source: each tick requests one run over what is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys

# Above this many sources a job for each costs the daemon and the UI more than ten seconds at every load.
MOST_OWN_TARGETS = 300
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def schedule_name(spec: SourceSpec) -> str:
    """Return the name of a source's schedule."""
    return f"{spec.source}_schedule"


def source_schedule(spec: SourceSpec, settings: Settings, *, shared: bool = False) -> dg.ScheduleDefinition:
    """Return the schedule of an enabled source; it runs unless somebody stops it.

    Args:
        shared: target the job that Dagster has for all assets, and name the asset in each request,
            in place of a job of the source's own, which the asset's page would show.
    """
    if spec.schedule is None:
        raise ValueError(f"{spec.name} has no schedule")
    cron = cron_of(spec.schedule, spec.source)
    return dg.ScheduleDefinition(
        name=schedule_name(spec),
        cron_schedule=cron,
        execution_timezone=spec.schedule.timezone,
        job_name=IMPLICIT_ASSET_JOB if shared else None,
        target=None if shared else dg.AssetSelection.assets(key_of(spec)),
        execution_fn=_tick(spec, settings, shared=shared),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes {spec.name} at {cron} {spec.schedule.timezone}.",
    )


def _tick(
    spec: SourceSpec, settings: Settings, *, shared: bool
) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]:
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time.astimezone(timezone.utc)
        variable = missing_key(spec, settings)
        if variable:
            return dg.SkipReason(f"blocked: set {variable} in the environment or in .env, then reload")
        keys = due_keys(spec, at)
        if spec.partitions and not keys:
            return dg.SkipReason(f"no partition is due: the first one begins at {spec.partitions.start}")
        return request_for(spec, keys, at, selection=[key_of(spec)] if shared else None)

    return tick


def request_for(
    spec: SourceSpec, keys: list[str], at: datetime, *, selection: list[dg.AssetKey] | None = None
) -> dg.RunRequest:
    """Return the one run of a tick: a single partition, or the whole range of what is due.

    Args:
        selection: the source's asset, where the schedule's job holds others too.
    """
    tags = run_tags(spec, "schedule")
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    run_key = f"{stamp}|{keys[-1] if keys else ''}"
    if len(keys) > 1:
        return dg.RunRequest(run_key=run_key, tags={**tags, **range_tags(keys)}, asset_selection=selection)
    only = keys[0] if keys else None
    return dg.RunRequest(run_key=run_key, tags=tags, partition_key=only, asset_selection=selection)


def range_tags(keys: list[str]) -> dict[str, str]:
    """Return the tags that make a run cover the partitions from the first key to the last."""
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}
