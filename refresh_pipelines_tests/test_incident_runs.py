"""Incidents of real runs and ticks: opened by the run, ended by the run, and by the sensor what no run could tell."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from refresh_pipelines.orchestration.incidents import STARTING
from refresh_pipelines.orchestration.internals import IMPLICIT_ASSET_JOB, cancel_run, remote_origin
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import EXPIRED, run_tags
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED, Receiver

WHOLE = MINI.replace("{frequency: daily}", '{frequency: daily, time: "06:00"}') + "freshness: {checked: 36h}\n"
GOOD = b"day,value\n2026-01-01,1\n"


class Daemon:
    """The sensor `failures`, at times that a test names, with one process' memory between restarts."""

    def __init__(self, bench, first=True):
        self.bench, self.cursor = bench, None
        self.restart()
        if first:
            self.tick()

    def restart(self):
        self.repository = self.bench.definitions().get_repository_def()

    def tick(self, at=None):
        self.bench.now = at
        context = dg.build_sensor_context(self.bench.instance, cursor=self.cursor, repository_def=self.repository)
        self.cursor = self.repository.get_sensor_def("failures").evaluate_tick(context).cursor


@pytest.fixture
def receiver(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        yield receiver


def told(receiver):
    return [
        (body["event"].removeprefix("incident."), body["source"], body["error_class"]) for body in receiver.delivered
    ]


def now():
    return datetime.now(timezone.utc)


def test_five_failures_and_a_success_are_one_opening_and_one_recovery_without_a_daemon(bench, receiver):
    bench.sandbox.override(FRED, b"no", status=403)
    for _ in range(5):
        bench.launch("fred_fx", "DEXUSEU")
    assert told(receiver) == [("opened", "fred_fx", "permanent")]
    bench.sandbox.clear()
    result = bench.launch("fred_fx", "DEXUSEU")
    assert told(receiver)[1:] == [("recovered", "fred_fx", "permanent")]
    opened, recovered = receiver.delivered
    assert opened["incident_id"] == recovered["incident_id"]
    [event] = bench.good(result)
    assert recovered["rows"] == event.metadata["refresh/added"].value > 0
    assert (recovered["run_id"], recovered["count"]) == (result.run_id, 5)
    assert recovered["duration_seconds"] >= 0


def test_the_first_notice_comes_with_the_run_that_alerts_after_names(bench, receiver):
    bench.edit("commodities/fred_fx", "freshness:", "alerts: {after: 3}\nfreshness:")
    bench.sandbox.override(FRED, b"no", status=403)
    counts = []
    for _ in range(4):
        bench.launch("fred_fx", "DEXUSEU")
        counts.append(len(receiver.delivered))
    assert counts == [0, 0, 1, 1]
    assert receiver.delivered[0]["count"] == 3


def test_a_recovery_that_the_run_could_not_tell_is_told_by_the_sensor_once(bench, receiver):
    daemon = Daemon(bench)
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU")
    asset, metadata = key_of(bench.spec("fred_fx")), {"refresh/outcome": "loaded", "refresh/added": 5}
    event = dg.AssetMaterialization(asset, partition="DEXUSEU", metadata=metadata)
    bench.instance.report_runless_asset_event(event)
    daemon.tick()
    daemon.restart()
    daemon.tick()
    assert told(receiver) == [("opened", "fred_fx", "permanent"), ("recovered", "fred_fx", "permanent")]
    assert receiver.delivered[1]["rows"] == 5


def test_a_daemon_that_starts_again_from_an_old_cursor_tells_nothing_twice(bench, receiver):
    daemon = Daemon(bench)
    old = daemon.cursor
    bench.sandbox.override(FRED, b"no", status=403)
    for _ in range(2):
        bench.launch("fred_fx", "DEXUSEU")
    bench.instance.report_run_failed(queued(bench))
    for _ in range(2):
        daemon.cursor = old
        daemon.restart()
        daemon.tick()
    kinds = [("opened", "fred_fx", "permanent"), ("opened", "fred_fx", "not_started")]
    assert told(receiver) == kinds
    assert len({body["event_id"] for _, _, body in receiver.received}) == len(receiver.received) == 2


def test_a_run_that_waited_too_long_is_an_incident_and_one_that_a_person_cancelled_is_none(bench, receiver):
    daemon = Daemon(bench)
    for marked in (True, False):
        run = queued(bench)
        cancel_run(bench.instance, run.run_id, "queued too long")
        if marked:
            bench.instance.add_run_tags(run.run_id, {EXPIRED: "2026-11-22T12:00:00+00:00"})
    daemon.tick()
    assert told(receiver) == [("opened", "fred_fx", "expired")]
    assert receiver.delivered[0]["partition"] == "DEXUSEU"


def test_a_run_that_never_started_is_an_incident_once_and_ends_with_the_next_good_one(bench, receiver):
    daemon = Daemon(bench)
    with freeze_time(now() - STARTING - timedelta(minutes=1)):
        run = queued(bench, dg.DagsterRunStatus.STARTING)
    daemon.tick()
    bench.instance.report_run_failed(bench.instance.get_run_by_id(run.run_id))
    daemon.tick()
    assert told(receiver) == [("opened", "fred_fx", "not_started")]
    bench.launch("fred_fx", "DEXUSEU")
    assert told(receiver)[1:] == [("recovered", "fred_fx", "not_started")]


def test_a_launch_that_failed_is_a_run_that_never_started(bench, receiver):
    daemon = Daemon(bench)
    bench.instance.report_run_failed(queued(bench))
    daemon.tick()
    assert told(receiver) == [("opened", "fred_fx", "not_started")]


def queued(bench, status=dg.DagsterRunStatus.QUEUED):
    spec = bench.spec("fred_fx")
    tags = {**run_tags(spec, "schedule"), "dagster/partition": "DEXUSEU"}
    selection = frozenset([key_of(spec)])
    return create_run_for_test(
        bench.instance,
        IMPLICIT_ASSET_JOB,
        status=status,
        tags=tags,
        asset_selection=selection,
        remote_job_origin=remote_origin(),
    )


@pytest.fixture
def only(bench):
    """Return the bench with the source `benin/x` alone."""
    for path in (bench.folder / "catalog").rglob("*.yaml"):
        path.unlink()
    bench.add("benin/x", WHOLE)
    bench.sandbox.override("/example.org/data.csv", GOOD)
    return bench


def test_being_overdue_is_told_reminded_of_and_ended(only, receiver):
    only.launch("x")
    daemon, loaded_at = Daemon(only), now()
    daemon.tick(loaded_at + timedelta(days=3))
    daemon.tick(loaded_at + timedelta(days=3, hours=1))
    assert told(receiver) == [("opened", "x", "overdue")]
    assert "has not been refreshed since" in receiver.delivered[0]["message"]
    daemon.tick(loaded_at + timedelta(days=4, hours=1))
    assert told(receiver)[1:] == [("reminder", "x", "overdue")]
    daemon.tick(loaded_at + timedelta(minutes=1))
    assert told(receiver)[2:] == [("recovered", "x", "overdue")]


def test_the_first_start_tells_nothing_of_what_is_overdue_already(only, receiver):
    only.launch("x")
    daemon = Daemon(only, first=False)
    for hours in range(3):
        daemon.tick(now() + timedelta(days=3, hours=hours))
    assert receiver.received == []


def test_an_open_breaker_is_no_second_notice_and_one_that_outlives_the_incident_is(only, receiver):
    only.edit("benin/x", "freshness: {checked: 36h}", "breaker: {failures: 2}\nalerts: {after: 9}")
    daemon = Daemon(only)
    only.sandbox.override("/example.org/data.csv", b"no", status=403)
    for _ in range(2):
        only.launch("x")
    daemon.tick(now())
    assert told(receiver) == [("opened", "x", "breaker")]
    assert "breaker open since" in receiver.delivered[0]["message"]
    only.sandbox.override("/example.org/data.csv", GOOD)
    only.launch("x")
    daemon.tick(now())
    assert told(receiver)[1:] == [("recovered", "x", "breaker")]


def test_a_paused_source_is_not_reminded_of(only, receiver):
    only.sandbox.override("/example.org/data.csv", b"no", status=403)
    daemon = Daemon(only)
    only.launch("x")
    only.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    daemon.restart()
    daemon.tick(now() + timedelta(days=2))
    assert told(receiver) == [("opened", "x", "permanent")]
    only.environ["REFRESH_SCHEDULES_ENABLED"] = "true"
    daemon.restart()
    daemon.tick(now() + timedelta(days=2))
    assert told(receiver)[1:] == [("reminder", "x", "permanent")]


def test_sources_of_one_host_are_told_together_by_the_sensor_and_end_together(only, receiver):
    for name in ("y", "z"):
        only.add(f"benin/{name}", WHOLE)
    daemon = Daemon(only)
    only.sandbox.override("/example.org/data.csv", b"no", status=403)
    only.launch(["x", "y", "z"])
    assert receiver.received == []
    daemon.tick(now() + timedelta(minutes=6))
    [body] = receiver.delivered
    assert (body["source"], body["host"], body["count"], body["sources"]) == (None, "example.org", 3, ["x", "y", "z"])
    assert "3 sources of example.org: x, y, z" in body["message"]
    only.now = None
    only.sandbox.override("/example.org/data.csv", GOOD)
    only.launch(["x", "y", "z"])
    assert [body["event"] for body in receiver.delivered[1:]] == ["incident.recovered"]
    assert receiver.delivered[1]["rows"] == 3
