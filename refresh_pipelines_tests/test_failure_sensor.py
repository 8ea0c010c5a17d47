"""Who is told about a failed run: by the run itself, and by the sensor when the run no longer could."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from refresh_pipelines.clock import utc_now
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.orchestration.unended import SILENCE
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED, Receiver, partitions


@pytest.fixture
def receiver(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        yield receiver


class Daemon:
    """Evaluates the sensor as the daemon does, carrying its cursor from tick to tick."""

    def __init__(self, bench):
        self.bench, self.cursor = bench, None
        self.tick()

    def tick(self):
        repository = self.bench.definitions().get_repository_def()
        context = dg.build_sensor_context(self.bench.instance, cursor=self.cursor, repository_def=repository)
        data = repository.get_sensor_def("failures").evaluate_tick(context)
        assert data.run_requests == []
        self.cursor = data.cursor
        return data.skip_message


def killed(bench, *keys, stage="merged", number=1):
    """Run in a process of its own that is killed when it reaches the stage for the nth time; return the run."""
    reached = []

    def progress(name):
        reached.append(name)
        if reached.count(stage) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def launch():
        bench.adjust = lambda tools: replace(tools, progress=progress)
        bench.launch("fred_fx", *keys)

    process = multiprocessing.get_context("fork").Process(target=launch)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    [run] = bench.instance.get_runs(limit=1)
    assert run.status is dg.DagsterRunStatus.STARTED
    return run


def test_a_failed_run_tells_itself_and_the_sensor_does_not_repeat_it(bench, receiver):
    daemon = Daemon(bench)
    bench.sandbox.override(FRED, b"no", status=403)
    result = bench.launch("fred_fx", "DEXUSEU", "DEXBZUS")
    [body] = receiver.delivered
    assert (body["source"], body["partition"], body["count"]) == ("fred_fx", "DEXUSEU, DEXBZUS", 2)
    assert (body["run_id"], body["error_class"]) == (result.run_id, "permanent")
    assert "HTTP 403" in body["message"]
    assert daemon.tick() == "1 new failures; status.json is current"
    assert len(receiver.received) == 1


def test_a_good_run_tells_nothing(bench, receiver):
    daemon = Daemon(bench)
    bench.launch("fred_fx", "DEXUSEU")
    assert daemon.tick() == "0 new failures; status.json is current"
    assert receiver.received == []


def test_a_killed_run_is_told_once_by_the_sensor(bench, receiver):
    daemon = Daemon(bench)
    run = killed(bench, "DEXUSEU")
    bench.instance.report_run_failed(run)
    daemon.tick()
    daemon.tick()
    [body] = receiver.delivered
    assert (body["run_id"], body["source"], body["partition"]) == (run.run_id, "fred_fx", "DEXUSEU")
    assert body["error_class"] == "interrupted"
    assert "killed" in body["message"]


def test_a_run_killed_after_some_of_its_partitions_is_told(bench, receiver):
    daemon = Daemon(bench)
    run = killed(bench, "DEXUSEU", "DEXMXUS", stage="staged", number=2)
    bench.instance.report_run_failed(run)
    daemon.tick()
    assert [body["partition"] for body in receiver.delivered] == ["DEXUSEU…DEXMXUS"]


def test_a_killed_run_that_dagster_launches_again_is_left_to_the_second_one(bench, receiver):
    daemon = Daemon(bench)
    run = killed(bench, "DEXUSEU")
    bench.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    bench.instance.report_run_failed(run)
    daemon.tick()
    assert receiver.received == []
    # What Dagster writes where it could not do so, because no code server was there.
    bench.instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    daemon.tick()
    daemon.tick()
    assert [(body["event"], body["error_class"]) for body in receiver.delivered] == [("incident.opened", "interrupted")]


def test_a_killed_run_leaves_nothing_that_stops_the_next_one(bench, receiver):
    killed(bench, "DEXUSEU")
    result = bench.launch("fred_fx", "DEXUSEU")
    assert result.success
    assert partitions(bench.good(result)) == ["DEXUSEU"]


def test_of_several_assets_in_a_run_only_the_failed_ones_are_told(bench, receiver):
    bench.environ["REFRESH_WEBHOOK_URL"] = ""
    bench.add("commodities/one", MINI)
    bench.add("commodities/two", MINI.replace("data.csv", "two.csv"))
    bench.sandbox.override("/example.org/two.csv", b"day,value\n2026-01-01,1\n")
    daemon = Daemon(bench)
    bench.launch(["one", "two"])
    bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
    daemon.tick()
    assert [body["source"] for body in receiver.delivered] == ["one"]


def test_after_a_run_over_several_assets_status_json_knows_what_became_of_each(bench):
    names = [f"s{number}" for number in range(5)]
    for name in names:
        bench.add(f"commodities/{name}", MINI.replace("data.csv", f"{name}.csv"))
        bench.sandbox.override(f"/example.org/{name}.csv", b"day,value\n2026-01-01,1\n")
    for _ in range(2):
        result = bench.launch(names)
        assert {bench.status()[name]["last_run_id"] for name in names} == {result.run_id}


def test_a_run_refused_for_a_missing_key_is_no_failure_to_tell(bench, receiver):
    daemon = Daemon(bench)
    bench.environ["FRED_API_KEY"] = ""
    bench.launch("fred_fx", "DEXUSEU")
    daemon.tick()
    assert receiver.received == []


def test_failures_from_before_the_first_tick_are_history(bench, receiver):
    bench.environ["REFRESH_WEBHOOK_URL"] = ""
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    (bench.settings.data_dir / "ops.sqlite").unlink()
    bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
    daemon = Daemon(bench)
    daemon.tick()
    assert receiver.received == []


def test_what_is_open_when_a_webhook_is_set_is_told_then(bench, receiver):
    bench.environ["REFRESH_WEBHOOK_URL"] = ""
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
    Daemon(bench).tick()
    assert [(body["event"], body["source"]) for body in receiver.delivered] == [("incident.opened", "fred_fx")]


def test_the_cursor_is_one_integer_that_only_grows(bench, receiver):
    daemon = Daemon(bench)
    before = daemon.cursor
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    daemon.tick()
    assert before == "0"
    assert int(daemon.cursor) > int(before)


def test_a_receiver_that_was_down_gets_the_notice_from_the_sensor(bench, receiver):
    daemon = Daemon(bench)
    bench.sandbox.override(FRED, b"no", status=403)
    receiver.status = 503
    bench.launch("fred_fx", "DEXUSEU")
    assert daemon.tick() == ("1 new failures; 1 waiting: the webhook answered HTTP 503; status.json is current")
    receiver.status = 200
    daemon.tick()
    assert len({body["event_id"] for _, _, body in receiver.received}) == 1
    assert len(receiver.delivered) == 1


def test_a_receiver_that_was_down_gets_the_notice_from_the_next_good_run(bench, receiver):
    bench.sandbox.override(FRED, b"no", status=403)
    receiver.status = 503
    bench.launch("fred_fx", "DEXUSEU")
    bench.sandbox.clear()
    receiver.status = 200
    bench.launch("fred_fx", "DEXBZUS")
    assert [body["partition"] for body in receiver.delivered] == ["DEXUSEU"]


def test_the_sensor_stays_where_it_is_when_the_outbox_cannot_be_written(bench, receiver):
    daemon = Daemon(bench)
    receiver.status = 503
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    outbox = bench.settings.data_dir / "ops.sqlite"
    outbox.unlink()
    outbox.mkdir()
    with pytest.raises(sqlite3.Error):
        daemon.tick()
    outbox.rmdir()
    receiver.status = 200
    daemon.tick()
    assert len(receiver.delivered) == 1


def test_without_a_webhook_log_and_sensor_say_that_nobody_was_told(bench):
    daemon = Daemon(bench)
    bench.sandbox.override(FRED, b"no", status=403)
    result = bench.launch("fred_fx", "DEXUSEU")
    log = [entry.user_message for entry in bench.instance.all_logs(result.run_id)]
    assert "Nobody was told: REFRESH_WEBHOOK_URL is not set." in log
    assert "nobody was told: REFRESH_WEBHOOK_URL is not set" in daemon.tick()
    assert bench.status()["fred_fx"]["incident"] == "permanent"


def test_status_file_shows_the_failure(bench):
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    item = bench.status()["fred_fx"]
    assert (item["incident"], item["last_outcome"], item["consecutive_failures"]) == ("permanent", "failed", 1)


def test_a_run_that_fell_silent_with_its_process_gone_is_ended_and_told(bench, receiver):
    daemon, spec = Daemon(bench), bench.spec("fred_fx")
    with freeze_time(utc_now() - SILENCE - timedelta(minutes=1)):
        tags = {**run_tags(spec, "schedule"), "dagster/partition": "DEXUSEU"}
        chosen = frozenset([key_of(spec)])
        begun = dg.DagsterRunStatus.STARTED
        run = create_run_for_test(bench.instance, status=begun, tags=tags, asset_selection=chosen)
        bench.instance.report_engine_event("Finished steps in process (pid: 4711)", run)
    assert f"run {run.run_id[:8]} ended: this run could not record how it ended" in daemon.tick()
    daemon.tick()
    assert [body["event"] for body in receiver.delivered] == ["incident.opened"]
    assert bench.launch("fred_fx", "DEXUSEU").success
    daemon.tick()
    assert [body["event"] for body in receiver.delivered] == ["incident.opened", "incident.recovered"]
