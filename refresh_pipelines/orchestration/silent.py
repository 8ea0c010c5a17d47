"""Steps that failed without an event of ours: what Dagster logs of them, read for all sources at once.

Dagster keeps no asset event of a failed step, so the failures of runs are read and then the steps in them. A
process that was killed leaves no failed step either: that is no trouble of the source, and is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.breaker import SILENT, Event
from refresh_pipelines.orchestration.internals import settled
from refresh_pipelines.orchestration.tags import trigger_of

# Of runs that failed before anybody looked, so many are gone through.
_FIRST, _AT_ONCE = 100, 500
_ASKED = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
}


def silent_failures(
    instance: dg.DagsterInstance, steps: Mapping[str, dg.AssetKey], cursor: int | None
) -> tuple[dict[dg.AssetKey, list[Event]], int]:
    """Return the failures without an event by asset, and how far the log has been read.

    Args:
        instance: whose log is read.
        steps: the assets by the names of their steps.
        cursor: how far it was read before; None for the newest hundred failed runs.
    """
    found: dict[dg.AssetKey, list[Event]] = {}
    records, newest = _failed_runs(instance, cursor)
    for record in records:
        for asset in _silent(instance, record.run_id, steps):
            run = instance.get_run_by_id(record.run_id)
            at = datetime.fromtimestamp(record.timestamp, timezone.utc)
            trigger = trigger_of(run.tags, asset.path[-1]) if run else "manual"
            text = "the step failed without an event; the log of its run says why"
            event = Event(record.storage_id, record.run_id, at, None, "failed", SILENT, trigger, text)
            found.setdefault(asset, []).append(event)
    return found, newest


def _failed_runs(instance: dg.DagsterInstance, cursor: int | None) -> tuple[list[dg.EventLogRecord], int]:
    if cursor is None:
        first = list(instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=_FIRST).records)
        return first, first[0].storage_id if first else 0
    out: list[dg.EventLogRecord] = []
    while True:
        after = out[-1].storage_id if out else cursor
        wanted = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=after)
        page = settled(instance, instance.fetch_run_status_changes(wanted, limit=_AT_ONCE, ascending=True).records)
        out += page
        if len(page) < _AT_ONCE:
            return out, out[-1].storage_id if out else cursor


def _silent(instance: dg.DagsterInstance, run_id: str, steps: Mapping[str, dg.AssetKey]) -> Iterator[dg.AssetKey]:
    failed: set[str] = set()
    told: set[dg.AssetKey] = set()
    for entry in instance.all_logs(run_id, of_type=_ASKED):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            failed.add(event.step_key or "")
        elif event.asset_key is not None:
            told.add(event.asset_key)
    for step in failed:
        if step in steps and steps[step] not in told:
            yield steps[step]
