"""Dagster's view of a source's partitions. Keys are those of `window`, whatever Dagster's defaults."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from refresh_pipelines.spec import Partitions, SourceSpec
from refresh_pipelines.window import first_period, key_format

_CRON = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 0",
    "month": "0 0 1 * *",
    "quarter": "0 0 1 1,4,7,10 *",
    "year": "0 0 1 1 *",
}
# Dagster orders the dimensions of a key by name; `p_` keeps the other one behind the date.
TIME, OTHER = "date", "p_"


def partitions_of(spec: SourceSpec) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions definition of a source, or None if it has no partitions."""
    partitions = spec.partitions
    if partitions is None:
        return None
    if partitions.dynamic:
        return dg.DynamicPartitionsDefinition(name=dynamic_name(spec))
    static = partitions.static.get(partitions.dimension or "")
    if partitions.time is None:
        return dg.StaticPartitionsDefinition(list(static or ()))
    if static is None:
        return _periods(partitions)
    dimensions = {TIME: _periods(partitions), OTHER + str(partitions.dimension): dg.StaticPartitionsDefinition(static)}
    return dg.MultiPartitionsDefinition(dimensions)


def _periods(partitions: Partitions) -> dg.TimeWindowPartitionsDefinition:
    kind = partitions.time or "day"
    return dg.TimeWindowPartitionsDefinition(
        start=first_period(partitions),
        fmt=key_format(kind),
        cron_schedule=_CRON[kind],
        timezone="UTC",
        end_offset=partitions.end_offset,
    )


def dynamic_name(spec: SourceSpec) -> str:
    """Return the name of a source's dynamic keys in the instance: two sources do not share theirs."""
    dynamic = spec.partitions.dynamic if spec.partitions else None
    return f"{spec.source}_{dynamic}"


def dynamic_keys(instance: dg.DagsterInstance, spec: SourceSpec) -> Sequence[str]:
    """Return the keys that were added to a source's dynamic dimension, in that order; [] without one."""
    if spec.partitions is None or spec.partitions.dynamic is None:
        return []
    return instance.get_dynamic_partitions(dynamic_name(spec))


def keys_of(context: dg.AssetExecutionContext, spec: SourceSpec) -> list[str | None]:
    """Return the partitions of a run; one None for a source without any.

    Raises:
        dagster.Failure: the run names none.
    """
    if spec.partitions is None:
        return [None]
    if not context.partition_keys:
        raise dg.Failure(
            f"{spec.name}: the run names no partition; a range must go from an earlier to a later key.",
            allow_retries=False,
        )
    return [str(key) for key in context.partition_keys]
