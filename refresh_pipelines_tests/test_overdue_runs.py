"""No schedule makes the check `fresh` a part of a refresh; what the UI launches is judged after it, and by itself."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from refresh_pipelines.decide import Request
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.schedules import run_request, source_schedule
from refresh_pipelines_tests.overdue_bench import DAYS, WHOLE, Watch, X, at

EACH = """\
description: a test
request:
  url: "https://example.org/{town}.csv"
  each: {town: [Oslo, Rome], on_error: keep_rest}
format: csv
columns: {town: {type: text, from: "{town}"}, day: {type: date}, value: {type: double}}
merge_key: [town, day]
schedule: {frequency: daily}
freshness: {checked: 36h}
"""
FRESH = dg.AssetCheckKey(X, "fresh")


@pytest.fixture(params=[WHOLE, DAYS, EACH], ids=["whole", "days", "each"])
def watch(request, bench):
    watch = Watch(bench, request.param)
    bench.sandbox.override("/example.org/data.csv", b"day,value\n2026-11-20,1\n")
    for town in ("Oslo", "Rome"):
        bench.sandbox.override(f"/example.org/{town}.csv", b"day,value\n2026-11-20,1\n")
    return watch


def started(bench, run_id):
    return {entry.step_key for entry in bench.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)}


def test_the_job_of_a_schedule_has_the_checks_of_its_own_step_and_not_fresh(watch):
    repository = watch.bench.definitions().get_repository_def()
    job = repository.get_job(repository.get_schedule_def("x_schedule").job_name)
    assert job.asset_layer.asset_graph.asset_check_keys == set(own_checks(watch.bench.spec("x")))
    assert FRESH in repository.asset_graph.asset_check_keys


def test_a_request_to_the_shared_job_names_the_checks_of_the_source_and_not_fresh(watch):
    spec = watch.bench.spec("x")
    request = Request(("2026-11-20",) if spec.partitions else (), "schedule", "key")
    shared = run_request(spec, at("2026-11-21T06:00"), request, selection=[key_of(spec)])
    assert {key.name for key in shared.asset_check_keys} == {
        "plausible",
        *(["complete"] if "town" in spec.columns else []),
    }
    assert run_request(spec, at("2026-11-21T06:00"), request).asset_check_keys is None


def test_a_schedule_of_the_shared_job_can_be_made(watch):
    spec, settings = watch.bench.spec("x"), watch.bench.settings
    schedule = source_schedule(spec, watch.bench.workshop, Reads([spec], settings, timedelta(0)), shared=True)
    assert schedule.job_name == "__ASSET_JOB"


def test_what_the_ui_launches_is_judged_when_it_is_loaded(watch):
    result = watch.bench.launch("x", *(["2026-11-20"] if watch.bench.spec("x").partitions else []))
    assert result.success
    assert len(watch.bench.good(result)) == 1
    assert started(watch.bench, result.run_id) == {"benin__x", "fresh"}
    assert [passed for passed, _ in watch.checks()] == [True]


def test_a_failed_refresh_from_the_ui_leaves_the_verdict_to_the_sensor(watch):
    watch.bench.sandbox.override("/example.org/data.csv", b"no", status=403)
    watch.bench.sandbox.override("/example.org/Oslo.csv", b"no", status=403)
    watch.bench.sandbox.override("/example.org/Rome.csv", b"no", status=403)
    watch.loaded("2026-11-20T06:05", *(["2026-11-19"] if watch.bench.spec("x").partitions else []))
    watch.tick("2026-11-20T07:00")
    result = watch.bench.launch("x", *(["2026-11-20"] if watch.bench.spec("x").partitions else []))
    assert not result.success
    watch.tick("2026-11-20T07:01")
    assert watch.newest() == {X: "fresh"}


def test_refresh_run_knows_no_fresh_at_all(watch):
    bench = watch.bench
    only = build_definitions(bench.settings, bench.catalogue(), only=["x"], workshop=bench.workshop)
    assert FRESH not in only.get_repository_def().asset_graph.asset_check_keys


def test_the_check_can_be_executed_by_itself_and_asks_what_the_sensor_asks(watch):
    bench = watch.bench
    bench.now = at("2026-11-21T18:06")
    watch.loaded("2026-11-18T06:05", *(["2026-11-17"] if bench.spec("x").partitions else []))
    job = bench.job().get_subset(asset_selection=set(), asset_check_selection={FRESH})
    assert job.execute_in_process(instance=bench.instance).success
    assert [passed for passed, _ in watch.checks()] == [False]
    assert "1 of 1 overdue" in watch.tick("2026-11-21T18:06")
    assert len(watch.checks()) == 1
