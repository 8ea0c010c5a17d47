"""An event that was lost between a commit and its report, because the process died there: emitted by the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.orchestration.events import last_data_version
from refresh_pipelines.orchestration.report import materialization, recovered_outcome
from refresh_pipelines.orchestration.tags import trigger_of
from refresh_pipelines.spec import SourceSpec

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.warehouse import LoadState


def recover(context: dg.AssetExecutionContext, spec: SourceSpec, state: LoadState) -> None:
    """Emit the event of the commit that a load state is of, unless the newest event says the same."""
    key = state.partition or None
    if last_data_version(context.instance, spec, key) == state.data_version:
        return
    text = f"{spec.name}: the event of run {state.run_id} was lost; it is emitted now."
    context.log.warning(text)
    log.event("refresh.recovered", text, partition=key, lost_run_id=state.run_id)
    run = context.instance.get_run_by_id(state.run_id)
    outcome = recovered_outcome(spec, state, trigger_of(run.tags if run else {}, spec.source))
    context.log_event(materialization(spec, outcome, recovered=True))
