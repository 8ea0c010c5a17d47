"""A batch with a real daemon: one run for all its sources each minute, also after the process of one was killed."""

from __future__ import annotations

import json
import os
import signal
import threading

import dagster as dg
import pytest

from refresh_pipelines.worker import workers
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.herding import MEMBER, ROWS, Paths
from refresh_pipelines_tests.served import command, copied, daemon_of, instance_of

pytestmark = pytest.mark.e2e
SIZE = 20


@pytest.mark.parametrize("launcher", ["default", "prefork"])
def test_the_sources_of_a_batch_are_refreshed_in_one_run_each_minute_and_a_killed_one_is_made_up_for(
    tmp_path, launcher
):
    root = tmp_path / "place"
    copied(root)
    names = [f"s{number}" for number in range(SIZE)]
    text = MEMBER.replace('frequency: daily, time: "06:00"', 'cron: "* * * * *"')
    write(root / "mine", {f"benin/{n}.yaml": text.format(name=n, host=f"{n}.org", more="", attempts=1) for n in names})
    with Paths() as paths:
        more = {
            "REFRESH_UPSTREAM": paths.base,
            "REFRESH_CATALOG": "mine",
            "DAGSTER_HOME": str(root),
            "REFRESH_LAUNCHER": launcher,
        }
        instance, process = instance_of(root), daemon_of(root, tmp_path / "daemon.log", **more)

        def shared(*statuses):
            filters = dg.RunsFilter(
                tags={"refresh/batch": "small"}, statuses=[dg.DagsterRunStatus[s] for s in statuses]
            )
            return instance.get_runs(filters)

        try:
            first = wait_until(lambda: shared("SUCCESS"), 300, "a run of the batch")[-1]
            assert {key.path[-1] for key in first.asset_selection} == set(names)
            loaded = {
                key.path[-1] for key in instance.get_asset_keys() if instance.get_latest_materialization_event(key)
            }
            assert loaded >= set(names)

            hung = threading.Event()
            paths.answers["s7"] = lambda: hung.wait(200) and ROWS
            found = wait_until(lambda: _alone(root, "benin/s7"), 300, "a run in which only s7 is left")
            os.kill(found.pid, signal.SIGKILL)
            hung.set()
            killed = found.run_id
            again = dg.RunsFilter(tags={"dagster/parent_run_id": killed}, statuses=[dg.DagsterRunStatus.SUCCESS])
            second = wait_until(lambda: instance.get_runs(again), 300, "Dagster's second try")[0]
            steps = {one.step_key for one in instance.get_run_step_stats(second.run_id)}
            assert "benin__s7" in steps
            newer = wait_until(lambda: _later(shared("SUCCESS"), second), 300, "the next tick's run")
            assert newer.asset_selection
            items = json.loads(command(root, ".venv/bin/refresh", "gaps", *names, "--json", **more).stdout)["items"]
            assert not [item for item in items if item["verdict"] in ("gap", "expired", "missing")]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            instance.dispose()


def _alone(root, source):
    """Return the process of a run that is at nothing but this source."""
    for found in workers(root / "data"):
        if found.alive and [task.source for task in found.tasks] == [source]:
            return found
    return None


def _later(runs, than):
    return next((run for run in runs if run.tags["refresh/tick"] > than.tags["refresh/tick"]), None)
