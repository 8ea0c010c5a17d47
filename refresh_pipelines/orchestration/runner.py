"""`refresh run`: runs like any other, executed in this process.

The job is the implicit asset job of definitions that hold only what is asked for, reached through a
reconstructable pointer, so the UI shows it with its code origin, selection, partitions and tags.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import dagster as dg

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.gates import Closed
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.events import outcomes_of_run
from refresh_pipelines.orchestration.gates import gate_by_hand
from refresh_pipelines.orchestration.internals import execute_asset_run
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.server import recorded
from refresh_pipelines.orchestration.stuck import settle
from refresh_pipelines.orchestration.tags import FORCE, MAX_RETRIES, REPLAY, range_tags, run_tags
from refresh_pipelines.orchestration.trouble import told
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.worker import Worker, at_work


@dataclass(frozen=True)
class Order:
    """One run to make: a source and a contiguous range of its partitions (none: no partitions).

    With an outcome `instead` there is nothing to run, and that is what is said of it.

    Attributes:
        trigger: why it is made, as `refresh/trigger` says it.
        tags: of the run, beside those that every run has.
    """

    spec: SourceSpec
    keys: tuple[str, ...] = ()
    instead: Outcome | None = None
    trigger: str = "manual"
    tags: Mapping[str, str] = field(default_factory=dict)


def repository(source: str) -> dg.RepositoryDefinition:
    """Return the definitions of one source; what `run_order` points Dagster at."""
    return build_definitions(Settings.load(), only=[source]).get_repository_def()


def run_order(
    instance: dg.DagsterInstance, order: Order, settings: Settings, *, force: bool = False, verbose: bool = False
) -> list[Outcome]:
    """Execute one run and return its outcomes, one per partition.

    A missing credential, or an input that was never loaded, ends it as `blocked` before any run exists.

    Raises:
        InternalError: the run could not be recorded.

    Args:
        instance: where the run and its events are written.
        order: what to refresh.
        settings: where everything is.
        force: ask and read anew even if nothing seems to have changed.
        verbose: show Dagster's log on the console; the event log has it in any case.
    """
    spec = order.spec
    variable = missing_key(spec, settings)
    if variable and REPLAY not in order.tags:  # nobody is asked
        message = f"{spec.name}: set {variable} in the environment or in .env"
        keys: Sequence[str | None] = order.keys or (None,)
        return [
            Outcome(spec.source, spec.group, key, "blocked", message=message, trigger=order.trigger) for key in keys
        ]
    closed = _never_loaded(instance, spec, settings)
    if closed:
        message = f"{spec.name}: {closed}"
        return [Outcome(spec.source, spec.group, None, "blocked", message=message, trigger=order.trigger)]
    with told(settings, "Dagster's history", f"The refresh of {spec.name} may have been made and not recorded."):
        settle(instance, settings, kill=True)
        run_id = str(uuid.uuid4())
        with at_work(settings.data_dir, run_id) as worker, recorded(worker):
            _execute(instance, order, run_id, settings, force=force, verbose=verbose)
            return _complete(instance, order, run_id, worker)


def _never_loaded(instance: dg.DagsterInstance, spec: SourceSpec, settings: Settings) -> str:
    """Say which input of a derived source was never loaded, "" if none: what is only late does not stop a person."""
    if not spec.derived:
        return ""
    gate = gate_by_hand(instance, spec, settings, datetime.now(timezone.utc))
    return gate.reason if isinstance(gate, Closed) and gate.never else ""


def _execute(
    instance: dg.DagsterInstance, order: Order, run_id: str, settings: Settings, *, force: bool, verbose: bool
) -> None:
    spec = order.spec
    execute_asset_run(
        instance,
        ("refresh_pipelines.orchestration.runner", "repository", (spec.source,)),
        tags={
            **run_tags(spec, order.trigger),
            # Whoever called the command sees that it was killed; the daemon has no part in it.
            MAX_RETRIES: "0",
            **order.tags,
            **_partition_tags(order),
            **({FORCE: "true"} if force else {}),
        },
        assets=[key_of(spec)],
        run_config=None if verbose else {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        run_id=run_id,
        settings=settings,
    )


def _partition_tags(order: Order) -> dict[str, str]:
    if len(order.keys) > 1:
        return range_tags(list(order.keys))
    return {"dagster/partition": order.keys[0]} if order.keys else {}


def _complete(instance: dg.DagsterInstance, order: Order, run_id: str, worker: Worker) -> list[Outcome]:
    """Return the run's outcomes; a partition without one failed before it could report."""
    spec = order.spec
    outcomes = outcomes_of_run(instance, spec, run_id)
    known = {outcome.partition for outcome in outcomes}
    run = instance.get_run_by_id(run_id)
    if run is not None and run.is_success:
        return outcomes
    if run is not None and not run.is_finished:
        worker.cannot_tell()
    missing: Sequence[str | None] = order.keys or (None,)
    text = f"{spec.name}: run {run_id[:8]} ended without a verdict; `dagster dev` shows its log."
    return outcomes + [
        Outcome(spec.source, spec.group, key, "failed", error_class="internal", message=text, run_id=run_id)
        for key in missing
        if key not in known
    ]
