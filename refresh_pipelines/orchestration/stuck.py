"""Runs whose process was killed, or does not end although its time is over: ended, and what they left removed.

Dagster's code server notices when a run's process that it started dies, as long as it lives itself. Nobody notices a
`refresh run` that was killed, runs that a whole machine took with it, and a process that hangs or is suspended and
answers no request to stop. Such a run would keep its slot and hold up its source for ever. It is found by the lock
that each process holds for its run (`worker`), by the sensor `failures` and by every command.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import Interrupted, RefreshError
from refresh_pipelines.limit import STAGES, too_long
from refresh_pipelines.notice_log import log_found
from refresh_pipelines.notices import Notices
from refresh_pipelines.orchestration.incidents import Rules, failures_of
from refresh_pipelines.orchestration.internals import report_observation
from refresh_pipelines.orchestration.report import metadata_of
from refresh_pipelines.orchestration.tags import KILLED, MAX_RETRIES, trigger_of
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.worker import GRACE, Found, Task, burying, workers

# So long a killed process may take to let go of its lock.
_DYING = 10.0
_ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Ended:
    """A run that was ended from outside, or whose leavings were removed; `why` in words."""

    run_id: str
    why: str


def end_stuck(
    instance: dg.DagsterInstance,
    settings: Settings,
    *,
    kill: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> list[Ended]:
    """End the runs whose process is dead, and processes that do not end; return what was done.

    The run fails, each partition that was being refreshed has its event, and staging is removed. Locks are the
    kernel's and free already.

    Args:
        kill: whether to end processes that live; otherwise only the dead are looked after.
        clock: what `Task.until` is compared with.
    """
    out = []
    for found in workers(settings.data_dir):
        error: RefreshError | None = None
        if found.alive:
            error = _overdue(found, clock())
            if not kill or not found.here or not (error or _given_up(instance, found)):
                continue
            _kill(instance, found)
        with _patiently(settings, found.run_id) as dead:
            # What could not be told at first may have been told after all.
            if dead and not (found.untold and _has_ended(instance, found.run_id)):
                out.append(bury(instance, settings, found, error))
    return out


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


def settle(instance: dg.DagsterInstance, settings: Settings, *, kill: bool) -> list[Ended]:
    """Do as `end_stuck` does, and enter the incidents of it: for commands, which may be all there is."""
    ended = end_stuck(instance, settings, kill=kill)
    if ended:
        catalogue = load_catalogue(settings.catalog, settings.environ)
        rules, notices = Rules(catalogue.sources.values(), settings), Notices(settings)
        for one in ended:
            for failure in failures_of(instance, one.run_id, list(catalogue.sources.values()), rules):
                if notices.report(failure):
                    log_found(failure)
    return ended


def _overdue(found: Found, now: float) -> RefreshError | None:
    """Return what a refresh fails with whose process did not end it in time; None if there is time."""
    task = found.task
    if task is None or not found.overdue(now):
        return None
    more = ", and its process did not react and was killed"
    return too_long(task.stage, timedelta(seconds=task.seconds), more)


def _given_up(instance: dg.DagsterInstance, found: Found) -> bool:
    """Whether the run has ended for Dagster, which marks it where a process does not stop, and the process goes on."""
    record = instance.get_run_record_by_id(found.run_id)
    if record is None or record.dagster_run.status not in _ENDED_BADLY or not record.end_time:
        return False
    return utc_now().timestamp() - record.end_time > GRACE.total_seconds()


def _kill(instance: dg.DagsterInstance, found: Found) -> None:
    if instance.has_run(found.run_id):
        # What took too long would do so again; Dagster's second try is for what was killed by accident.
        instance.add_run_tags(found.run_id, {KILLED: _mark(found.run_id), MAX_RETRIES: "0"})
    with suppress(ProcessLookupError):
        # Its lock is held, so the process lives and the number is still its own.
        os.kill(found.pid, signal.SIGKILL)


@contextmanager
def _patiently(settings: Settings, run_id: str) -> Iterator[bool]:
    """Yield whether the run is ours to bury; a process that was killed a moment ago is waited for."""
    deadline = time.monotonic() + _DYING
    while True:
        with burying(settings.data_dir, run_id) as dead:
            if dead or time.monotonic() > deadline:
                yield dead
                return
        time.sleep(0.05)


def bury(instance: dg.DagsterInstance, settings: Settings, found: Found, error: RefreshError | None = None) -> Ended:
    """Fail a run that nobody is at work on, with an event for each refresh it was at; remove what it has staged."""
    shutil.rmtree(settings.data_dir / "staging" / found.run_id[:8], ignore_errors=True)
    run = instance.get_run_by_id(found.run_id)
    told = error or _killed(found, found.task)
    if run is None or run.status is dg.DagsterRunStatus.CANCELED:
        return Ended(found.run_id, str(told))
    for task in found.tasks:
        why = told if task is found.task else _killed(found, task)
        why.source = task.source
        group, _, source = task.source.rpartition("/")
        for key in task.keys:
            why.partition = key
            outcome = Outcome(source, group, key, "failed", error_class=why.error_class, message=str(why))
            outcome.run_id, outcome.trigger = run.run_id, trigger_of(run.tags, source)
            outcome.started_at = task.started_at
            event = dg.AssetObservation(
                dg.AssetKey([group, source]), partition=key, metadata=metadata_of(outcome), description=str(why)
            )
            report_observation(instance, run, event)
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, str(told))
        return Ended(found.run_id, str(told))
    instance.add_run_tags(run.run_id, {KILLED: _mark(run.run_id)})
    if not run.is_finished:
        instance.report_run_failed(run, str(told))
    return Ended(found.run_id, str(told))


def _killed(found: Found, task: Task | None) -> Interrupted:
    if found.untold:
        return Interrupted(
            "this run could not record how it ended",
            came="Dagster's history away when it did",
            todo="What it loaded stays loaded; the next refresh makes up for what was not recorded.",
        )
    doing = f" while it was {STAGES.get(task.stage, task.stage)}" if task else ""
    return Interrupted(
        "the process of this run was killed",
        came=f"process {found.pid} gone{doing}",
        todo="Nothing of it is half loaded. If nobody did it, see whether the machine was out of memory.",
    )


def _mark(run_id: str) -> str:
    # A run that is made again bears the tags of the first one.
    return f"{run_id[:8]} {utc_now().isoformat(timespec='seconds')}"
