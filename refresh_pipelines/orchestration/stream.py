"""Events of all assets as one stream: each is read once, however many sources there are.

The public API of Dagster asks for one asset at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import dagster as dg

from refresh_pipelines.orchestration.internals import settled

AssetEvent = Literal["materialization", "observation"]
_ASSET_EVENTS = {
    "materialization": dg.DagsterEventType.ASSET_MATERIALIZATION,
    "observation": dg.DagsterEventType.ASSET_OBSERVATION,
}


def asset_events(
    instance: dg.DagsterInstance, kind: AssetEvent, after: int, limit: int, since: datetime | None = None
) -> Sequence[dg.EventLogRecord]:
    """Return the events of one kind of all assets after a storage id, oldest first.

    Args:
        since: leave out what was logged before this instant.
    """
    earliest = since.timestamp() if since else None
    wanted = dg.EventRecordsFilter(_ASSET_EVENTS[kind], after_cursor=after, after_timestamp=earliest)
    return settled(instance, instance.event_log_storage.get_event_records(wanted, limit=limit, ascending=True))


def newest_asset_event(instance: dg.DagsterInstance, kind: AssetEvent) -> int:
    """Return the storage id of the newest event of one kind of all assets, 0 if there is none."""
    newest = instance.event_log_storage.get_event_records(dg.EventRecordsFilter(_ASSET_EVENTS[kind]), limit=1)
    return newest[0].storage_id if newest else 0
