"""More of `internals`: what the service needs of Dagster behind its public API, and no run or tick does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import create_execution_plan
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.snap import snapshot_from_execution_plan

from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, remote_origin, settled


def asset_events_since(
    instance: dg.DagsterInstance, kind: dg.DagsterEventType, cursor: int | None, most: int
) -> tuple[list[dg.EventLogRecord], int]:
    """Return at most so many asset events of a kind after a storage id, oldest first, and the id that was reached.

    None asks for the newest id alone. The public API asks for one asset at a time.
    """
    storage = instance.event_log_storage
    if cursor is None:
        newest = storage.get_event_records(dg.EventRecordsFilter(kind), limit=1)
        return [], newest[0].storage_id if newest else 0
    wanted = dg.EventRecordsFilter(kind, after_cursor=cursor)
    records = list(settled(instance, storage.get_event_records(wanted, limit=most, ascending=True)))
    return records, records[-1].storage_id if records else cursor


def queue_asset_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    assets: Sequence[dg.AssetKey],
    checks: Sequence[dg.AssetCheckKey],
    tags: Mapping[str, str],
) -> str:
    """Put a run of the implicit asset job into the queue, from which the daemon launches it; return its id.

    The public `instance.submit_run` does the same for somebody who holds a connection to the code location, which
    a process that only answers questions does not. Left to Dagster, an asset's every check would be part of the run.

    Raises:
        RuntimeError: this instance launches runs at once and has no queue.
    """
    if not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        raise RuntimeError(type(instance.run_coordinator).__name__)  # noqa: TRY004 - the instance is what it is
    subset = job.get_subset(asset_selection=frozenset(assets), asset_check_selection=frozenset(checks))
    plan = create_execution_plan(job=subset, tags=tags, instance_ref=instance.get_ref())
    run = instance.create_run(
        job_name=IMPLICIT_ASSET_JOB,
        run_id=None,
        run_config=None,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags=tags,
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=snapshot_from_execution_plan(plan, subset.get_job_snapshot_id()),
        job_snapshot=subset.get_job_snapshot(),
        parent_job_snapshot=subset.get_parent_job_snapshot(),
        asset_selection=frozenset(assets),
        asset_check_selection=frozenset(checks),
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=remote_origin(),
        job_code_origin=None,
        asset_graph=subset.asset_layer.asset_graph,
    )
    instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)
    return run.run_id
