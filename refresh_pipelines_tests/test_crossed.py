"""Partitions of two dimensions, time and stations: ticks, runs, commands."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines_tests.dagster_bench import QUIET, partitions, values
from refresh_pipelines_tests.days import GRID, Days, days

FIRST, SECOND, THIRD = days("2024-01-01", 3)
STATIONS = ["north", "east", "west"]
LINES = ["x,1"]


@pytest.fixture
def upstream():
    with Days() as upstream:
        upstream.rows = dict.fromkeys(days("2024-01-01", 5), LINES)
        yield upstream


@pytest.fixture
def grid(bench, upstream):
    bench.add("benin/grid", GRID)
    bench.environ["REFRESH_UPSTREAM"] = upstream.base
    return bench


@pytest.fixture
def shell(home, upstream):
    home.add({"benin/grid.yaml": GRID})
    home.environ["REFRESH_UPSTREAM"] = upstream.base
    return home


def keys(*periods, stations=STATIONS):
    return [f"{period}|{station}" for period in periods for station in stations]


def tick(bench, at):
    bench.now = at
    repository = bench.definitions().get_repository_def()
    context = dg.build_schedule_context(bench.instance, scheduled_execution_time=at, repository_def=repository)
    return repository.get_schedule_def("grid_schedule").evaluate_tick(context).run_requests


def asked(upstream):
    return [(query["station"], query["start"]) for query in upstream.asked]


def shown(items):
    return [(item["partition"], item["outcome"]) for item in items]


def test_a_tick_requests_one_run_over_the_due_periods_times_all_stations_and_that_run_covers_them(grid, upstream):
    grid.edit("benin/grid", "column: day,", "column: day, lookback: 1,")
    [request] = tick(grid, datetime(2024, 1, 4, 6, tzinfo=timezone.utc))
    assert request.run_key == "2024-01-04T06:00:00Z|2024-01-03|west"
    assert request.partition_key is None
    assert request.tags["dagster/asset_partition_range_start"] == "2024-01-02|north"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-01-03|west"
    result = grid.job().execute_in_process(
        instance=grid.instance, asset_selection=[key_of(grid.spec("grid"))], tags=dict(request.tags), run_config=QUIET
    )
    assert partitions(grid.good(result)) == keys(SECOND, THIRD)
    assert {values(event)["refresh/trigger"] for event in grid.good(result)} == {"schedule"}
    assert asked(upstream) == [(station, period) for period in (SECOND, THIRD) for station in STATIONS]


def test_a_tick_before_the_first_period_is_over_requests_nothing(grid):
    assert tick(grid, datetime(2024, 1, 1, 6, tzinfo=timezone.utc)) == []


def test_each_partition_has_its_own_counts_and_rows(grid, upstream):
    upstream.rows[SECOND] = []
    grid.edit("benin/grid", "retry:", "expect: {min_rows: 0}\nretry:")
    events = grid.good(grid.launch("grid", f"{FIRST}|north", f"{SECOND}|west"))
    assert partitions(events) == keys(FIRST, SECOND)
    assert [values(event)["refresh/outcome"] for event in events] == ["loaded"] * 3 + ["empty"] * 3
    assert [values(event)["dagster/partition_row_count"] for event in events] == [1] * 3 + [0] * 3
    assert [values(event)["refresh/added"] for event in events] == [1] * 3 + [0] * 3


def test_one_station_that_is_not_there_fails_alone_and_is_named(grid, upstream):
    upstream.trouble["east"] = 404
    result = grid.launch("grid", f"{FIRST}|north", f"{SECOND}|west")
    [step] = grid.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert not result.success
    assert partitions(grid.good(result)) == keys(FIRST, SECOND, stations=["north", "west"])
    assert partitions(grid.bad(result)) == keys(FIRST, SECOND, stations=["east"])
    assert (
        "2 of 6 partitions failed: 2024-01-01|east, 2024-01-02|east"
        in step.dagster_event.step_failure_data.error.message
    )


def test_a_single_key_is_one_partition_and_one_request(grid, upstream):
    result = grid.launch("grid", f"{SECOND}|west")
    [event] = grid.good(result)
    assert (event.partition, values(event)["refresh/added"]) == (f"{SECOND}|west", 1)
    assert asked(upstream) == [("west", SECOND)]


def test_a_backfill_of_the_ui_is_one_run_over_its_range(grid):
    result = grid.launch("grid", f"{FIRST}|east", f"{THIRD}|west", dagster__backfill="abc")
    assert partitions(grid.good(result)) == keys(FIRST, SECOND, THIRD, stations=["east", "west"])
    assert values(grid.good(result)[0])["refresh/trigger"] == "backfill"


def test_a_range_of_stations_in_the_wrong_order_fails_and_says_so(grid, upstream):
    result = grid.launch("grid", f"{FIRST}|west", f"{FIRST}|north")
    assert not result.success
    assert upstream.asked == []


def test_a_period_alone_means_all_its_stations(shell):
    items = shell.items("run", "grid", "--partition", FIRST)
    assert shown(items) == [(key, "loaded") for key in keys(FIRST)]
    assert len({item["run_id"] for item in items}) == 1


def test_a_whole_key_means_one_station(shell, upstream):
    assert shown(shell.items("run", "grid", "--partition", f"{FIRST}|east")) == [(f"{FIRST}|east", "loaded")]
    assert asked(upstream) == [("east", FIRST)]


def test_a_range_of_periods_is_one_run_over_all_stations(shell):
    items = shell.items("run", "grid", "--from", FIRST, "--to", SECOND)
    assert shown(items) == [(key, "loaded") for key in keys(FIRST, SECOND)]
    assert len(shell.runs()) == 1


def test_a_range_of_whole_keys_is_one_run_over_one_station(shell, upstream):
    items = shell.items("run", "grid", "--from", f"{FIRST}|east", "--to", f"{THIRD}|east")
    assert shown(items) == [(key, "loaded") for key in keys(FIRST, SECOND, THIRD, stations=["east"])]
    assert len(shell.runs()) == 1
    assert {station for station, _ in asked(upstream)} == {"east"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", SECOND, "--to", FIRST], "--from 2024-01-02 comes after --to 2024-01-01"),
        (["--from", f"{SECOND}|east", "--to", f"{FIRST}|east"], "--from 2024-01-02|east comes after"),
        (["--from", f"{FIRST}|north", "--to", f"{SECOND}|west"], "must name the same static key"),
        (["--from", FIRST, "--to", f"{SECOND}|west"], "must name the same static key"),
        (["--partition", f"{FIRST}|south"], "names no station that is declared; keys look like 2024-01-01|north"),
        (["--partition", "2023-12-31"], "keys look like 2024-01-01|north"),
        (["--partition", "2023-12-31|west"], "lies before the first partition"),
        (["--partition", f"{FIRST}|"], "names no station"),
        (["--partition", "west"], "keys look like 2024-01-01|north"),
    ],
)
def test_what_is_no_range_is_a_usage_error_and_runs_nothing(shell, upstream, args, said):
    result = shell.refresh("run", "grid", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
    assert upstream.asked == []


def test_history_and_status_show_the_keys_and_how_they_ended(shell, upstream):
    upstream.trouble["west"] = 404
    assert shell.refresh("run", "grid", "--partition", FIRST).exit_code == 1
    assert sorted(shown(shell.items("history", "grid"))) == [
        (f"{FIRST}|east", "loaded"),
        (f"{FIRST}|north", "loaded"),
        (f"{FIRST}|west", "failed"),
    ]
    assert shown(shell.items("history", "grid", "--partition", f"{FIRST}|west")) == [(f"{FIRST}|west", "failed")]
    [item] = shell.items("status", "grid")
    # The upstream answered for the others, so the refresh as a whole is none of the failures in a row.
    assert (item["consecutive_failures"], item["incident"]) == (0, "permanent")
    assert "failing" in shell.refresh("status", "grid").stdout


def test_what_is_missing_is_found_in_the_whole_grid(shell, upstream):
    upstream.trouble["east"] = 404
    shell.refresh("run", "grid", "--from", FIRST, "--to", SECOND)
    upstream.trouble.clear()
    items = shell.items("run", "grid", "--missing", "--from", FIRST, "--to", THIRD)
    assert shown(items) == [(key, "loaded") for key in [*keys(FIRST, SECOND, stations=["east"]), *keys(THIRD)]]
    assert len({item["run_id"] for item in items}) == 2
