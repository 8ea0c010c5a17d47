"""`partitions.initial`: whether a schedule also loads what was never loaded, and how much of it at once."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.internals import remote_origin
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.ranges import between
from refresh_pipelines.window import partition_keys
from refresh_pipelines_tests.days import DAYS, GRID, days

AT = datetime(2024, 3, 1, 6, tzinfo=timezone.utc)
ALL = days("2024-01-01", 60)
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def declared(text, *more):
    """Have a source load its history, and be due at the time of the ticks here."""
    partitions = ", ".join(["column: day", "initial: all", *more])
    return text.replace("column: day", partitions).replace("daily}", 'daily, time: "06:00"}')


@pytest.fixture
def daily(bench):
    bench.add(
        "benin/days",
        DAYS.replace("column: day", "column: day, initial: all, lookback: 1").replace(
            "daily}", 'daily, time: "06:00"}'
        ),
    )
    bench.now = AT
    return bench


def tick(bench, source="days"):
    repository = bench.definitions().get_repository_def()
    context = dg.build_schedule_context(bench.instance, scheduled_execution_time=AT, repository_def=repository)
    return repository.get_schedule_def(f"{source}_schedule").evaluate_tick(context).run_requests


def covered(bench, requests, source="days"):
    """Return the first and last key of each request."""
    return [
        (request.tags[START], request.tags[END]) if START in request.tags else (request.partition_key,) * 2
        for request in requests
    ]


def load(bench, *keys, source="days"):
    """Have the event log say that these were loaded."""
    for key in keys:
        bench.instance.report_runless_asset_event(
            dg.AssetMaterialization(key_of(bench.spec(source)), partition=key),
        )


def running(bench, status=dg.DagsterRunStatus.STARTED, source="days", keys=(ALL[0], ALL[30])):
    tags = {**run_tags(bench.spec(source), "catch_up"), START: keys[0], END: keys[1]}
    job = bench.definitions().get_repository_def().get_implicit_global_asset_job_def()
    return bench.instance.create_run_for_job(job, tags=tags, status=status, remote_job_origin=remote_origin())


def test_a_tick_also_requests_the_oldest_month_that_was_never_loaded(daily):
    requests = tick(daily)
    assert covered(daily, requests) == [(ALL[-2], ALL[-1]), (ALL[0], ALL[30])]
    assert [request.run_key for request in requests] == [
        "2024-03-01T06:00:00Z|2024-02-29",
        "2024-03-01T06:00:00Z|2024-01-31",
    ]
    assert [request.tags["refresh/trigger"] for request in requests] == ["schedule", "catch_up"]


def test_holes_are_runs_of_their_own_and_together_no_more_than_a_month(daily):
    load(daily, ALL[1], ALL[4])
    assert covered(daily, tick(daily)) == [
        (ALL[-2], ALL[-1]),
        (ALL[0], ALL[0]),
        (ALL[2], ALL[3]),
        (ALL[5], ALL[32]),
    ]


def test_ticks_come_to_an_end_of_what_is_missing(daily):
    spec, history = daily.spec("days"), []
    for _ in range(3):
        history.append(covered(daily, tick(daily))[1:])
        for first, last in history[-1]:
            load(daily, *between(spec, partition_keys(spec, AT), first, last))
    assert history == [[(ALL[0], ALL[30])], [(ALL[31], ALL[57])], []]


def test_periods_that_fail_again_and_again_do_not_hold_back_the_later_ones(daily):
    asset, history = key_of(daily.spec("days")), []
    for _ in range(3):
        history.append(covered(daily, tick(daily))[1:])
        for first, last in history[-1]:
            for key in ALL[ALL.index(first) : ALL.index(last) + 1]:
                daily.instance.report_runless_asset_event(dg.AssetObservation(asset, partition=key))
    first, second, third = history
    assert first == [(ALL[0], ALL[30])]
    assert second == [(ALL[0], ALL[3]), (ALL[31], ALL[57])]
    assert third == [(ALL[0], ALL[30])]  # the longest ago


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED])
def test_no_more_than_a_month_is_under_way_at_once(daily, status):
    running(daily, status)
    assert covered(daily, tick(daily)) == [(ALL[-2], ALL[-1])]


def test_what_is_under_way_is_not_requested_again(daily):
    running(daily, keys=(ALL[0], ALL[9]))
    assert covered(daily, tick(daily)) == [(ALL[-2], ALL[-1]), (ALL[10], ALL[30])]


def test_a_run_that_has_ended_or_of_another_source_holds_nothing_back(daily):
    daily.add("benin/others", DAYS)
    running(daily, dg.DagsterRunStatus.FAILURE)
    running(daily, source="others")
    assert len(tick(daily)) == 2


def test_newest_requests_what_is_due_and_no_history(daily):
    daily.edit("benin/days", "initial: all", "initial: newest")
    assert covered(daily, tick(daily)) == [(ALL[-2], ALL[-1])]


def test_newest_is_what_holds_when_nothing_is_said(daily):
    daily.edit("benin/days", "initial: all, ", "")
    assert covered(daily, tick(daily)) == [(ALL[-2], ALL[-1])]


def test_with_stations_a_month_counts_periods_and_each_run_is_a_rectangle(bench):
    bench.add(
        "benin/grid",
        GRID.replace("column: day", "column: day, initial: all").replace("daily}", 'daily, time: "06:00"}'),
    )
    bench.now = AT
    load(bench, "2024-01-02|east", source="grid")
    requests = tick(bench, "grid")
    assert covered(bench, requests) == [
        ("2024-02-29|north", "2024-02-29|west"),
        ("2024-01-01|north", "2024-01-01|west"),
        ("2024-01-02|north", "2024-01-02|north"),
        ("2024-01-02|west", "2024-01-02|west"),
        ("2024-01-03|north", "2024-01-31|west"),
    ]
    assert len({request.run_key for request in requests}) == 5
