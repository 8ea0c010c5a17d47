"""Runs whose process was killed or does not react: found and ended from outside, and the way is free for the next."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import dagster as dg
import psutil
import pytest
from dagster._core.test_utils import freeze_time

from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.stuck import end_stuck, settle
from refresh_pipelines.settings import Settings
from refresh_pipelines.worker import Found, Task, at_work, burying, worker_of, workers
from refresh_pipelines_tests.dagster_bench import Receiver, values
from refresh_pipelines_tests.workbench import NOW

LATER = 4000.0


def killed(bench, *keys, stage="fetched", **tags):
    """Run in a process of its own that is killed when it reaches the stage; return the run."""

    def launch():
        bench.adjust = lambda tools: replace(tools, progress=lambda name: name == stage and die())
        bench.launch("fred_fx", *keys, **tags)

    process = multiprocessing.get_context("fork").Process(target=launch)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    [run] = bench.instance.get_runs(limit=1)
    return run


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def left(bench):
    data = bench.settings.data_dir
    return [*(data / "staging").glob("*"), *(data / "locks/runs").glob("*")]


def flights(bench):
    spec = bench.spec("fred_fx")
    return Reads([spec], bench.settings).flights(bench.instance, spec, NOW)


@pytest.mark.parametrize("stage", ["fetched", "merged"])
def test_a_killed_run_is_ended_once_and_leaves_nothing(bench, stage):
    run = killed(bench, "DEXUSEU", stage=stage, refresh__trigger="schedule")
    assert left(bench) != []
    assert flights(bench) == []
    [ended] = end_stuck(bench.instance, bench.settings)
    assert (ended.run_id, end_stuck(bench.instance, bench.settings)) == (run.run_id, [])
    assert left(bench) == []
    after = bench.instance.get_run_by_id(run.run_id)
    assert after.status is dg.DagsterRunStatus.FAILURE
    said = [values(event) for event in bench.bad(run)]
    assert [one["refresh/error_class"] for one in said] == ["interrupted"]
    assert said[0]["refresh/trigger"] == "schedule"
    assert "commodities/fred_fx[DEXUSEU]: the process of this run was killed; got process" in ended.why
    assert bench.launch("fred_fx", "DEXUSEU").success


def test_its_incident_is_told_once_with_and_without_a_daemon_and_ends_with_the_next_good_run(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        run = killed(bench, "DEXUSEU", dagster__max_retries="0")
        for _ in range(2):
            settle(bench.instance, bench.settings, kill=False)
            bench.workshop.notices().deliver()
        [opened] = receiver.delivered
        assert (opened["run_id"], opened["error_class"]) == (run.run_id, "interrupted")
        assert (opened["source"], opened["partition"]) == ("fred_fx", "DEXUSEU")
        bench.launch("fred_fx", "DEXUSEU")
        assert [body["event"] for body in receiver.delivered] == ["incident.opened", "incident.recovered"]


def test_a_run_that_was_being_cancelled_ends_as_cancelled(bench):
    run = killed(bench, "DEXUSEU")
    bench.instance.report_run_canceling(run)
    end_stuck(bench.instance, bench.settings)
    assert bench.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED


def test_what_another_machine_says_of_its_run_is_left_alone(bench):
    run = killed(bench, "DEXUSEU")
    about = bench.settings.data_dir / "locks/runs" / f"{run.run_id}.json"
    document = json.loads(about.read_text())
    about.write_text(json.dumps({**document, "place": ["another-boot", "another-host", ""]}))
    assert end_stuck(bench.instance, bench.settings, clock=lambda: time.monotonic() + LATER) == []
    assert bench.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    about.write_text(json.dumps({**document, "place": ["another-boot", *document["place"][1:]]}))
    assert len(end_stuck(bench.instance, bench.settings)) == 1, "this machine, started anew"


def test_a_deleted_run_leaves_files_that_are_removed(bench):
    run = killed(bench, "DEXUSEU")
    bench.instance.delete_run(run.run_id)
    end_stuck(bench.instance, bench.settings)
    assert left(bench) == []


def test_a_process_at_work_is_seen_by_others_and_not_by_itself(tmp_path):
    with at_work(tmp_path, "one") as worker, at_work(tmp_path, "one") as again:
        assert worker is again
        worker.does(Task("a/b", (None,), "fetch", 1.0, 2.0, "now"))
        assert workers(tmp_path) == []
        look = (
            f"from refresh_pipelines.worker import *; from pathlib import Path; print(workers(Path({str(tmp_path)!r})))"
        )
        said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
        task = Task("a/b", (None,), "fetch", 1.0, 2.0, "now")
        assert said.strip() == str([Found("one", alive=True, here=True, pid=os.getpid(), tasks=(task,))])
        with burying(tmp_path, "one") as dead:
            assert not dead
    assert list((tmp_path / "locks/runs").iterdir()) == []
    assert worker_of(tmp_path, "one") is None


def test_where_no_lock_can_be_made_work_goes_on(tmp_path):
    (tmp_path / "locks").write_text("a file")
    with at_work(tmp_path, "one") as worker:
        worker.does(None)
    assert workers(tmp_path) == []


@contextmanager
def hanging(home):
    """`refresh run` of one source, of whose upstream nothing comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {**os.environ, **home.environ, "REFRESH_UPSTREAM": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        command = [sys.executable, "-m", "refresh_pipelines", "run", "bsee_ogora"]
        output = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=home.folder, env=environ, stdout=output, stderr=output)
        try:
            silent.accept()
            yield process
        finally:
            process.kill()
            process.wait()


