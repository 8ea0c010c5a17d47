"""Sources that load what came (`each` with `on_error: keep_rest`): green runs, a failed check, a person told."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines_tests.dagster_bench import QUIET, Receiver, partitions, values
from refresh_pipelines_tests.days import Days, days

SITES = """\
description: sites one by one
request:
  url: "https://example.org/days.csv"
  params: {site: "{site}", start: "2024-01-01", end: "2024-01-02"}
  each: {site: [a, b, c], on_error: keep_rest}
format: csv
columns:
  day: {type: date}
  site: {type: text, from: "{site}"}
  value: {type: int}
merge_key: [day, site]
schedule: {frequency: daily}
retry: {attempts: 1}
"""
BY_DAY = SITES.replace('"2024-01-01", end: "2024-01-02"', '"{start}", end: "{end}"').replace(
    "retry:", "partitions: {time: day, start: 2024-01-01, column: day}\nretry:"
)
AT = datetime(2026, 6, 15, tzinfo=timezone.utc)
THREE = days("2024-01-01", 3)


@pytest.fixture
def upstream():
    with Days(THREE) as upstream:
        upstream.rows = {day: ["x,1"] for day in THREE}
        yield upstream


@pytest.fixture
def sites(bench, upstream):
    bench.add("benin/sites", SITES)
    bench.environ["REFRESH_UPSTREAM"] = upstream.base
    return bench


@pytest.fixture
def by_day(sites):
    sites.add("benin/sites", BY_DAY)
    return sites


@pytest.fixture
def receiver(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        yield receiver


def checks(bench, result):
    """Return the verdicts of the check `complete` of a run, and what they say."""
    found = bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.dagster_event.event_specific_data for entry in found]
    assert {evaluation.check_name for evaluation in evaluations} <= {"complete", "plausible"}
    return [(one.passed, one.description) for one in evaluations if one.check_name == "complete"]


def test_a_value_that_failed_fails_the_check_of_a_green_run_and_is_named(sites, upstream):
    upstream.trouble["b"] = 404
    result = sites.launch("sites")
    [event] = sites.good(result)
    [(passed, said)] = checks(sites, result)
    assert result.success
    assert (values(event)["refresh/outcome"], values(event)["refresh/added"]) == ("partial", 2)
    assert not passed
    assert said.startswith("1 of the requests failed (b); the first: benin/sites: site=b: ")
    assert "HTTP 404" in said


def test_the_check_passes_when_everything_came(sites):
    result = sites.launch("sites")
    assert checks(sites, result) == [(True, "every request was answered")]
    assert values(sites.good(result)[0])["refresh/outcome"] == "loaded"


def test_what_failed_is_loaded_by_the_next_refresh_and_the_check_passes_again(sites, upstream):
    upstream.trouble["b"] = 404
    sites.launch("sites")
    upstream.trouble.clear()
    result = sites.launch("sites")
    [event] = sites.good(result)
    assert (values(event)["refresh/outcome"], values(event)["refresh/added"]) == ("loaded", 1)
    assert [passed for passed, _ in checks(sites, result)] == [True]


def test_when_every_value_fails_the_run_fails(sites, upstream):
    upstream.trouble[""] = 404
    result = sites.launch("sites")
    assert not result.success
    assert [values(event)["refresh/outcome"] for event in sites.bad(result)] == ["failed"]


def test_a_partial_refresh_is_told_once(sites, upstream, receiver):
    upstream.trouble["b"] = upstream.trouble["c"] = 404
    sites.launch("sites")
    [told] = receiver.delivered
    assert (told["source"], told["event"]) == ("sites", "incident.opened")
    assert "2 of the requests failed (b, c)" in told["message"]
    upstream.trouble.clear()
    sites.launch("sites")
    assert [body["event"] for body in receiver.delivered] == ["incident.opened", "incident.recovered"]


def test_a_scheduled_run_ends_and_tells_the_same(sites, upstream, receiver):
    upstream.trouble["b"], sites.now = 404, AT
    repository = sites.definitions().get_repository_def()
    context = dg.build_schedule_context(sites.instance, scheduled_execution_time=AT, repository_def=repository)
    schedule = repository.get_schedule_def("sites_schedule")
    [request] = schedule.evaluate_tick(context).run_requests
    result = repository.get_job(schedule.job_name).execute_in_process(
        instance=sites.instance, tags=dict(request.tags), run_config=QUIET
    )
    assert result.success
    assert [passed for passed, _ in checks(sites, result)] == [False]
    assert len(receiver.delivered) == 1
    assert values(sites.good(result)[0])["refresh/trigger"] == "schedule"


def test_the_check_is_one_of_the_asset(sites):
    graph, names = sites.definitions().resolve_asset_graph(), {"complete", "plausible"}
    assert {key.name for key in graph.get_check_keys_for_assets({key_of(sites.spec("sites"))})} == names


def test_one_request_for_many_partitions_leaves_each_of_them_partial(by_day, upstream, receiver):
    by_day.edit("benin/sites", "  each:", "  span: 30\n  each:")
    upstream.trouble["b"] = 404
    result = by_day.launch("sites", THREE[0], THREE[-1])
    events = by_day.good(result)
    [(passed, said)] = checks(by_day, result)
    assert result.success
    assert partitions(events) == THREE
    assert [values(event)["refresh/outcome"] for event in events] == ["partial"] * 3
    assert len(upstream.asked) == 3
    assert (passed, said.count("HTTP 404")) == (False, 1)
    assert [(told["count"], told["message"].count("HTTP 404")) for told in receiver.delivered] == [(3, 1)]


def test_a_partition_that_stays_partial_is_not_forgotten_by_a_retry(by_day, upstream, receiver):
    by_day.edit("benin/sites", "{attempts: 1}", "{attempts: 2, delay: 0s}")
    upstream.trouble["b"] = 404
    upstream.trouble[THREE[2]] = 503  # the end of the second day
    attempts = []

    def adjust(tools):
        attempts.append(tools)
        if len(attempts) == 2:
            upstream.trouble.clear()
        return tools

    by_day.adjust = adjust
    result = by_day.launch("sites", THREE[0], THREE[1])
    assert result.success
    assert partitions(by_day.good(result)) == [THREE[0], THREE[1]]
    [(passed, said)] = checks(by_day, result)
    assert not passed
    assert "benin/sites[2024-01-01]: site=b" in said
    assert [told["partition"] for told in receiver.delivered] == [THREE[0]]


def test_the_command_says_partial_and_exits_1(home, upstream):
    home.add({"benin/sites.yaml": SITES})
    home.environ["REFRESH_UPSTREAM"] = upstream.base
    upstream.trouble["b"] = 404
    [item] = home.items("run", "sites")
    assert (item["outcome"], item["error_class"], item["added"]) == ("partial", "permanent", 2)
    result = home.refresh("run", "sites")
    assert result.exit_code == 1
    assert "partial: 1 of the requests failed (b)" in result.output
    upstream.trouble.clear()
    assert home.refresh("run", "sites").exit_code == 0
