"""A run that makes a table anew from the archive: one transaction, and an event for each partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from refresh_pipelines.errors import Interrupted
from refresh_pipelines.orchestration import logged
from refresh_pipelines.orchestration.events import last_asked_at
from refresh_pipelines.orchestration.report import Result, key_of, materialization, metadata_of
from refresh_pipelines.orchestration.tags import REPLAY, trigger_of
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.refresh import Tools
from refresh_pipelines.replay import rebuild
from refresh_pipelines.spec import SourceSpec

LOSSY = "lossy"
REBUILDS = ("rebuild", LOSSY)
Attempt = Callable[[Callable[[], list[Outcome]]], list[Outcome]]


def rebuilt(
    context: dg.AssetExecutionContext, spec: SourceSpec, tools: Tools, keys: Sequence[str | None], attempt: Attempt
) -> Iterator[Result]:
    """Rebuild a source and report each partition.

    Args:
        attempt: calls what it is given, and has whatever goes wrong told as an error of ours.

    Raises:
        RefreshError: nothing has changed.
    """
    tags, run_id = context.run.tags, context.run_id
    lossy, trigger = tags.get(REPLAY) == LOSSY, trigger_of(tags)
    stopped: Interrupted | None = None
    outcomes: list[Outcome] = []
    try:
        outcomes = attempt(lambda: rebuild(spec, tools, run_id=run_id, trigger=trigger, lossy=lossy))
    except dg.DagsterExecutionInterruptedError:
        stopped = Interrupted("the run was cancelled", todo="No half of a load remains; run it again.")
    for outcome in outcomes:
        outcome.asked_at = last_asked_at(context.instance, spec, outcome.partition)
        if len(keys) == 1:
            version = dg.DataVersion(outcome.data_version)
            yield dg.MaterializeResult(asset_key=key_of(spec), metadata=metadata_of(outcome), data_version=version)
        else:
            context.log_event(materialization(spec, outcome))
        logged.log_ended(outcome, logged.sentence_of(spec, outcome), 1)
    if stopped:
        raise stopped.at(spec.name, None)
