"""One schedule per enabled source: each tick requests one run over what is due.

Under `partitions.initial: all` it also requests what was never loaded, a piece at each tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.orchestration.events import succeeded
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import SOURCE, run_tags
from refresh_pipelines.ranges import runs_of
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import due_keys, partition_keys, split_key

# Above this many sources a job for each costs the daemon and the UI more than ten seconds at every load.
MOST_OWN_TARGETS = 300
# So many periods of history at one tick: a host is not asked for decades at once.
HISTORY = 31
_REMEMBERED = 1000
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
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
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    selection = [key_of(spec)] if shared else None

    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time.astimezone(timezone.utc)
        variable = missing_key(spec, settings)
        if variable:
            yield dg.SkipReason(f"blocked: set {variable} in the environment or in .env, then reload")
            return
        # Only where it is needed: opening the instance costs more than all the rest of a tick.
        dynamic = dynamic_keys(context.instance, spec) if spec.partitions and spec.partitions.dynamic else ()
        keys = due_keys(spec, at, dynamic)
        if spec.partitions and not keys:
            yield dg.SkipReason(_nothing_due(spec))
            return
        past = _history(context.instance, spec, keys, at) if _loads_history(spec) else []
        for run in (keys, *past):
            yield request_for(spec, run, at, selection=selection)

    return tick


def _nothing_due(spec: SourceSpec) -> str:
    if spec.partitions and spec.partitions.dynamic:
        return f"no partition is known: `refresh run {spec.source} --partition KEY` adds one"
    return f"no partition is due: the first one begins at {spec.partitions and spec.partitions.start}"


def _loads_history(spec: SourceSpec) -> bool:
    return bool(spec.partitions and spec.partitions.time and spec.partitions.initial == "all")


def _history(instance: dg.DagsterInstance, spec: SourceSpec, due: list[str], at: datetime) -> list[list[str]]:
    """Return runs of what was never loaded, at most `HISTORY` periods; none while a run of the source is under way."""
    running = dg.RunsFilter(tags={SOURCE: spec.source}, statuses=_UNDER_WAY)
    if instance.get_runs_count(running):
        return []
    keys = partition_keys(spec, at)
    wanted = set(keys) - succeeded(instance, spec) - set(due)
    periods = set(_least_tried(instance, spec, {split_key(key)[0] for key in wanted})[:HISTORY])
    return [list(run) for run in runs_of(spec, {key for key in wanted if split_key(key)[0] in periods}, keys)]


def _least_tried(instance: dg.DagsterInstance, spec: SourceSpec, periods: set[str]) -> list[str]:
    """Sort periods, oldest first, those that were refused behind the others: they may not exist upstream."""
    refused = instance.fetch_observations(dg.AssetRecordsFilter(key_of(spec)), limit=_REMEMBERED).records
    since: dict[str, int] = {}
    for rank, record in enumerate(refused):
        since.setdefault(split_key(record.partition_key or "")[0], rank)
    return sorted(periods, key=lambda period: (-since.get(period, _REMEMBERED), period))


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
