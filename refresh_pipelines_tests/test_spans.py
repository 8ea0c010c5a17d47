"""One request for neighbouring partitions (`request.span`): each has its own verdict all the same."""

from __future__ import annotations

import os
import resource
import signal

import dagster as dg
import pytest

from refresh_pipelines.exclusive import exclusive_all
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.outcome import Counts
from refresh_pipelines.refresh_range import refresh_range
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.dagster_bench import Receiver, at, partitions, values, version
from refresh_pipelines_tests.days import DAYS, GRID, Days, days
from refresh_pipelines_tests.workbench import table_of

# Across the leap day.
WEEK = days("2024-02-26", 7)


@pytest.fixture
def upstream(bench):
    bench.add("benin/days", DAYS)
    with Days(WEEK) as upstream:
        bench.environ["REFRESH_UPSTREAM"] = upstream.base
        yield upstream


def launch(bench, keys=WEEK, **more):
    return bench.launch("days", *keys[:: len(keys) - 1], **more)


def counts(event):
    told = values(event)
    return Counts(**{name: told[f"refresh/{name}"] for name in Counts.__dataclass_fields__})


def messages(bench, result):
    return {values(event)["refresh/message"] for event in bench.bad(result)}


def log(bench, result):
    return [entry.user_message for entry in bench.instance.all_logs(result.run_id)]


def test_one_request_serves_a_run_and_each_partition_has_its_own_event(bench, upstream):
    upstream.rows[WEEK[1]].append("c,5")
    result = launch(bench)
    events = bench.good(result)
    assert result.success
    assert upstream.spans == [("2024-02-26", "2024-03-04")]
    assert partitions(events) == WEEK
    assert [counts(event) for event in events[:3]] == [Counts(fetched=n, added=n) for n in (2, 3, 2)]
    assert [values(event)["dagster/partition_row_count"] for event in events[:3]] == [2, 3, 2]
    assert all(counts(event).balanced() for event in events)
    assert len({version(event) for event in events}) == 7
    assert bench.bad(result) == []


def test_no_request_serves_more_than_the_span(bench, upstream):
    bench.edit("benin/days", "span: 400", "span: 3")
    assert partitions(bench.good(launch(bench))) == WEEK
    assert upstream.spans == [(WEEK[0], WEEK[3]), (WEEK[3], WEEK[6]), (WEEK[6], "2024-03-04")]


def test_the_same_again_changes_nothing_and_commits_nothing(bench, upstream):
    first = bench.good(launch(bench))
    warehouse = bench.settings.data_dir / "warehouse.duckdb"
    written = warehouse.stat().st_mtime_ns
    again = bench.good(launch(bench))
    assert [values(event)["refresh/outcome"] for event in again] == ["unchanged"] * 7
    assert [version(event) for event in again] == [version(event) for event in first]
    assert warehouse.stat().st_mtime_ns == written


def test_only_the_days_that_differ_are_loaded(bench, upstream):
    launch(bench)
    upstream.rows[WEEK[3]] = ["a,100", "d,4"]
    events = bench.good(launch(bench))
    assert [values(event)["refresh/outcome"] == "loaded" for event in events] == [day == WEEK[3] for day in WEEK]
    assert counts(events[3]) == Counts(fetched=2, added=1, updated=1, deleted=1)
    rows = [
        row[1:3] for row in table_of(bench.settings.data_dir / "warehouse.duckdb", "days") if str(row[0]) == WEEK[3]
    ]
    assert rows == [("a", 100), ("d", 4)]


def test_a_day_without_rows_fails_alone_where_rows_are_expected(bench, upstream):
    upstream.rows[WEEK[2]] = []
    result = launch(bench)
    assert not result.success
    assert partitions(bench.good(result)) == [day for day in WEEK if day != WEEK[2]]
    assert partitions(bench.bad(result)) == [WEEK[2]]
    assert any("benin/days[2024-02-28]: the payload holds too few rows" in text for text in messages(bench, result))
    assert len(upstream.asked) == 1


def test_a_day_without_rows_is_empty_where_that_is_in_order(bench, upstream):
    bench.edit("benin/days", "retry:", "expect: {min_rows: 0}\nretry:")
    upstream.rows[WEEK[2]] = []
    result = launch(bench)
    assert result.success
    assert [values(event)["refresh/outcome"] for event in bench.good(result)] == ["loaded"] * 2 + ["empty"] + [
        "loaded"
    ] * 4
    again = bench.good(launch(bench))
    assert values(again[2])["refresh/outcome"] == "empty"


def test_a_row_that_breaks_the_contract_fails_its_own_day_only(bench, upstream):
    upstream.rows[WEEK[4]].append("c,many")
    result = launch(bench)
    assert partitions(bench.good(result)) == [day for day in WEEK if day != WEEK[4]]
    assert partitions(bench.bad(result)) == [WEEK[4]]
    assert any("value='many' is no int" in text for text in messages(bench, result))
    assert upstream.spans[1:] == list(zip(WEEK, [*WEEK[1:], "2024-03-04"], strict=True))
    assert any("Each of these partitions is now refreshed by itself." in text for text in log(bench, result))


