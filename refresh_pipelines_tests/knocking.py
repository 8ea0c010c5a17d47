"""A source on loopback, Dagster's own scheduler and sensor daemon, and people: at whatever time a test says it is.

What is requested stays queued until the test runs it, in this process, against the scripted upstream.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from refresh_pipelines.orchestration.internals import LOCATION_NAME
from refresh_pipelines.orchestration.internals_ticks import switch_off
from refresh_pipelines_tests.clockwork import utc
from refresh_pipelines_tests.command_home import Home
from refresh_pipelines_tests.upstream import answer

# As in `clockwork`, and nobody waits between two tries of one request.
DEFINITIONS = """
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from dagster._time import get_current_datetime

from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings


def adjust(tools):
    fetcher = Fetcher(settings, sleep=lambda _: None, now=get_current_datetime)
    return replace(tools, fetcher=fetcher, clock=get_current_datetime)


settings = Settings.load({environ!r}, root=Path({root!r}))
defs = build_definitions(settings, workshop=Workshop(settings, adjust, get_current_datetime, keep=timedelta(0)))
"""
REFUSED, DOWN, GOOD = answer(b"no", 403), answer(b"no", 503), answer(b"day,n\n2026-01-01,1\n")
WHY = "benin/a: https://example.org/data.csv was refused; expected HTTP 200; got HTTP 403, 'no'. Look at it."
LOGGER = logging.getLogger("knocking")


class Knocking:
    """One source `benin/a`, due every hour unless its YAML says otherwise, below an upstream that refuses at first."""

    def __init__(
        self, folder, history, upstream, more="schedule: {frequency: hourly}", *, all_sensors=False, **environ
    ):
        self.switched_off = () if all_sensors else ("failures", "overdue")
        self.upstream, self.home = upstream, Home(folder, history, upstream)
        for path in (folder / "catalog").rglob("*.yaml"):
            path.unlink()
        self.home.add({"benin/a.yaml": SOURCE + more + "\n"})
        self.home.environ |= environ
        # Named in full: a process knows an instance by its folders, and each test has others.
        config = folder / "dagster.yaml"
        config.write_text(config.read_text().replace(" data/dagster", f" {folder}/data/dagster"))
        self._stack = ExitStack()
        self.known: set[str] = set()

    def __enter__(self):
        folder = self.home.folder
        self._stack.enter_context(self.home.entered())
        self.instance = self._stack.enter_context(dg.DagsterInstance.from_config(str(folder)))
        for other in self.switched_off:
            switch_off(self.instance, other, "sensor")
        self.start_daemon()
        return self

    def start_daemon(self):
        """Load the code location anew, as after a restart: what the process has remembered is gone."""
        folder = self.home.folder
        file = folder / "knocking_definitions.py"
        file.write_text(DEFINITIONS.format(environ=self.home.environ, root=str(folder)))
        origin = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(file)), location_name=LOCATION_NAME)
        target = InProcessTestWorkspaceLoadTarget(origin)
        self.workspace = self._stack.enter_context(WorkspaceProcessContext(self.instance, target))

    def __exit__(self, *_):
        self._stack.close()

    def refresh(self, at, *args):
        """Have a person call `refresh` at an instant."""
        with freeze_time(utc(at)):
            result = self.home.refresh(*args)
        self._new()
        return result

    def log(self, at, outcome="failed", error_class="permanent", key=None, trigger="schedule"):
        """Have an event be logged at an instant, as if a refresh had reported it."""
        metadata = {"refresh/outcome": outcome, "refresh/error_class": error_class, "refresh/trigger": trigger}
        metadata["refresh/message"] = WHY
        asset = dg.AssetKey(["benin", "a"])
        kind = dg.AssetObservation if outcome == "failed" else dg.AssetMaterialization
        with freeze_time(utc(at)):
            self.instance.report_runless_asset_event(kind(asset, partition=key, metadata=metadata))

    def items(self, *args):
        return self.home.items(*args)

    def tick(self, at):
        """Let the scheduler look at an instant; return the runs it requested."""
        with freeze_time(utc(at)):
            list(launch_scheduled_runs(self.workspace, LOGGER, utc(at), {}))
        return self._new()

    def sense(self, at):
        """Let the sensor daemon look at an instant; return the runs that were requested."""
        with freeze_time(utc(at)):
            list(execute_sensor_iteration(self.workspace, LOGGER, None, None))
        return self._new()

    def run(self, run, at):
        """Execute a queued run at an instant as a worker would; return whether it was good."""
        job = InMemoryJob(self.repository().get_job(run.job_name))
        with freeze_time(utc(at)):
            return execute_run(job, run.with_status(dg.DagsterRunStatus.STARTING), self.instance).success

    def repository(self):
        scope: dict = {}
        exec((self.home.folder / "knocking_definitions.py").read_text(), scope)
        return scope["defs"].get_repository_def()

    def _new(self):
        new = [run for run in self.instance.get_runs(limit=20) if run.run_id not in self.known]
        self.known |= {run.run_id for run in new}
        return [run for run in new if not run.is_finished]

    def ticks(self, name):
        """Return what each tick of a schedule or sensor said, oldest first, with whether it requested something."""
        states = [one for one in self.instance.all_instigator_state() if one.instigator_name == name]
        found = [tick for one in states for tick in self.instance.get_ticks(one.instigator_origin_id, one.selector_id)]
        found.sort(key=lambda tick: tick.timestamp)
        return [(one.status.value, one.skip_reason) for one in found]


SOURCE = """\
description: a test
request: {url: "https://example.org/data.csv"}
format: csv
columns: {day: {type: date}, n: {type: int}}
merge_key: [day]
"""
