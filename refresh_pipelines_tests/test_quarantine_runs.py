"""A payload that is a surprise, through Dagster: a failed run and check, one notice, and the way back."""

from __future__ import annotations

import dagster as dg
import pytest

from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.incidents import Rules, failures_of
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.quarantine import Quarantine
from refresh_pipelines.states import state_of
from refresh_pipelines_tests.dagster_bench import Receiver, values
from refresh_pipelines_tests.days import DAYS, Days, days

DAILY = DAYS.replace("retry: {attempts: 1}", "retry: {attempts: 3, delay: 0s}")
ONE, TWO, THREE = days("2024-01-01", 3)


def lines(count, value=0):
    return [f"site{number:03},{value}" for number in range(count)]


@pytest.fixture
def upstream():
    with Days() as upstream:
        upstream.rows = {day: lines(60) for day in (ONE, TWO, THREE)}
        yield upstream


@pytest.fixture
def daily(bench, upstream):
    bench.add("benin/daily", DAILY)
    bench.environ["REFRESH_UPSTREAM"] = upstream.base
    bench.launch("daily", ONE, THREE)
    return bench


@pytest.fixture
def receiver(bench):
    with Receiver() as receiver:
        bench.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        yield receiver


def check(bench, result):
    """Return the one evaluation of `plausible` in a run."""
    found = bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    [one] = [entry.dagster_event.event_specific_data for entry in found]
    assert one.check_name == "plausible"
    return one


def waiting(bench):
    return Quarantine(bench.settings.data_dir).waiting("daily")


def test_a_surprise_fails_the_run_at_once_and_the_check_shows_the_difference(daily, upstream):
    upstream.rows[TWO] = lines(20)
    result = daily.launch("daily", TWO)
    [event] = daily.bad(result)
    [record] = waiting(daily)
    verdict = check(daily, result)
    shown = verdict.metadata["refresh/difference"].value
    assert not result.success
    assert (values(event)["refresh/outcome"], values(event)["refresh/quarantine"]) == ("quarantined", record.id)
    assert daily.good(result) == []
    assert len(daily.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 0
    assert not verdict.passed
    assert f"refresh quarantine accept {record.id}" in shown
    assert "| 2024-01-02 | site020 |" in shown
    assert "67% fewer rows" in verdict.description


def test_a_green_run_passes_the_check(daily):
    result = daily.launch("daily", TWO)
    assert result.success
    assert check(daily, result).passed


def test_good_partitions_of_the_same_run_are_loaded(daily, upstream):
    upstream.rows = {ONE: lines(60, 1)[:55], TWO: lines(20), THREE: lines(60)[:58]}
    result = daily.launch("daily", ONE, THREE)
    assert [event.partition for event in daily.good(result)] == [ONE, THREE]
    assert [event.partition for event in daily.bad(result)] == [TWO]
    assert not result.success


def test_while_something_waits_the_check_fails_also_in_a_good_run(daily, upstream):
    upstream.rows[TWO] = lines(20)
    daily.launch("daily", TWO)
    result = daily.launch("daily", THREE)
    assert result.success
    assert not check(daily, result).passed


def test_it_is_told_once_however_often_it_comes_and_its_end_once(daily, upstream, receiver):
    upstream.rows[TWO] = lines(20)
    first = daily.launch("daily", TWO)
    daily.launch("daily", TWO)
    assert [(told["event"], told["error_class"]) for told in receiver.delivered] == [("incident.opened", "quarantined")]
    assert waiting(daily)[0].id in receiver.delivered[0]["message"]
    upstream.rows[TWO] = lines(61)
    result = daily.launch("daily", TWO)
    assert result.success
    assert check(daily, result).passed
    assert [told["event"] for told in receiver.delivered][1:] == ["incident.recovered"]
    [record] = Quarantine(daily.settings.data_dir).of("daily")
    assert (record.state, record.run_id, record.seen) == ("superseded", first.run_id, 2)


def test_a_run_that_could_not_tell_is_found(daily, upstream):
    upstream.rows[TWO] = lines(20)
    result = daily.launch("daily", TWO)
    spec = daily.spec("daily")
    [failure] = failures_of(daily.instance, result.run_id, [spec], Rules([spec], daily.settings))
    assert (failure.error_class, failure.partitions) == ("quarantined", (TWO,))


def test_status_says_so_and_the_breaker_stays_closed(daily, upstream):
    upstream.rows[TWO] = lines(20)
    for _ in range(2):
        daily.launch("daily", TWO)
    item = daily.status()["daily"]
    assert item["quarantine"] == waiting(daily)[0].id
    assert (item["last_outcome"], item["incident"], item["breaker"]) == ("quarantined", "quarantined", "closed")
    assert item["consecutive_failures"] == 0
    assert state_of(item, blocked=False) == "quarantined"


def test_every_source_that_asks_has_the_check_and_others_have_not(daily):
    graph = daily.definitions().resolve_asset_graph()
    spec = daily.spec("daily")
    assert {key.name for key in graph.get_check_keys_for_assets({key_of(spec)})} == {"plausible"}
    assert [key.name for key in own_checks(spec)] == ["plausible"]