def test_a_killed_command_is_found_by_the_next_one_and_the_source_is_free(home):
    with hanging(home) as process:
        process.kill()
    [item] = home.items("history", "bsee_ogora")
    assert (item["outcome"], item["error_class"]) == ("failed", "interrupted")
    assert "killed" in item["message"]
    assert [run.status for run in home.runs()] == [dg.DagsterRunStatus.FAILURE]
    assert home.runs()[0].tags["dagster/will_retry"] == "false"
    assert {one["outcome"] for one in home.items("run", "bsee_ogora")} == {"loaded"}


def test_a_suspended_process_is_left_until_its_time_is_over_and_then_killed(home):
    settings = Settings.load(home.environ, root=home.folder)
    with hanging(home) as process:
        process.send_signal(signal.SIGSTOP)
        with home.entered(), dg.DagsterInstance.from_config(str(home.folder)) as instance:
            assert settle(instance, settings, kill=True) == []
            [found] = workers(settings.data_dir)
            assert (found.alive, found.here, found.pid, found.task.stage) == (True, True, process.pid, "fetch")
            assert end_stuck(instance, settings, kill=False, clock=lambda: time.monotonic() + LATER) == []
            assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
            [ended] = end_stuck(instance, settings, clock=lambda: time.monotonic() + LATER)
        assert process.wait(10) == -signal.SIGKILL
    start = "worldenergy/bsee_ogora["
    assert ended.why.startswith(start)
    assert "the refresh took too long; expected its end within time_limit 1h; got still fetching after 1h" in ended.why
    assert "did not react and was killed" in ended.why
    [item] = home.items("history", "bsee_ogora")
    assert (item["outcome"], item["error_class"]) == ("failed", "transient")
    [run] = home.runs()
    assert (run.status, run.tags["dagster/will_retry"]) == (dg.DagsterRunStatus.FAILURE, "false")


def test_a_process_that_goes_on_after_its_run_was_cancelled_is_killed(home):
    settings = Settings.load(home.environ, root=home.folder)
    with hanging(home) as process:
        process.send_signal(signal.SIGSTOP)
        with home.entered(), dg.DagsterInstance.from_config(str(home.folder)) as instance:
            [run] = instance.get_runs()
            with freeze_time(datetime.now(timezone.utc) - timedelta(hours=1)):
                instance.report_run_canceled(run)
            end_stuck(instance, settings)
        assert process.wait(10) == -signal.SIGKILL
    assert home.items("history", "bsee_ogora") == []
