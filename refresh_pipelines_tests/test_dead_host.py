"""Two hundred sources of one host that is dead: slots, other sources' schedules, and what a person is told."""

from __future__ import annotations

import logging

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from refresh_pipelines_tests.clockwork import utc
from refresh_pipelines_tests.dagster_bench import QUIET, Receiver
from refresh_pipelines_tests.knocking import GOOD, SOURCE, Knocking
from refresh_pipelines_tests.upstream import Upstream, answer

# Two hundred runs, one after the other.
pytestmark = pytest.mark.e2e

MANY = 200
HOURLY = SOURCE + "schedule: {frequency: hourly}\nretry: {attempts: 1}\n"
RECORDING = "\nrun_launcher: {module: dagster._core.test_utils, class: MockedRunLauncher}\n"


def dead_or_alive(handler):
    handler.wfile.write(GOOD if handler.path.startswith("/alive.example/") else answer(b"no", 503))


@pytest.fixture
def herd(tmp_path, empty_history):
    """Two hundred sources of dead.example and one of alive.example, all due each hour; no run is launched for real."""
    with Upstream(dead_or_alive) as upstream, Receiver() as receiver:
        knocking = Knocking(tmp_path, empty_history, upstream, all_sensors=True, REFRESH_WEBHOOK_URL=receiver.url)
        (tmp_path / "catalog/benin/a.yaml").unlink()
        dead = {f"worldenergy/dead_{number:03}.yaml": _source("dead.example", number) for number in range(MANY)}
        knocking.home.add({**dead, "benin/alive.yaml": _source("alive.example", 0)})
        config = tmp_path / "dagster.yaml"
        config.write_text(config.read_text() + RECORDING)
        with knocking:
            knocking.receiver = receiver
            yield knocking


def _source(host, number):
    return HOURLY.replace("https://example.org/data.csv", f"https://{host}/{number}.csv")


def launched(herd, at):
    """Let the queue look at an instant; return the sources of what it has launched."""
    before = {run.run_id for run in herd.instance.run_launcher.queue()}
    with freeze_time(utc(at)):
        list(QueuedRunCoordinatorDaemon(1).run_iteration(herd.workspace, utc(at).timestamp()))
    return sorted(run.tags["refresh/source"] for run in herd.instance.run_launcher.queue() if run.run_id not in before)


def refresh(herd, runs, at):
    """Execute queued runs at an instant, all in one: a run of each has the same events and takes five times as long."""
    for run in runs:
        herd.instance.delete_run(run.run_id)
    with freeze_time(utc(at)):
        return (
            herd.repository()
            .get_implicit_global_asset_job_def()
            .execute_in_process(
                instance=herd.instance,
                asset_selection=[dg.AssetKey([run.tags["refresh/group"], run.tags["refresh/source"]]) for run in runs],
                raise_on_error=False,
                run_config=QUIET,
            )
        )


def test_one_notice_two_slots_and_everybody_else_on_time(herd):
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    herd.tick("2026-11-22T06:30:00")
    herd.sense("2026-11-22T06:30:00")
    herd.tick("2026-11-22T07:00:01")
    runs = {run.tags["refresh/source"]: run for run in herd.instance.get_runs()}
    assert len(runs) == MANY + 1
    first = launched(herd, "2026-11-22T07:00:05")
    assert len(first) == 3
    assert "alive" in first
    assert launched(herd, "2026-11-22T07:00:10") == []
    # The host hangs for hours: the source of the other one is refreshed at its next hour all the same.
    assert refresh(herd, [runs.pop("alive")], "2026-11-22T07:00:15").success
    herd.tick("2026-11-22T08:00:01")
    # Of the dead ones two were launched and never began, which by now holds no tick up.
    [again] = [run for run in herd.instance.get_runs(limit=3) if run.tags["refresh/source"] == "alive"]
    assert launched(herd, "2026-11-22T08:00:05") == ["alive"]
    assert refresh(herd, [again], "2026-11-22T08:00:15").success
    assert not refresh(herd, list(runs.values()), "2026-11-22T08:01:00").success
    for minute in (7, 15, 30):
        herd.sense(f"2026-11-22T08:{minute:02}:00")
    told = [(body["event"], body["source"], body.get("host")) for body in herd.receiver.delivered]
    assert told == [("incident.opened", None, "dead.example")]
    listed = [item for item in herd.items("alerts", "list") if item["item"] == "incident"]
    assert len(listed) == MANY + 1
    assert {item["state"] for item in listed} <= {"told", "told with others"}
