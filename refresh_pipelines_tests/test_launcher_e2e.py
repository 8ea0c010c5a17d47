"""Forked runs below a real daemon: killed, cancelled from another process, and outliving daemon and template."""

from __future__ import annotations

import os
import signal

import dagster as dg
import psutil
import pytest

from refresh_pipelines.orchestration import run_process
from refresh_pipelines_tests.dagster_bench import Receiver, wait_until
from refresh_pipelines_tests.test_stuck_e2e import Place
from refresh_pipelines_tests.upstream import Upstream

pytestmark = pytest.mark.e2e


class Forking(Place):
    """A place whose daemon forks its runs."""

    def __init__(self, *args, **hangs):
        super().__init__(*args, **hangs)
        self.more["REFRESH_LAUNCHER"] = "prefork"

    def run_of(self, pid):
        """Return the run whose process that is, by its mark."""
        marks = ((run, run_process.read(run.run_id, run.tags.get(run_process.TAG))) for run in self.instance.get_runs())
        return next((run for run, process in marks if process and process.pid == pid), None)

    def ended(self, run):
        found = self.instance.get_run_by_id(run.run_id)
        return found if found.is_finished else None

    def good(self, name, most=300):
        """Return how many runs of a source have ended well."""
        return [run for run in self.runs(name)[:most] if run.is_success]


def template_of(pid):
    """Return the template that has forked a process, as long as it lives."""
    parent = psutil.Process(pid).parent()
    assert "refresh_pipelines.orchestration.template" in parent.cmdline()
    return parent


def test_forked_runs_are_retried_cancelled_and_outlive_the_daemon(tmp_path):
    with Receiver() as receiver, Upstream() as upstream:
        place = Forking(tmp_path / "place", upstream, receiver, quick=0, killed=1, cancelled=1, survivor=1)
        with place.daemon():
            pids = {
                name: wait_until(lambda name=name: place.process_of(name, 1), 150, f"{name}; see {place.log}")
                for name in ("killed", "cancelled", "survivor")
            }
            runs = {name: wait_until(lambda pid=pid: place.run_of(pid), 30, "its mark") for name, pid in pids.items()}
            template = template_of(pids["survivor"])
            assert psutil.Process(pids["survivor"]).name() == "refresh-run"
            assert place.instance.run_launcher.terminate(runs["cancelled"].run_id)
            os.kill(pids["killed"], signal.SIGKILL)
            cancelled = wait_until(lambda: place.ended(runs["cancelled"]), 60, "the cancelled run to end")
            assert cancelled.status is dg.DagsterRunStatus.CANCELED
            killed = wait_until(lambda: place.ended(runs["killed"]), 60, "the killed run to be told")
            assert killed.status is dg.DagsterRunStatus.FAILURE
        # The daemon is dead. What it had under way goes on, and its template waits for that.
        assert psutil.pid_exists(pids["survivor"]) and template.is_running()
        upstream.released.set()
        assert wait_until(lambda: place.ended(runs["survivor"]), 90, "the survivor to end").is_success
        wait_until(lambda: not template.is_running(), 30, "its template to end")

        with place.daemon():
            before = len(place.good("quick"))
            wait_until(lambda: len(place.good("quick")) > before, 180, f"a run of another template; see {place.log}")
            wait_until(lambda: place.good("killed"), 180, "another try of the killed run")
        assert place.runs("killed")[1].parent_run_id == runs["killed"].run_id
        assert "by the default launcher" not in place.log.read_text()
        staging = place.root / "data/staging"
        wait_until(lambda: list(staging.glob("*")) == [], 60, "what still ran to take its folder away")
        place.instance.dispose()