def test_a_row_without_a_day_is_told_and_not_lost(bench, upstream):
    bench.edit("benin/days", "merge_key: [day, site]", "merge_key: [site]")
    bench.edit("benin/days", "{mode: replace_partition}", "{mode: merge}")
    upstream.rows = {day: [f"{number},1"] for number, day in enumerate(WEEK)}
    upstream.more = [",nowhere,1"]
    result = launch(bench)
    assert any("1 rows belong to no partition" in text for text in log(bench, result))
    assert partitions(bench.good(result)) == WEEK
    assert len(table_of(bench.settings.data_dir / "warehouse.duckdb", "days")) == 8


def test_trouble_of_the_upstream_fails_every_partition_in_one_short_message(bench, upstream):
    many = days("2024-01-01", 90)
    upstream.trouble[""] = 503
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        result = launch(bench, many)
    [step] = bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    text = step.dagster_event.step_failure_data.error.message
    assert partitions(bench.bad(result)) == many
    assert len(messages(bench, result)) == 1
    assert "90 of 90 partitions failed: 2024-01-01, 2024-01-02" in text
    assert "and 78 more" in text
    assert text.count("HTTP 503") == 1
    assert set(upstream.spans) == {("2024-01-01", "2024-03-31")}  # its quick tries, and none for single days
    assert [(told["count"], told["message"].count("HTTP 503")) for told in receiver.delivered] == [(90, 1)]


def test_a_retry_inside_the_run_asks_for_the_range_again(bench, upstream):
    bench.edit("benin/days", "{attempts: 1}", "{attempts: 2, delay: 0s}")
    upstream.trouble[""] = 503
    attempts = []

    def adjust(tools):
        attempts.append(tools)
        if len(attempts) == 2:
            upstream.trouble.clear()
        return tools

    bench.adjust = adjust
    result = launch(bench)
    assert result.success
    assert partitions(bench.good(result)) == WEEK
    assert bench.bad(result) == []


def test_a_cancelled_request_is_the_last_and_all_it_was_for_are_told(bench, upstream):
    bench.edit("benin/days", "span: 400", "span: 3")
    bench.adjust = at("fetched", lambda: os.kill(os.getpid(), signal.SIGINT))
    result = launch(bench)
    assert not result.success
    assert bench.good(result) == []
    assert partitions(bench.bad(result)) == WEEK[:3]
    assert {values(event)["refresh/error_class"] for event in bench.bad(result)} == {"interrupted"}
    assert len(upstream.asked) == 1


def test_events_lost_after_the_commit_are_told_once_by_the_next_run(bench, upstream):
    spec, tools = bench.spec("days"), bench.workshop.tools(lambda _: None, lambda _: None)
    lost = refresh_range(spec, [window_of(spec, day) for day in WEEK[:3]], tools, run_id="gone")
    result = launch(bench)
    events = bench.good(result)
    recovered = [event for event in events if "refresh/recovered" in values(event)]
    own = [event for event in events if "refresh/recovered" not in values(event)]
    assert result.success
    assert [(event.partition, version(event)) for event in recovered] == [(o.partition, o.data_version) for o in lost]
    assert [values(event)["refresh/outcome"] for event in own] == ["unchanged"] * 3 + ["loaded"] * 4
    assert len(bench.good(launch(bench))) == 7


def test_each_station_is_asked_for_its_own_span(bench, upstream):
    bench.add("benin/grid", GRID.replace('{end}"}}', '{end}"}, span: 30}'))
    result = bench.launch("grid", f"{WEEK[0]}|north", f"{WEEK[2]}|west")
    assert [(query["station"], query["start"], query["end"]) for query in upstream.asked] == [
        (station, "2024-02-26", "2024-02-29") for station in ("north", "east", "west")
    ]
    assert sorted(partitions(bench.good(result))) == sorted(
        f"{d}|{s}" for d in WEEK[:3] for s in ("north", "east", "west")
    )


def test_the_cost_of_a_request_stands_at_its_first_partition(bench, upstream):
    launch(bench)
    outcomes = history(bench.instance, bench.spec("days"), 10)
    assert [outcome.bytes > 0 for outcome in reversed(outcomes)] == [True] + [False] * 6


@pytest.mark.e2e
def test_a_leap_year_of_days_is_one_request_and_366_verdicts(bench, upstream):
    year = days("2024-01-01", 366)
    upstream.rows = {day: [f"a,{number}"] * (1 + number % 2) for number, day in enumerate(year)}
    spec, tools = bench.spec("days"), bench.workshop.tools(lambda _: None, lambda _: None)
    outcomes = refresh_range(spec, [window_of(spec, day) for day in year], tools, run_id="year")
    assert upstream.spans == [("2024-01-01", "2025-01-01")]
    assert [outcome.partition for outcome in outcomes] == year
    assert {outcome.outcome for outcome in outcomes} == {"loaded"}
    assert [outcome.counts for outcome in outcomes[:2]] == [
        Counts(fetched=1, added=1),
        Counts(fetched=2, added=1, duplicates=1),
    ]
    assert all(outcome.counts.balanced() for outcome in outcomes)
    assert len({outcome.data_version for outcome in outcomes}) == 366
    assert len(table_of(bench.settings.data_dir / "warehouse.duckdb", "days")) == 366
    assert list((bench.settings.data_dir / "staging").glob("*")) == []


def test_more_partitions_than_files_may_be_open_are_locked(bench):
    bench.add("benin/days", DAYS)
    spec, keys = bench.spec("days"), days("2024-01-01", 400)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    try:
        with exclusive_all(spec, keys, bench.settings):
            locks = list((bench.settings.data_dir / "locks").glob("days@*.lock"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    assert len(locks) == 400
