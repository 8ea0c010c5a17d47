"""Questions to the event log about one source. The log is the only copy of what happened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.orchestration.former import CARRIED, former_keys
from refresh_pipelines.orchestration.report import DATA_VERSION_TAG, key_of, outcome_from, plain
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.spec import SourceSpec


def last_data_version(instance: dg.DagsterInstance, spec: SourceSpec, partition: str | None) -> str | None:
    """Return the data version of the newest materialization of a partition, None if there is none."""
    wanted = dg.AssetRecordsFilter(asset_key=key_of(spec), asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    event = records[0].asset_materialization if records else None
    return (event.tags or {}).get(DATA_VERSION_TAG) if event else None


def last_asked_at(instance: dg.DagsterInstance, spec: SourceSpec, partition: str | None) -> datetime | None:
    """Return when the upstream was last asked for a partition with success, as its newest materialization says."""
    wanted = dg.AssetRecordsFilter(asset_key=key_of(spec), asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    event = records[0].asset_materialization if records else None
    if event is None:
        return None
    values = plain(event.metadata)
    said = values.get("refresh/asked_at") or values.get("refresh/checked_at")
    return datetime.fromisoformat(said) if said else datetime.fromtimestamp(records[0].timestamp, timezone.utc)


def succeeded(instance: dg.DagsterInstance, spec: SourceSpec) -> set[str]:
    """Return the partitions that a refresh of the source, also under an old name, ever ended well for."""
    keys = (key_of(spec), *former_keys(spec))
    return {partition for key in keys for partition in instance.get_materialized_partitions(key)}


def history(instance: dg.DagsterInstance, spec: SourceSpec, limit: int, partition: str | None = None) -> list[Outcome]:
    """Return the newest outcomes of a source, newest first, also those under its old names."""
    found: list[tuple[float, int, Outcome]] = []
    for record in _records(instance, spec, limit, partition):
        event = record.asset_materialization or record.asset_observation
        if event and CARRIED not in event.metadata:
            values = plain(event.metadata)
            outcome = outcome_from(spec.group, spec.source, event.partition, record.run_id, values)
            found.append((record.timestamp, record.storage_id, outcome))
    return [outcome for _, _, outcome in sorted(found, key=lambda item: item[:2], reverse=True)[:limit]]


def _records(
    instance: dg.DagsterInstance, spec: SourceSpec, limit: int, partition: str | None
) -> Iterator[dg.EventLogRecord]:
    """Yield the newest materializations and observations of each key a source has or had."""
    for key in (key_of(spec), *former_keys(spec)):
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
        yield from instance.fetch_materializations(wanted, limit=limit).records
        yield from instance.fetch_observations(wanted, limit=limit).records


def outcomes_of_run(instance: dg.DagsterInstance, spec: SourceSpec, run_id: str) -> list[Outcome]:
    """Return what one run reported for a source, in order; recovered events of other runs are left out."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}
    out = []
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None or event.asset_key != key_of(spec):
            continue
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            metadata = event.step_materialization_data.materialization.metadata
        else:
            metadata = event.asset_observation_data.asset_observation.metadata
        if "refresh/recovered" not in metadata:
            out.append(outcome_from(spec.group, spec.source, event.partition, run_id, plain(metadata)))
    return out
