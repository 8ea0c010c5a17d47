"""Sources that had another name: their history goes on, and what was loaded counts as materialized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.report import DATA_VERSION_TAG, key_of, metadata_of, recovered_outcome
from refresh_pipelines.orchestration.tags import trigger_of
from refresh_pipelines.spec import SourceSpec

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.warehouse import LoadState, Warehouse

# Marks an event that repeats one of the asset's old key; history shows that one.
CARRIED = "refresh/carried_from"


def former_keys(spec: SourceSpec) -> list[dg.AssetKey]:
    """Return the asset keys a source had under its aliases; one without a group was in the same group."""
    parts = [alias.rpartition("/") for alias in spec.aliases]
    keys = (dg.AssetKey([group or spec.group, stem]) for group, _, stem in parts)
    return [key for key in dict.fromkeys(keys) if key != key_of(spec)]


def carry_over_events(context: dg.AssetExecutionContext, spec: SourceSpec, warehouse: Warehouse) -> None:
    """Log a materialization, from load state, of each partition that has one only under an old name.

    Without it every partition of a renamed source would look as if it had never been loaded. Safe to
    repeat: what a killed run has not logged, the next one does.
    """
    missing = _missing(context.instance, spec)
    if not missing:
        return
    try:
        warehouse.adopt(spec)
        states, _ = warehouse.states(spec.source, spec.raw_table)
    except RefreshError as error:
        # The refresh itself will meet the same trouble, and tell it.
        context.log.warning(f"{spec.name}: what was loaded under its old name is not carried over yet: {error}")
        return
    for state in sorted(states.values(), key=lambda state: state.committed_at):
        if (state.partition or None) in missing:
            context.log_event(_event(context.instance, spec, state))


def _missing(instance: dg.DagsterInstance, spec: SourceSpec) -> set[str | None]:
    """Return the partitions (None: the source without any) materialized under old names alone."""
    old: set[str | None] = set()
    for key in former_keys(spec):
        old |= _materialized(instance, key)
    return old - _materialized(instance, key_of(spec)) if old else old


def _materialized(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str | None]:
    found: set[str | None] = {*instance.get_materialized_partitions(key)}
    if not found and instance.get_latest_materialization_event(key):
        found.add(None)
    return found


def _event(instance: dg.DagsterInstance, spec: SourceSpec, state: LoadState) -> dg.AssetMaterialization:
    run = instance.get_run_by_id(state.run_id)
    outcome = recovered_outcome(spec, state, trigger_of(run.tags if run else {}, spec.source))
    names = ", ".join(key.to_user_string() for key in former_keys(spec))
    outcome.notes = [f"loaded by run {state.run_id} when the source was called {names}"]
    return dg.AssetMaterialization(
        key_of(spec),
        partition=outcome.partition,
        metadata={**metadata_of(outcome, recovered=True), CARRIED: names},
        tags={DATA_VERSION_TAG: outcome.data_version},
    )
