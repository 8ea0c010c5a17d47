"""Dagster's own scheduler over our definitions, at whatever time a test says it is: from YAML to requested runs.

The one thing that is not Dagster's is the clock. Runs are requested and stay queued; nothing is executed.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.tags import RUN_KEY_TAG
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._scheduler.scheduler import launch_scheduled_runs

from refresh_pipelines.orchestration.internals import LOCATION_NAME, cancel_run
from refresh_pipelines.orchestration.tags import RANGE_END, RANGE_START
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.catalogues import write

DEFINITIONS = """
from datetime import timedelta
from pathlib import Path

from dagster._time import get_current_datetime

from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings

settings = Settings.load({environ!r}, root=Path({root!r}))
defs = build_definitions(settings, workshop=Workshop(settings, clock=get_current_datetime, keep=timedelta(0)))
"""
SOURCE = """
description: a test
request: {{url: "https://example.org/data.csv"}}
format: csv
columns: {{day: {{type: date}}, n: {{type: int}}}}
merge_key: [day]
schedule: {{{schedule}}}
"""
QUEUED = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}


def utc(text):
    """Return an instant of ISO text, in UTC unless it says otherwise."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=at.tzinfo or timezone.utc)


class Clockwork:
    """One source `benin/a`, an instance, and Dagster's scheduler."""

    def __init__(self, folder, history, schedule, partitions="", **environ):
        text = SOURCE.format(schedule=schedule) + (f"partitions: {{{partitions}}}\n" if partitions else "")
        write(folder / "catalog", {"benin/a.yaml": text})
        shutil.copytree(history, folder / "history")
        self.definitions = folder / "clockwork_definitions.py"
        environ = {"REFRESH_CATALOG": "catalog", **environ}
        self.definitions.write_text(DEFINITIONS.format(environ=environ, root=str(folder)))
        self._stack = ExitStack()
        self._known: set[str] = set()
        self.instance = self._stack.enter_context(dg.DagsterInstance.local_temp(str(folder / "history"), QUEUED))

    def __enter__(self):
        origin = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(python_file=str(self.definitions)), location_name=LOCATION_NAME
        )
        target = InProcessTestWorkspaceLoadTarget(origin)
        self.workspace = self._stack.enter_context(WorkspaceProcessContext(self.instance, target))
        return self

    def __exit__(self, *_):
        self._stack.close()
        cheap_history.let_go()

    def look(self, at):
        """Let the scheduler look at an instant, as the daemon does every few seconds; return the runs it requested."""
        with freeze_time(at):
            list(launch_scheduled_runs(self.workspace, logging.getLogger("clockwork"), at, {}))
        runs = [run for run in self.instance.get_runs(limit=40) if RUN_KEY_TAG in run.tags]  # those of the source
        new = [run for run in runs if run.run_id not in self._known]
        self._known |= {run.run_id for run in new}
        return sorted(new, key=lambda run: run.tags[RUN_KEY_TAG])

    def pass_time(self, start, until, done=True):
        """Look at the start, and again just before and at each instant that Dagster says is due.

        Returns what was requested as (instant, run key).

        Args:
            done: let each run end at once, so that none holds the next one up.
        """
        found, at = [], start
        while at <= until:
            for run in self.look(at):
                found.append((at, run.tags[RUN_KEY_TAG]))
                if done:
                    self.end(run)
            if at == start or at.microsecond == 0:
                due = next(iter(self._due_after(at)))
                at = due - timedelta(microseconds=1)
            else:
                at += timedelta(microseconds=1)
        return found

    def _due_after(self, at):
        location = self.workspace.create_request_context().get_code_location(LOCATION_NAME)
        schedule = next(iter(location.get_repositories().values())).get_schedule("a_schedule")
        return (due.astimezone(timezone.utc) for due in schedule.execution_time_iterator(at.timestamp() + 1))

    def end(self, run, *loaded):
        """Have a run end, and partitions be loaded."""
        for key in loaded:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(["benin", "a"], partition=key))
        cancel_run(self.instance, run.run_id, "the test ends it")

    def ticks(self):
        """Return the schedule's ticks, oldest first, as (due time, status, reason)."""
        states = [one for one in self.instance.all_instigator_state() if one.instigator_name == "a_schedule"]
        found = [tick for one in states for tick in self.instance.get_ticks(one.instigator_origin_id, one.selector_id)]
        found.sort(key=lambda tick: tick.timestamp)
        return [
            (datetime.fromtimestamp(one.timestamp, timezone.utc), one.status.value, one.skip_reason) for one in found
        ]


def covered(run):
    """Return the first and last partition of a run, None twice without partitions."""
    one = run.tags.get("dagster/partition")
    return run.tags.get(RANGE_START, one), run.tags.get(RANGE_END, one)
