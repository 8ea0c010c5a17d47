"""Dagster's view of a source's partitions. Keys are those of `window`, whatever Dagster's defaults."""

from __future__ import annotations

import dagster as dg

from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import first_period, key_format

_CRON = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 0",
    "month": "0 0 1 * *",
    "quarter": "0 0 1 1,4,7,10 *",
    "year": "0 0 1 1 *",
}


def partitions_of(spec: SourceSpec) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions definition of a source, or None if it has no partitions."""
    partitions = spec.partitions
    if partitions is None:
        return None
    if partitions.dimension:
        return dg.StaticPartitionsDefinition(list(partitions.static[partitions.dimension]))
    kind = partitions.time or "day"
    return dg.TimeWindowPartitionsDefinition(
        start=first_period(partitions),
        fmt=key_format(kind),
        cron_schedule=_CRON[kind],
        timezone="UTC",
        end_offset=partitions.end_offset,
    )
