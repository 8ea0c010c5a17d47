"""More of `internals`: the steps of a run that several sources share, side by side on threads of its one process.

Dagster executes steps one after the other in a process, or each in a process of its own, which costs four seconds of
CPU. The rest is Dagster's: which step is next, retries and their pauses, events, captured output. Every other run is
left to its in-process executor.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TypeAlias

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext, StepExecutionContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import (
    _handle_compute_log_setup_error,
    _handle_compute_log_teardown_error,
    dagster_event_sequence_for_step,
)
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode
from dagster._utils.interrupts import raise_interrupts_as

from refresh_pipelines.limit import interrupt
from refresh_pipelines.orchestration.tags import BATCH

# Most of a small refresh is waiting, for an upstream or for the warehouse.
MOST_AT_ONCE = 16
# As many as other runs have of a host's pool.
MOST_OF_A_HOST = 2
# How long a thread that has ended without a word is not noticed.
_LOOK = 1.0
_Said: TypeAlias = "tuple[str, DagsterEvent | BaseException | None]"


def run_executor(hosts: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Return the executor of every run: Dagster's in-process one, with threads for runs that several sources share.

    Args:
        hosts: the host that a step asks, by the step's name; no more than two at once do.
    """
    inner = dg.in_process_executor

    create = inner.executor_creation_fn
    if create is None:
        raise TypeError(f"Dagster's executor {inner.name} makes none")

    def make(context: dg.InitExecutorContext) -> dg.Executor:
        return _RunExecutor(create(context), hosts)

    return dg.ExecutorDefinition(
        inner.name,
        config_schema=inner.config_schema,  # type: ignore[arg-type]
        executor_creation_fn=make,
        description=inner.description,
    )


class _RunExecutor(dg.Executor):
    def __init__(self, inner: dg.Executor, hosts: Mapping[str, str]) -> None:
        self._inner, self._hosts = inner, hosts

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        keys = execution_plan.step_keys_to_execute
        if BATCH not in plan_context.dagster_run.tags or len(keys) == 1:
            yield from self._inner.execute(plan_context, execution_plan)
            return
        about = EngineEventData.in_process(os.getpid(), keys)
        text = f"{len(keys)} steps, at most {MOST_AT_ONCE} at once, in process (pid: {os.getpid()})"
        yield DagsterEvent.engine_event(plan_context, f"Executing {text}", event_specific_data=about)
        yield from ExecuteRunWithPlanIterable(
            execution_plan=execution_plan,
            iterator=partial(_execute_side_by_side, hosts=self._hosts),
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
            ),
        )
        yield DagsterEvent.engine_event(plan_context, f"Finished {text}", event_specific_data=about)


def _execute_side_by_side(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan, hosts: Mapping[str, str]
) -> Iterator[DagsterEvent]:
    context, plan = job_context, execution_plan  # Dagster passes them by name
    logs = context.instance.compute_log_manager
    key = logs.build_log_key_for_run(context.run_id, create_compute_log_file_key())  # type: ignore[no-untyped-call]
    with plan.start(retry_mode=context.retry_mode) as active, ExitStack() as captured:
        # As Dagster's own executor does: a run goes on without.
        try:
            capturing = captured.enter_context(logs.capture_logs(key))
            yield DagsterEvent.capture_logs(context, [*plan.step_keys_to_execute], key, capturing)
        except Exception:  # noqa: BLE001 - told as an event
            yield from _handle_compute_log_setup_error(context, sys.exc_info())
        yield from _Steps(context, active, hosts).execute()
        try:
            captured.close()
        except Exception:  # noqa: BLE001 - told as an event
            yield from _handle_compute_log_teardown_error(context, sys.exc_info())


class _Steps:
    """The steps of one run. Everything but the steps themselves happens on the thread that calls `execute`."""

    def __init__(self, context: PlanExecutionContext, active: ActiveExecution, hosts: Mapping[str, str]) -> None:
        self.context, self.active, self.hosts = context, active, hosts
        self.ready: list[ExecutionStep] = []
        self.threads: dict[str, threading.Thread] = {}
        self.said: queue.SimpleQueue[_Said] = queue.SimpleQueue()
        self.stopped = False
        self.broken: BaseException | None = None

    def execute(self) -> Iterator[DagsterEvent]:
        """Yield the events of all steps as they come.

        Raises:
            DagsterExecutionInterruptedError: the run was cancelled; each step that was at work has ended.
            BaseException: what a step broke off with, after the others have ended; not what a source failed with.
        """
        while self.threads or not (self.stopped or self.active.is_complete):
            if not self.stopped:
                self.ready += self.active.get_steps_to_execute()
                self._begin()
            for step, said in self._listen():
                if isinstance(said, DagsterEvent):
                    yield said
                    self.active.handle_event(said)
                    continue
                self.threads.pop(step).join()
                self.broken = self.broken or said
                if all(step != one.key for one in self.ready):  # else it is about to be tried again
                    self.active.verify_complete(self.context, step)
                yield from self.active.plan_events_iterator(self.context)
        if self.stopped:
            self.active.mark_interrupted()
            raise dg.DagsterExecutionInterruptedError("the run was cancelled")
        if self.broken is not None:
            raise self.broken

    def _begin(self) -> None:
        """Start what may be started now, in the order in which Dagster has it."""
        busy = Counter(self.hosts.get(key, key) for key in self.threads)
        waiting = []
        for step in self.ready:
            host = self.hosts.get(step.key, step.key)
            # One that is tried again at once may not have said yet that its first try has ended.
            if step.key in self.threads or len(self.threads) >= MOST_AT_ONCE or busy[host] >= MOST_OF_A_HOST:
                waiting.append(step)
                continue
            busy[host] += 1
            made = self.context.for_step(step, self.active.get_known_state())
            thread = self.threads[step.key] = threading.Thread(target=self._work, args=(made,), daemon=True)
            thread.start()
        self.ready = waiting

    def _work(self, step: StepExecutionContext) -> None:
        """Execute one step, and say each event that it has written, at last None, or what it broke off with."""
        ended: BaseException | None = None
        try:
            for event in dagster_event_sequence_for_step(step):
                self.said.put((step.step.key, event))
        except BaseException as error:  # noqa: BLE001 - raised again by `execute`
            ended = error
        self.said.put((step.step.key, ended))

    def _listen(self) -> Iterator[_Said]:
        """Yield what was said next; nothing if nothing was for a while, or somebody wants the run to stop."""
        pause = self.active.sleep_interval() or _LOOK  # type: ignore[no-untyped-call]
        try:
            with raise_interrupts_as(dg.DagsterExecutionInterruptedError):
                said = self.said.get(timeout=max(0.01, min(_LOOK, pause)))
        except queue.Empty:
            # An interruption may hit a thread between its last event and the word that it has ended.
            gone = [key for key, thread in self.threads.items() if not thread.is_alive()]
            if self.said.empty():
                yield from ((key, None) for key in gone)
        except dg.DagsterExecutionInterruptedError:
            self.stopped = True
            for thread in self.threads.values():
                interrupt(thread, dg.DagsterExecutionInterruptedError)
        else:
            yield said
