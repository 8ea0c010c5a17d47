"""Runs that wait in vain: they hold no tick up, and a probe or later try that expired is asked for again."""

from __future__ import annotations

import logging
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.test_utils import create_run_for_test, freeze_time
from dagster._daemon.monitoring.run_monitoring import monitor_starting_run

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.orchestration.expire import expire_runs
from refresh_pipelines.orchestration.incidents import Rules, failures_after, never_started
from refresh_pipelines.orchestration.internals import remote_origin
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines_tests.clockwork import utc
from refresh_pipelines_tests.knocking import REFUSED, Knocking
from refresh_pipelines_tests.upstream import Upstream

T0 = utc("2026-11-20T06:00")
MINUTE = timedelta(minutes=1)


def made(bench, status, trigger="schedule", at=T0):
    spec = bench.spec("fred_fx")
    with freeze_time(at):
        return create_run_for_test(
            bench.instance,
            status=status,
            tags={**run_tags(spec, trigger), "dagster/partition": "DEXUSEU"},
            asset_selection=frozenset([key_of(spec)]),
            remote_job_origin=remote_origin(),
        )


def held_up(bench, after):
    spec = bench.spec("fred_fx")
    return bool(Reads([spec], bench.settings).flights(bench.instance, spec, T0 + after))


@pytest.mark.parametrize(
    ("status", "after"),
    [("QUEUED", 60 * MINUTE), ("NOT_STARTED", 15 * MINUTE), ("STARTING", 15 * MINUTE)],
)
def test_a_run_that_will_not_begin_holds_a_tick_up_for_so_long(bench, status, after):
    made(bench, dg.DagsterRunStatus[status])
    assert held_up(bench, after)
    assert not held_up(bench, after + MINUTE)


def test_what_a_person_asked_for_counts_as_long_as_it_is_queued(bench):
    made(bench, dg.DagsterRunStatus.QUEUED, "manual")
    assert held_up(bench, timedelta(days=3))


def test_the_time_in_the_queue_is_no_time_of_starting(bench):
    run = made(bench, dg.DagsterRunStatus.QUEUED, "manual")
    with freeze_time(T0 + 50 * MINUTE):
        starting = DagsterEvent(dg.DagsterEventType.PIPELINE_STARTING.value, run.job_name)
        bench.instance.report_dagster_event(starting, run.run_id)
    spec = bench.spec("fred_fx")
    rules = Rules([spec], bench.settings)
    assert list(never_started(bench.instance, [spec], rules, T0 + 55 * MINUTE)) == []
    assert held_up(bench, 55 * MINUTE)
    [failure] = never_started(bench.instance, [spec], rules, T0 + 66 * MINUTE)
    assert failure.error_class == "not_started"
    assert not held_up(bench, 66 * MINUTE)


def test_dagster_ends_a_run_that_does_not_start_and_it_is_an_incident(bench):
    run = made(bench, dg.DagsterRunStatus.NOT_STARTED)
    record = bench.instance.get_run_record_by_id(run.run_id)
    with freeze_time(T0 + 4 * MINUTE):
        monitor_starting_run(bench.instance, record, logging.getLogger("monitoring"))
    assert bench.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    spec = bench.spec("fred_fx")
    [failure] = failures_after(bench.instance, 0, [spec], Rules([spec], bench.settings), T0 + 5 * MINUTE).failures
    assert (failure.error_class, failure.partitions) == ("not_started", ("DEXUSEU",))


@pytest.fixture
def knocking(tmp_path, empty_history):
    more = "schedule: {frequency: hourly, expire: 30m}\nretry: {attempts: 1, delay: 60s}\nbreaker: {failures: 2}"
    with Upstream(REFUSED) as upstream, Knocking(tmp_path, empty_history, upstream, more) as knocking:
        assert knocking.sense("2026-11-22T06:05") == []
        yield knocking


def expired(knocking, at):
    sources = load_catalogue([knocking.home.folder / "catalog"]).sources
    with freeze_time(utc(at)):
        return expire_runs(knocking.instance, list(sources.values()), utc(at))


def test_an_expired_probe_is_followed_by_another(knocking):
    for minute in (6, 7):
        knocking.log(f"2026-11-22T06:{minute:02}")
    [probe] = knocking.sense("2026-11-22T07:08")
    assert knocking.sense("2026-11-22T07:38") == []
    assert len(expired(knocking, "2026-11-22T07:39")) == 1
    [second] = knocking.sense("2026-11-22T08:09")
    assert [one.tags["refresh/probe"] for one in (probe, second)] == ["1", "2"]
    assert [one.tags["dagster/run_key"] for one in (probe, second)] == ["probe|a|1", "probe|a|2"]


def test_an_expired_later_try_is_asked_for_again(knocking):
    knocking.log("2026-11-22T06:06", error_class="transient")
    [first] = knocking.sense("2026-11-22T06:08")
    assert knocking.sense("2026-11-22T06:10") == []
    assert len(expired(knocking, "2026-11-22T06:39")) == 1
    [second] = knocking.sense("2026-11-22T06:41")
    assert second.tags["dagster/run_key"] == first.tags["dagster/run_key"] + "+"
    assert knocking.sense("2026-11-22T06:43") == []
