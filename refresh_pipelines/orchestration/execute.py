"""A run of one asset: each partition refreshed, reported with its own verdict, and failures told.

Partitions are independent: the good ones are materialized even when others fail, and the run then
fails naming the bad ones. A retry inside the run takes up only what was not settled before.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeVar

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.errors import ContractViolation, InternalError, Interrupted, RefreshError
from refresh_pipelines.exclusive import exclusive, exclusive_all
from refresh_pipelines.fetch import NotHere
from refresh_pipelines.later import pause_inside
from refresh_pipelines.limit import AFTER, FETCH, QUERY, Limit
from refresh_pipelines.orchestration import logged
from refresh_pipelines.orchestration.events import last_asked_at, outcomes_of_run
from refresh_pipelines.orchestration.former import carry_over_events
from refresh_pipelines.orchestration.gates import Ready, ready
from refresh_pipelines.orchestration.herds import has_output, is_shared, keys_of_run
from refresh_pipelines.orchestration.incidents import not_cancelled
from refresh_pipelines.orchestration.internals import many_events
from refresh_pipelines.orchestration.limited import allow, limited
from refresh_pipelines.orchestration.recovering import recover
from refresh_pipelines.orchestration.replaying import REBUILDS, rebuilt
from refresh_pipelines.orchestration.report import (
    Result,
    failure_of,
    key_of,
    materialization,
    metadata_of,
    observation,
)
from refresh_pipelines.orchestration.server import recorded
from refresh_pipelines.orchestration.tags import FORCE, REPLAY, run_tags, trigger_of
from refresh_pipelines.orchestration.telling import tell
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.orchestration.verdicts import accept_of, checks_of_run, plausible
from refresh_pipelines.outcome import Outcome, failed
from refresh_pipelines.proxy import proxy_secrets
from refresh_pipelines.ranges import spans
from refresh_pipelines.rate import host_rates
from refresh_pipelines.redact import redact
from refresh_pipelines.refresh import refresh
from refresh_pipelines.refresh_range import label_of, refresh_range
from refresh_pipelines.replay import replay
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import window_of
from refresh_pipelines.worker import Worker, at_work

Done = TypeVar("Done")


def execute(
    context: dg.AssetExecutionContext, spec: SourceSpec, workshop: Workshop, sources: Mapping[str, SourceSpec]
) -> Iterator[Result]:
    """Refresh the run's partitions; the body of every source's asset.

    Args:
        sources: the catalogue's sources, by stem, for one that is derived from some of them.

    Raises:
        dagster.Failure: at least one partition failed; retries are allowed if one of them may pass.
    """
    try:
        working = at_work(workshop.settings.data_dir, context.run_id, to_the_end=True)
        held = many_events(context.instance, context.run_id, workshop.settings)
        with held, logged.about_run(context.run, spec), working as worker, recorded(worker):
            yield from _Run(context, spec, workshop, sources, worker).execute()
    except dg.DagsterExecutionInterruptedError:
        # A second signal, while the first one is being told. Dagster would take it for a reason to retry.
        stopped = dg.Failure(f"{spec.name}: the run was cancelled.", allow_retries=False)
    else:
        return
    raise stopped


class _Run:
    def __init__(
        self,
        context: dg.AssetExecutionContext,
        spec: SourceSpec,
        workshop: Workshop,
        sources: Mapping[str, SourceSpec],
        worker: Worker,
    ) -> None:
        self.context, self.spec, self.workshop, self.sources = context, spec, workshop, sources
        self.worker, self.limit = worker, Limit(spec.time_limit.total_seconds())
        self.ready: Ready | None = None
        self.tags = dict(context.run.tags)
        self.trigger, self.forced = trigger_of(self.tags, spec.source), self.tags.get(FORCE) == "true"
        self.tools = workshop.tools(self._progress, partial(recover, context, spec))
        self.tools.fetcher.pace.join(host_rates(sources.values()), context.log.warning)
        self.attempt = context.retry_number + 1
        self.last_try = self.attempt >= spec.retry.attempts
        self.bad: list[tuple[Outcome, RefreshError]] = []
        self.said: set[str] = set()
        self.traces: dict[int, str] = {}  # of errors that must not carry their cause into the event log
        self.partial: list[Outcome] = []
        self.apart: list[str] = []  # what the sources of a reconciled table do not agree on
        self.held: list[Outcome] = []  # those that wait because they are a surprise
        self.stopped = False
        secret = spec.request.auth and workshop.settings.environ.get(spec.request.auth.env)
        self.secrets = [*([secret] if secret else []), *proxy_secrets(workshop.settings.environ)]

    def execute(self) -> Iterator[Result]:
        missing = {name: value for name, value in run_tags(self.spec, self.trigger).items() if name not in self.tags}
        if missing and not is_shared(self.tags):
            self.context.instance.add_run_tags(self.context.run_id, missing)
        carry_over_events(self.context, self.spec, self.tools.warehouse)
        keys = keys_of_run(self.context, self.spec)
        self._refuse_without_credential(keys)
        if self.tags.get(REPLAY) in REBUILDS:
            yield from self._rebuild(keys)
            return
        self._look_at_inputs(keys)
        settled = self._settled()
        self.partial += [outcome for outcome in settled.values() if outcome.outcome == "partial"]
        groups = self._groups([key for key in keys if key not in settled])
        allow(self.context.instance, self.context.run_id, len(groups) * self.spec.time_limit)
        for group in groups:
            if not (len(group) > 1 and self._together(group)):
                for key in group:
                    yield from self._refresh_alone(key, only=has_output(self.spec, keys, self.tags))
                    if self.stopped:
                        break
            if self.stopped:
                break
        before = [outcome for outcome in settled.values() if outcome.outcome == "failed"]
        self.held += [outcome for outcome in settled.values() if outcome.outcome == "quarantined"]
        if self.held:
            yield plausible(self.spec, self.workshop.settings, self.held)
        if self.bad or before or self.held:
            self._fail(keys, before)
        yield from checks_of_run(self.spec, self.workshop.settings, self.partial, self.held, self.apart)
        self._tell(self.partial)

    def _groups(self, keys: Sequence[str | None]) -> list[list[str | None]]:
        """Divide the partitions into what one request each may serve."""
        windows = [window_of(self.spec, key) for key in keys]
        if REPLAY in self.tags:
            return [[key] for key in keys]
        return [[window.partition for window in group] for group in spans(self.spec, windows)]

    def _together(self, keys: Sequence[str | None]) -> bool:
        with log.bound(partition=label_of(keys)):
            log.event("refresh.started", attempt=self.attempt, partitions=len(keys))
            return self._refresh_together(keys)

    def _refresh_together(self, keys: Sequence[str | None]) -> bool:
        """Refresh neighbouring partitions with one request; False if each must be looked at by itself."""
        started, reported = self._now(), set()
        problem: RefreshError
        try:
            alone = exclusive_all(self.spec, keys, self.workshop.settings)
            with limited(self.spec, keys, started, self.worker) as self.limit, alone as wait:
                self.limit.enter(FETCH)
                results = self._attempt(label_of(keys), lambda: self._many(keys))
                self.limit.stop()
                self.context.log.info(logged.range_sentence(self.spec, keys, results, wait))
                for key, result in zip(keys, results, strict=True):
                    reported.add(key)
                    self._report(key, result, started)
        except (ContractViolation, NotHere) as error:
            text = f"{error} Each of these partitions is now refreshed by itself."
            self.context.log.warning(text)
            log.event("refresh.divided", text, error_class=error.error_class, partitions=len(keys))
            return False
        except RefreshError as error:
            problem = error
        except dg.DagsterExecutionInterruptedError:
            problem = self._cancelled(label_of(keys))
        else:
            return True
        for key in keys:
            if key not in reported:
                self._remember_failure(key, problem, started)
        return True

    def _report(self, key: str | None, result: Outcome | RefreshError, started: str) -> None:
        """Say what became of one partition of several that one request served."""
        if isinstance(result, RefreshError):
            self._remember_failure(key, result, started)
            return
        self.partial += [result] if result.outcome == "partial" else []
        self.context.log_event(materialization(self.spec, result))
        logged.log_ended(result, logged.sentence_of(self.spec, result), self.attempt)

    def _refresh_alone(self, key: str | None, *, only: bool) -> Iterator[Result]:
        started = self._now()
        with log.bound(partition=key):
            log.event("refresh.started", attempt=self.attempt)
            try:
                yield from self._refresh(key, started, alone=only)
            except RefreshError as error:
                self._remember_failure(key, error, started)

    def _remember_failure(self, key: str | None, error: RefreshError, started: str) -> None:
        if str(error) not in self.said:
            self.said.add(str(error))
            self.context.log.error(str(error))  # tracebacks go to the debug log, redacted
        self.bad.append((self._failed(key, error, started), error))
        self.stopped = self.stopped or error.stops

    def _now(self) -> str:
        return self.tools.clock().isoformat(timespec="seconds")

    def _refuse_without_credential(self, keys: list[str | None]) -> None:
        """End a run that somebody launched by hand although a key is missing; schedules do not ask for one."""
        variable = missing_key(self.spec, self.workshop.settings)
        if variable and REPLAY not in self.tags:
            self._refuse(keys, f"set {variable} in the environment or in .env; nothing was requested.")

    def _look_at_inputs(self, keys: list[str | None]) -> None:
        """Remember what a derived source is built from; end the run if one of its inputs was never loaded."""
        if not self.spec.derived:
            return
        self.ready = ready(self.context.instance, self.spec, self.sources, self.workshop.settings, self.tools.clock())
        if self.ready.refused:
            self._refuse(keys, f"{self.ready.refused}.")
        self.tools = replace(self.tools, tables=self.ready.tables)

    def _refuse(self, keys: list[str | None], reason: str) -> None:
        message = f"{self.spec.name}: {reason}"
        for key in keys:
            blocked = Outcome(self.spec.source, self.spec.group, key, "blocked", message=message, trigger=self.trigger)
            blocked.started_at = self.tools.clock().isoformat(timespec="seconds")
            self.context.log_event(observation(self.spec, blocked))
            logged.log_ended(blocked, message, self.attempt)
        self._tell()
        raise dg.Failure(message, allow_retries=False)

    def _rebuild(self, keys: list[str | None]) -> Iterator[Result]:
        """Make the whole table anew from the archive."""
        started = self._now()
        try:
            yield from rebuilt(self.context, self.spec, self.tools, keys, lambda do: self._attempt(None, do))
        except RefreshError as error:
            for key in dict.fromkeys((keys[0], keys[-1])):
                self._remember_failure(key, error, started)
            self._fail(keys, [])
        yield from checks_of_run(self.spec, self.workshop.settings, [], [])
        self._tell()

    def _settled(self) -> dict[str | None, Outcome]:
        """Return what earlier attempts of this run have reported, by partition."""
        if not self.context.retry_number:
            return {}
        outcomes = outcomes_of_run(self.context.instance, self.spec, self.context.run_id)
        return {outcome.partition: outcome for outcome in outcomes}

    def _refresh(self, key: str | None, started: str, *, alone: bool) -> Iterator[Result]:
        """Refresh one partition and report it while nobody else can refresh it."""
        problem: RefreshError
        try:
            mine = exclusive(self.spec, key, self.workshop.settings)
            with limited(self.spec, [key], started, self.worker) as self.limit, mine as wait:
                self.limit.enter(QUERY if self.spec.derived else FETCH)
                outcome = self._attempt(key, lambda: self._one(key))
                self.limit.stop()
                outcome.seconds.wait += wait
                self.partial += [outcome] if outcome.outcome == "partial" else []
                self.held += [outcome] if outcome.outcome == "quarantined" else []
                self.apart += outcome.disagreements
                self.context.log.info(logged.sentence_of(self.spec, outcome))
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
                logged.log_ended(outcome, logged.sentence_of(self.spec, outcome), self.attempt)
        except dg.DagsterExecutionInterruptedError:
            # Also while waiting for the lock. Dagster would retry what was interrupted; nobody wants that.
            problem = self._cancelled(key)
        except OSError as error:
            problem = InternalError(
                "the lock of this partition cannot be used",
                came=str(error),
                todo="Check REFRESH_DATA_DIR, its rights and the disk.",
            )
        else:
            return
        raise problem.at(self.spec.name, key)

    def _cancelled(self, key: str | None) -> Interrupted:
        stopped = Interrupted("the run was cancelled", todo="No half of a load remains; run it again.")
        stopped.at(self.spec.name, key)
        return stopped

    def _one(self, key: str | None) -> Outcome:
        window = window_of(self.spec, key)
        run_id = self.context.run_id
        if REPLAY in self.tags:
            outcome = replay(self.spec, window, self.tools, run_id=run_id, trigger=self.trigger)
            outcome.asked_at = last_asked_at(self.context.instance, self.spec, key)
            return outcome
        outcome = refresh(
            self.spec, window, self.tools, run_id=run_id, trigger=self.trigger, force=self.forced,
            accept=accept_of(self.spec, self.workshop.settings, self.tags),
        )  # fmt: skip
        return self._with_inputs(outcome)

    def _with_inputs(self, outcome: Outcome) -> Outcome:
        if self.ready:
            outcome.inputs = self.ready.inputs
            outcome.notes += self.ready.notes
        return outcome

    def _many(self, keys: Sequence[str | None]) -> list[Outcome | RefreshError]:
        windows = [window_of(self.spec, key) for key in keys]
        run_id = self.context.run_id
        return refresh_range(self.spec, windows, self.tools, run_id=run_id, trigger=self.trigger, force=self.forced)

    def _attempt(self, key: str | None, action: Callable[[], Done]) -> Done:
        try:
            return action()
        except RefreshError:
            self._log_traceback()
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes a told failure, not a hidden one
            self._log_traceback()
            problem = InternalError(
                f"{type(error).__name__} in the refresh itself",
                came=redact(str(error), self.secrets),
                todo="Nothing was loaded. The debug log of this run has the traceback; please report it.",
            )
            self.traces[id(problem)] = traceback.format_exc()
        # Outside the handlers, so that no cause with an unredacted address travels into the event log.
        raise problem.at(self.spec.name, key)

    def _failed(self, key: str | None, error: RefreshError, started: str) -> Outcome:
        outcome = failed(self.spec, key, error)
        outcome.run_id, outcome.trigger, outcome.started_at = self.context.run_id, self.trigger, started
        return self._with_inputs(outcome)

    def _fail(self, keys: list[str | None], before: list[Outcome]) -> None:
        """End the run: tell a person if this was the last try, and let Dagster retry otherwise.

        Args:
            keys: all partitions of the run.
            before: what earlier attempts have given up, already reported.
        """
        bad = self.bad
        errors = [error for _, error in bad]
        stopped = self.last_try or any(error.stops for error in errors)
        passing = [] if stopped else [error for error in errors if error.retryable and self._may_pass_soon(error)]
        again = bool(passing)
        for outcome, error in bad:
            if error in passing:
                logged.log_retried(outcome, self.attempt, self.spec.retry.attempts)
            else:
                self.context.log_event(observation(self.spec, outcome))
                trace = self.traces.get(id(error)) or logged.trace_of(error)
                logged.log_ended(outcome, outcome.message or "", self.attempt, trace)
        outcomes = [*before, *(outcome for outcome, _ in bad), *self.held]
        failure = failure_of(outcomes, len(keys), again=again)
        if not again:
            try:
                # Whoever asked for the end need not be told of it.
                self._tell([*not_cancelled(outcomes), *self.partial])
            finally:
                # Whatever telling has run into: what is settled is not to be retried.
                raise failure
        if any(error.retry_at for error in passing):
            # The policy's own pause may be shorter than the one that was found to be long enough.
            raise dg.RetryRequested(self.spec.retry.attempts - 1, self._pause().total_seconds()) from failure
        raise failure

    def _pause(self) -> timedelta:
        return pause_inside(self.spec.retry, self.context.retry_number + 1)

    def _may_pass_soon(self, error: RefreshError) -> bool:
        """Whether the upstream may be asked again when the next try inside this run begins."""
        return error.retry_at is None or error.retry_at <= self.tools.clock() + self._pause()

    def _tell(self, bad: Sequence[Outcome] = ()) -> None:
        """Write the notice of a failed run, deliver what waits, and bring status.json up to date."""
        tell(self.context, self.spec, self.workshop, sources=self.sources, bad=bad, secrets=self.secrets)

    def _progress(self, stage: str) -> None:
        self.limit.enter(AFTER[stage])
        self.context.log.debug(f"{self.spec.name}: {stage}")

    def _log_traceback(self) -> None:
        self.context.log.debug(redact(traceback.format_exc(), self.secrets))
