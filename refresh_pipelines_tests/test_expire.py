"""Runs that wait in the queue: how long, whose, and what is left of one that waited too long."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, freeze_time

from refresh_pipelines.orchestration.internals import remote_origin
from refresh_pipelines.orchestration.tags import EXPIRED
from refresh_pipelines_tests.overdue_bench import WHOLE, Watch, at

QUEUED = dg.DagsterRunStatus.QUEUED


@pytest.fixture
def watch(bench):
    return Watch(bench, WHOLE)


def queued(watch, when, trigger="schedule", status=QUEUED, source="x"):
    tags = {"refresh/source": source, "refresh/trigger": trigger, "refresh/tick": "2026-11-20T06:00:00Z"}
    with freeze_time(at(when)):
        made = create_run_for_test(watch.bench.instance, status=status, tags=tags, remote_job_origin=remote_origin())
        return made.run_id


def run(watch, run_id):
    return watch.bench.instance.get_run_by_id(run_id)


def test_a_run_that_waited_longer_than_an_hour_is_cancelled_tagged_and_named(watch):
    run_id = queued(watch, "2026-11-20T06:00")
    assert "expired" not in watch.tick("2026-11-20T07:00")
    said = watch.tick("2026-11-20T07:01")
    assert said == (
        f"0 of 1 overdue; expired in the queue: run {run_id[:8]} of benin/x, tick 2026-11-20T06:00:00Z, "
        "queued longer than schedule.expire 1h allows"
    )
    assert run(watch, run_id).status is dg.DagsterRunStatus.CANCELED
    assert run(watch, run_id).tags[EXPIRED] == "2026-11-20T07:01:00+00:00"
    log = [entry.message for entry in watch.bench.instance.all_logs(run_id)]
    assert any("benin/x: queued longer than schedule.expire 1h allows" in line for line in log)
    assert "expired" not in watch.tick("2026-11-20T07:02")


def test_a_source_says_how_long_its_runs_may_wait(watch):
    watch.bench.edit("benin/x", 'time: "06:00"', 'time: "06:00", expire: 3h')
    run_id = queued(watch, "2026-11-20T06:00")
    watch.tick("2026-11-20T09:00")
    assert run(watch, run_id).status is QUEUED
    assert "expired" in watch.tick("2026-11-20T09:01")


def test_catch_up_runs_probes_and_later_tries_expire_and_those_of_people_and_backfills_wait(watch):
    late = [queued(watch, "2026-11-20T06:00", trigger) for trigger in ("catch_up", "probe", "retry")]
    others = [queued(watch, "2026-11-20T06:00", trigger) for trigger in ("manual", "backfill", "sensor")]
    watch.tick("2026-11-20T12:00")
    assert {run(watch, one).status for one in late} == {dg.DagsterRunStatus.CANCELED}
    assert {run(watch, one).status for one in others} == {QUEUED}


def test_a_run_that_has_begun_is_left_alone_however_long_it_takes(watch):
    begun = [queued(watch, "2026-11-20T06:00", status=dg.DagsterRunStatus[name]) for name in ("STARTING", "STARTED")]
    assert "expired" not in watch.tick("2026-11-20T12:00")
    assert not any(run(watch, one).is_finished for one in begun)


def test_runs_of_sources_that_are_gone_are_left_alone(watch):
    run_id = queued(watch, "2026-11-20T06:00", source="gone")
    watch.tick("2026-11-20T12:00")
    assert run(watch, run_id).status is QUEUED
