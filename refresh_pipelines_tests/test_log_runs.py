"""What runs, ticks and sensors leave in the log: each refresh begins and ends once, with its counts and its reason."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import dagster as dg
import pytest

from refresh_pipelines import log
from refresh_pipelines.breaker import State, Try
from refresh_pipelines.log import EVENTS
from refresh_pipelines.log.events import BASE
from refresh_pipelines.orchestration.breaker_news import BreakerNews
from refresh_pipelines.watch import NotReloaded, Watcher
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED, KEY, Receiver, at
from refresh_pipelines_tests.overdue_bench import WHOLE, Watch
from refresh_pipelines_tests.test_drop_sensor import Drops
from refresh_pipelines_tests.test_expire import queued
from refresh_pipelines_tests.test_failure_sensor import Daemon, killed
from refresh_pipelines_tests.test_runs_secrets import broken_inside
from refresh_pipelines_tests.workbench import NOW

BAD = f"{FRED}?series_id=DEXBZUS"


class Log:
    """The log of a bench. Whatever is read from it is declared, and holds no secret."""

    def __init__(self, bench):
        bench.environ |= {"REFRESH_LOG_FORMAT": "json", "REFRESH_LOG_LEVEL": "debug"}
        self.settings = bench.settings
        log.configure(self.settings)

    def all(self):
        text = Path(self.settings.log_file).read_text()
        assert KEY not in text
        records = [json.loads(line) for line in text.splitlines()]
        for record in records:
            kind = EVENTS[record["event"]]
            assert record["level"] in kind.levels, record
            assert record.keys() <= {*BASE, *kind.fields}, record
        return records

    def of(self, *names):
        return [record for record in self.all() if record["event"] in names]


@pytest.fixture
def written(bench):
    return Log(bench)


def said(record, *names):
    return tuple(record.get(name) for name in names)


def test_a_good_refresh_begins_and_ends_with_its_counts_and_seconds(bench, written):
    result = bench.launch("fred_fx", "DEXUSEU", refresh__trigger="catch_up")
    started, ended = written.all()
    about = ("fred_fx", "commodities", "DEXUSEU", result.run_id, "catch_up", 1)
    for record, event in ((started, "refresh.started"), (ended, "refresh.ended")):
        assert record["event"] == event
        assert said(record, "source", "group", "partition", "run_id", "trigger", "attempt") == about
    assert said(ended, "level", "outcome", "fetched", "added", "updated", "filtered") == (
        "info",
        "loaded",
        24,
        24,
        0,
        1,
    )
    assert ended["bytes"] > 1000
    assert len(ended["sha256"]) == 64
    parts = [ended[f"seconds_{name}"] for name in ("fetch", "parse", "load", "wait")]
    assert ended["seconds"] == pytest.approx(sum(parts), abs=0.01)
    assert ended["message"].startswith("commodities/fred_fx[DEXUSEU]: loaded, fetched 24")


def test_each_partition_of_a_run_ends_once_with_its_own_verdict(bench, written):
    bench.sandbox.override(BAD, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    ended = written.of("refresh.ended")
    assert sorted(said(record, "partition", "outcome", "level") for record in ended) == [
        ("DEXBZUS", "failed", "error"), ("DEXMXUS", "loaded", "info"), ("DEXUSEU", "loaded", "info"),
    ]  # fmt: skip


def test_a_try_that_is_made_again_is_no_end(retrying):
    written = Log(retrying)
    retrying.sandbox.override(FRED, b"no", status=503)
    retrying.launch("fred_fx", "DEXUSEU")
    events = [record for record in written.all() if record["event"].startswith("refresh.")]
    assert [said(record, "event", "level", "attempt") for record in events] == [
        ("refresh.started", "info", 1), ("refresh.retried", "warning", 1),
        ("refresh.started", "info", 2), ("refresh.ended", "error", 2),
    ]  # fmt: skip
    assert said(events[1], "error_class", "attempts", "partition") == ("transient", 2, "DEXUSEU")
    assert said(events[3], "outcome", "error_class") == ("failed", "transient")
    assert "HTTP 503" in events[3]["message"]
    assert "UpstreamUnavailable" in events[3]["traceback"]


def test_a_defect_has_its_traceback_without_the_credential(bench, written):
    bench.environ["FRED_API_KEY"] = KEY
    broken_inside(bench)
    bench.launch("fred_fx", "DEXUSEU")
    [ended] = written.of("refresh.ended")
    assert said(ended, "error_class", "level") == ("internal", "error")
    assert "RuntimeError: https://api.stlouisfed.org/?api_key=***" in ended["traceback"]
    assert "\n" in ended["traceback"]


def test_a_cancelled_run_ends_as_interrupted(bench, written):
    bench.adjust = at("fetched", lambda: os.kill(os.getpid(), signal.SIGTERM))
    bench.launch("fred_fx", "DEXUSEU")
    [ended] = written.of("refresh.ended")
    assert said(ended, "outcome", "error_class") == ("failed", "interrupted")


def test_a_run_without_its_key_ends_as_blocked_and_is_no_trouble(bench, written):
    bench.environ["FRED_API_KEY"] = ""
    bench.launch("fred_fx", "DEXUSEU")
    [ended] = written.all()
    assert said(ended, "event", "outcome", "level") == ("refresh.ended", "blocked", "info")
    assert "set FRED_API_KEY" in ended["message"]


def test_that_nobody_is_told_is_said_once(bench, written):
    bench.sandbox.override(FRED, b"no", status=403)
    for _ in range(2):
        bench.launch("fred_fx", "DEXUSEU")
    [nobody] = written.of("notice.nobody")
    assert said(nobody, "source", "route", "level") == ("fred_fx", "default", "warning")


def test_an_incident_and_its_notices_are_followed_by_one_id(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        written, receiver.status = Log(bench), 500
        bench.sandbox.override(FRED, b"no", status=403)
        bench.launch("fred_fx", "DEXUSEU")
        receiver.status = 200
        bench.sandbox.clear()
        bench.launch("fred_fx", "DEXUSEU")
    told = written.of("incident.opened", "notice.waiting", "notice.delivered", "incident.recovered")
    assert [record["event"] for record in told] == [
        "incident.opened", "notice.waiting", "incident.recovered", "notice.delivered", "notice.delivered",
    ]  # fmt: skip
    assert len({record["incident_id"] for record in told}) == 1
    assert [said(told[n], "http_status", "notice") for n in (1, 3, 4)] == [
        (500, "incident.opened"), (200, "incident.opened"), (200, "incident.recovered"),
    ]  # fmt: skip
    assert said(told[0], "source", "error_class", "count") == ("fred_fx", "permanent", 1)
    assert told[2]["rows"] == 24
    assert "pathsecret" not in Path(written.settings.log_file).read_text()


def test_a_killed_run_is_logged_by_the_sensor_once(bench, written):
    daemon = Daemon(bench)
    run = killed(bench, "DEXUSEU")
    bench.instance.report_run_failed(run)
    daemon.tick()
    daemon.tick()
    [broke] = written.of("run.broke_off")
    assert said(broke, "source", "run_id", "partition", "level") == ("fred_fx", run.run_id, "DEXUSEU", "error")
    assert [record["event"] for record in written.all()].count("refresh.ended") == 0


def test_a_tick_says_what_it_asks_for_or_why_it_does_not(bench, written):
    bench.now = NOW

    def tick():
        repository = bench.definitions().get_repository_def()
        schedule = repository.get_schedule_def("fred_fx_schedule")
        context = dg.build_schedule_context(bench.instance, scheduled_execution_time=NOW, repository_def=repository)
        schedule.evaluate_tick(context)

    tick()
    [asked] = written.of("tick.requested")
    assert said(asked, "by", "source", "trigger", "due_at") == (
        "fred_fx_schedule", "fred_fx", "schedule", "2026-11-22T12:00:00+00:00",
    )  # fmt: skip
    assert asked["partition"].startswith("DEXUSEU...")
    bench.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    tick()
    [skipped] = written.of("tick.skipped")
    assert said(skipped, "by", "reason") == ("fred_fx_schedule", "REFRESH_SCHEDULES_ENABLED is false")


def test_a_breaker_is_said_to_open_and_to_close_once_whoever_looks(bench, written):
    spec = bench.spec("fred_fx")
    last = Try("r", NOW, "schedule", "permanent", "HTTP 403")
    opened = State("open", 5, NOW, last, 0, NOW)
    for state in (State(), opened, opened, State("half_open", 6, NOW, last, 1, NOW), State(), State()):
        for news in (BreakerNews(bench.settings), BreakerNews(bench.settings)):
            news.say({"fred_fx": spec}, {"fred_fx": state})
    breakers = written.of("breaker.opened", "breaker.closed")
    assert [said(one, "event", "source", "failures", "error_class") for one in breakers] == [
        ("breaker.opened", "fred_fx", 5, "permanent"), ("breaker.closed", "fred_fx", None, None),
    ]  # fmt: skip
    assert breakers[0]["since"] == "2026-11-22T12:00:00+00:00"


def test_dagsters_own_log_of_a_run_is_as_it_was(bench, written):
    result = bench.launch("fred_fx", "DEXUSEU")
    lines = [entry.user_message for entry in bench.instance.all_logs(result.run_id) if entry.dagster_event is None]
    assert any(line.startswith("commodities/fred_fx[DEXUSEU]: loaded, fetched 24") for line in lines)
    assert not any("refresh.ended" in line for line in lines)


def test_the_watcher_says_what_it_saw_and_whether_it_is_live(bench, written):
    answers = [NotReloaded("Dagster says: no", again=True), None]
    watcher = Watcher(lambda: bench.settings, lambda: answers.pop(0), lambda _: None)
    bench.add("benin/broken", MINI + "nonsense: 1\n")
    for _ in range(3):
        watcher.step()
    broken, not_yet, live = written.of("catalogue.broken", "catalogue.not_reloaded", "catalogue.reloaded")
    assert broken["file"].endswith("benin/broken.yaml")
    assert "nonsense" in broken["message"]
    assert said(not_yet, "message", "again") == ("Dagster says: no", True)
    assert live["problems"] == len(written.of("catalogue.broken")) == 1


def test_new_files_are_found_and_asked_for_and_nothing_new_is_said_at_debug(bench, written):
    drops = Drops(bench)
    drops.put("a.csv", ("2026-11-22", 1))
    drops.put("b.csv", ("2026-11-22", 2))
    for _ in range(3):
        drops.tick()
    found, asked = written.of("drop.found", "tick.requested")
    assert said(found, "source", "files", "days") == ("survey", 2, ["2026-11-22"])
    assert said(asked, "by", "partition", "trigger") == ("survey_files", "2026-11-22", "sensor")
    assert {said(record, "by", "level") for record in written.of("tick.skipped")} == {("survey_files", "debug")}


def test_a_run_that_waited_too_long_is_said_to_have_expired(bench, written):
    watch = Watch(bench, WHOLE)
    run_id = queued(watch, "2026-11-20T06:00")
    watch.tick("2026-11-20T07:01")
    [expired] = written.of("run.expired")
    assert said(expired, "source", "run_id", "trigger", "due_at") == ("x", run_id, "schedule", "2026-11-20T06:00:00Z")
