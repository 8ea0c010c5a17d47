"""A run of one asset: each partition refreshed, reported with its own verdict, and failures told.

Partitions are independent: the good ones are materialized even when others fail, and the run then
fails naming the bad ones. A retry inside the run takes up only what was not settled before.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import dagster as dg

from refresh_pipelines.errors import InternalError, Interrupted, RefreshError
from refresh_pipelines.notices import Failure
from refresh_pipelines.orchestration.events import last_data_version, settled_partitions
from refresh_pipelines.orchestration.report import (
    key_of,
    materialization,
    metadata_of,
    observation,
    recovered_outcome,
)
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines.orchestration.tags import FORCE, run_tags, trigger_of
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.outcome import Outcome, failed
from refresh_pipelines.redact import redact
from refresh_pipelines.refresh import exclusive, refresh
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import LoadState
from refresh_pipelines.window import window_of


def execute(
    context: dg.AssetExecutionContext, spec: SourceSpec, workshop: Workshop
) -> Iterator[dg.MaterializeResult[None]]:
    """Refresh the run's partitions; the body of every source's asset.

    Raises:
        dagster.Failure: at least one partition failed; retries are allowed if one of them may pass.
    """
    yield from _Run(context, spec, workshop).execute()


class _Run:
    def __init__(self, context: dg.AssetExecutionContext, spec: SourceSpec, workshop: Workshop) -> None:
        self.context, self.spec, self.workshop = context, spec, workshop
        self.tags = dict(context.run.tags)
        self.trigger = trigger_of(self.tags)
        self.tools = workshop.tools(self._progress, self._recover)
        secret = spec.request.auth and workshop.settings.environ.get(spec.request.auth.env)
        self.secrets = [secret] if secret else []

    def execute(self) -> Iterator[dg.MaterializeResult[None]]:
        missing = {name: value for name, value in run_tags(self.spec, self.trigger).items() if name not in self.tags}
        if missing:
            self.context.instance.add_run_tags(self.context.run_id, missing)
        keys = self._keys()
        bad: list[tuple[Outcome, RefreshError]] = []
        for key in keys:
            try:
                yield from self._refresh(key, alone=len(keys) == 1)
            except RefreshError as error:
                bad.append((failed(self.spec, key, error), error))
                self.context.log.error(str(error))  # noqa: TRY400 - tracebacks go to the debug log, redacted
                if isinstance(error, Interrupted):
                    break
        if bad:
            self._fail(keys, bad)
        self._tell()

    def _keys(self) -> list[str | None]:
        if self.spec.partitions is None:
            return [None]
        done = settled_partitions(self.context) if self.context.retry_number else set()
        keys: list[str | None] = [key for key in self.context.partition_keys if key not in done]
        if not keys and not done:
            raise dg.Failure(
                f"{self.spec.name}: the run names no partition; a range must go from an earlier to a later key.",
                allow_retries=False,
            )
        return keys

    def _refresh(self, key: str | None, *, alone: bool) -> Iterator[dg.MaterializeResult[None]]:
        """Refresh one partition and report it while nobody else can refresh it."""
        with exclusive(self.spec, key, self.workshop.settings) as wait:
            outcome = self._attempt(key)
            outcome.seconds.wait += wait
            self.context.log.info(_sentence(self.spec, outcome))
            if not outcome.success:
                self.context.log_event(observation(self.spec, outcome))
            elif alone:
                # The one event of a run over one partition is its output, on which other steps may wait.
                yield dg.MaterializeResult(
                    asset_key=key_of(self.spec),
                    metadata=metadata_of(outcome),
                    data_version=dg.DataVersion(outcome.data_version),
                )
            else:
                self.context.log_event(materialization(self.spec, outcome))

    def _attempt(self, key: str | None) -> Outcome:
        try:
            return refresh(
                self.spec,
                window_of(self.spec, key),
                self.tools,
                run_id=self.context.run_id,
                trigger=self.trigger,
                force=self.tags.get(FORCE) == "true",
            )
        except RefreshError:
            self._log_traceback()
            raise
        except dg.DagsterExecutionInterruptedError:
            problem: RefreshError = Interrupted("the run was cancelled", todo="The table is as it was; run it again.")
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes a told failure, not a hidden one
            self._log_traceback()
            problem = InternalError(
                f"{type(error).__name__} in the refresh itself",
                came=redact(str(error), self.secrets),
                todo="Nothing was loaded. The debug log of this run has the traceback; please report it.",
            )
        # Outside the handlers, so that no cause with an unredacted address travels into the event log.
        raise problem.at(self.spec.name, key)

    def _fail(self, keys: list[str | None], bad: list[tuple[Outcome, RefreshError]]) -> None:
        """End the run: tell a person if this was the last try, and let Dagster retry otherwise."""
        retryable = any(error.retryable for _, error in bad)
        again = retryable and self.context.retry_number < self.spec.retry.attempts - 1
        settled = [outcome for outcome, error in bad if not (again and error.retryable)]
        for outcome in settled:
            outcome.run_id, outcome.trigger = self.context.run_id, self.trigger
            self.context.log_event(observation(self.spec, outcome))
        if not again:
            self._tell([outcome for outcome, _ in bad])
        text = "\n".join(outcome.message or "" for outcome, _ in bad)
        if len(keys) > 1:
            names = ", ".join(str(outcome.partition) for outcome, _ in bad)
            text = f"{len(bad)} of {len(keys)} partitions failed: {names}\n{text}"
        failure = dg.Failure(
            text,
            metadata={"refresh/error_class": ", ".join(sorted({error.error_class for _, error in bad}))},
            allow_retries=again,
        )
        raise failure from None

    def _tell(self, bad: list[Outcome] | None = None) -> None:
        """Write the notice of a failed run, deliver what waits, and bring status.json up to date."""
        notices = self.workshop.notices()
        if bad:
            notices.report(
                Failure(
                    self.spec.source,
                    self.context.run_id,
                    tuple(outcome.partition for outcome in bad if outcome.partition),
                    bad[0].error_class or "internal",
                    "\n".join(outcome.message or "" for outcome in bad),
                )
            )
        for problem in notices.deliver():
            self.context.log.warning(f"A notice is waiting: {problem}. It will be sent by the next run or the daemon.")
        write_status_file(self.context.instance, self.workshop.settings)

    def _recover(self, state: LoadState) -> None:
        """Emit the event of a commit whose process died before it could."""
        key = state.partition or None
        if last_data_version(self.context.instance, self.spec, key) == state.data_version:
            return
        self.context.log.warning(f"{self.spec.name}: the event of run {state.run_id} was lost; it is emitted now.")
        self.context.log_event(materialization(self.spec, recovered_outcome(self.spec, state), recovered=True))

    def _progress(self, stage: str) -> None:
        self.context.log.debug(f"{self.spec.name}: {stage}")

    def _log_traceback(self) -> None:
        self.context.log.debug(redact(traceback.format_exc(), self.secrets))


def _sentence(spec: SourceSpec, outcome: Outcome) -> str:
    where = f"{spec.name}[{outcome.partition}]" if outcome.partition else spec.name
    counts = outcome.counts
    return (
        f"{where}: {outcome.outcome}, fetched {counts.fetched}, added {counts.added}, updated {counts.updated}, "
        f"unchanged {counts.unchanged}, deleted {counts.deleted}, {outcome.seconds.total:.1f} s"
        + (f" ({outcome.message})" if outcome.message else "")
    )
