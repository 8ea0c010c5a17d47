"""Runs that the sources of a batch share: steps side by side, each with its own verdict, time limit, events and end."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta

import dagster as dg
import pytest

from refresh_pipelines.decide import HOLDING_UP
from refresh_pipelines.orchestration.incidents import Rules, failures_of
from refresh_pipelines.orchestration.internals_threads import MOST_OF_A_HOST
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.recent import pasts_of
from refresh_pipelines.worker import workers
from refresh_pipelines_tests.dagster_bench import partitions, values
from refresh_pipelines_tests.herding import AT, ROWS, Herd

DAILY = "partitions: {time: day, start: 2026-06-01, column: day, lookback: 1, outside: drop}\ntable: daily"


@pytest.fixture
def herd(tmp_path, empty_history):
    with Herd(tmp_path, empty_history) as made:
        yield made


@pytest.fixture
def three(herd):
    for name in "abc":
        herd.member(name)
    return herd


def outcomes(herd, run):
    """What each source of a run ended as, by its stem."""
    events = [*herd.good(run), *herd.bad(run)]
    return {event.asset_key.path[-1]: values(event)["refresh/outcome"] for event in events}


def meeting(number):
    """An answer that is given once so many requests wait for theirs."""
    barrier = threading.Barrier(number)

    def answer():
        barrier.wait(30)
        return ROWS

    return answer


def test_the_sources_of_a_run_are_fetched_side_by_side_and_each_is_materialized(three):
    three.paths.answers = dict.fromkeys("abc", meeting(3))
    [request], _ = three.tick()
    run = three.execute(request)
    assert run.is_success
    assert outcomes(three, run) == dict.fromkeys("abc", "loaded")
    steps = {stats.step_key for stats in three.instance.get_run_step_stats(run.run_id)}
    assert steps == {"benin__a", "benin__b", "benin__c"}
    assert {values(event)["refresh/added"] for event in three.good(run)} == {2}


def test_one_that_fails_marks_only_its_own_asset(three):
    three.paths.answers["b"] = 403
    [request], _ = three.tick()
    run = three.execute(request)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert outcomes(three, run) == {"a": "loaded", "b": "failed", "c": "loaded"}
    specs = [three.spec(name) for name in "abc"]
    found = failures_of(three.instance, run.run_id, specs, Rules(specs, three.settings))
    assert {failure.source for failure in found} <= {"b"}
    pasts = pasts_of(three.instance, specs, three.settings)
    assert {name: past["last_outcome"] for name, past in pasts.items()} == {"a": "loaded", "b": "failed", "c": "loaded"}
    assert all(past["last_scheduled_run_at"] for past in pasts.values())


def test_a_source_that_fails_for_a_moment_is_tried_again_while_the_others_go_on(herd):
    for name in "ab":
        herd.member(name, attempts=2)
    once = iter([503] * 12)
    herd.paths.answers["a"] = lambda: next(once, None) or ROWS
    [request], _ = herd.tick()
    run = herd.execute(request)
    assert outcomes(herd, run)["b"] == "loaded"
    kinds = [entry.dagster_event.event_type for entry in herd.instance.all_logs(run.run_id) if entry.dagster_event]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY in kinds


def test_one_that_hangs_ends_when_its_own_time_is_over_and_alone(three):
    three.seconds = 1.5
    hung = threading.Event()
    three.paths.answers["b"] = lambda: hung.wait(30) and ROWS
    [request], _ = three.tick()
    run = three.execute(request)
    hung.set()
    assert outcomes(three, run) == {"a": "loaded", "b": "failed", "c": "loaded"}
    [bad] = three.bad(run)
    assert values(bad)["refresh/error_class"] == "transient"
    assert "still fetching after" in values(bad)["refresh/message"]
    assert not workers(three.settings.data_dir)


def test_a_cancelled_run_ends_each_source_that_is_at_work_and_begins_no_other(herd):
    for name in ("a", "b", "c", "d"):
        herd.member(name, host="one.example.org")
    hung = threading.Event()

    def cancel():
        herd.instance.report_run_canceling(herd.instance.get_runs()[0])
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    met = threading.Barrier(2, cancel)

    def answer():
        met.wait(30)
        hung.wait(30)
        return ROWS

    herd.paths.answers = dict.fromkeys("abcd", answer)
    [request], _ = herd.tick()
    run = herd.execute(request)
    hung.set()
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert len(herd.paths.asked) == MOST_OF_A_HOST
    classes = [values(event)["refresh/error_class"] for event in herd.bad(run)]
    assert classes == ["interrupted"] * MOST_OF_A_HOST


def test_no_more_than_two_ask_the_same_host_at_once(herd):
    for name in "abcde":
        herd.member(name, host="one.example.org")
    two = meeting(2)
    herd.paths.answers = dict.fromkeys("abcd", two)
    [request], _ = herd.tick()
    run = herd.execute(request)
    assert outcomes(herd, run) == dict.fromkeys("abcde", "loaded")
    assert herd.paths.most == MOST_OF_A_HOST


def test_sources_with_and_without_partitions_share_a_run_each_with_its_own_keys(herd):
    herd.member("a")
    herd.member("b", DAILY)
    herd.paths.answers["b"] = b"day,value\n2026-06-13,1\n2026-06-14,2\n"
    [request], _ = herd.tick()
    assert request.partition_key is None
    assert request.tags["refresh/keys/b"] == "2026-06-13...2026-06-14"
    run = herd.execute(request)
    assert run.is_success, outcomes(herd, run)
    assert sorted(partitions(herd.good(run, "b"))) == ["2026-06-13", "2026-06-14"]
    assert partitions(herd.good(run, "a")) == [None]
    assert "refresh/source" not in run.tags


def test_the_run_of_one_member_alone_executes_in_the_main_thread(herd):
    herd.member("a")
    [request], _ = herd.tick()
    run = herd.execute(request)
    assert outcomes(herd, run) == {"a": "loaded"}
    texts = [entry.message for entry in herd.instance.all_logs(run.run_id)]
    assert not any("at once, in process" in text for text in texts)


def test_a_source_whose_step_has_ended_is_not_held_up_by_one_that_goes_on(three):
    seen = {}

    def look():
        reads = Reads([three.spec(name) for name in "abc"], three.settings, timedelta(0), noting=False)

        def done():
            return {name for name in "abc" if not reads.flights(three.instance, three.spec(name), AT)}

        for _ in range(300):
            if {"a", "c"} <= done():
                break
            threading.Event().wait(0.1)
        seen["free"], seen["trigger"] = done(), reads.flights(three.instance, three.spec("b"), AT)[0].trigger
        return ROWS

    three.paths.answers["b"] = look
    [request], _ = three.tick()
    run = three.execute(request)
    assert run.is_success
    assert seen["free"] == {"a", "c"}
    assert seen["trigger"] in HOLDING_UP


def test_one_whose_step_breaks_off_is_red_and_the_others_end_well(three):
    def adjust(tools):
        raise SystemExit(f"no tools, {tools.settings.data_dir.name}")

    good = three.adjust
    calls = iter([good, adjust, good])
    lock = threading.Lock()

    def one_of_them(tools):
        with lock:
            act = next(calls)
        return act(tools)

    three.adjust = one_of_them
    [request], _ = three.tick()
    run = three.execute(request)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert sorted(outcomes(three, run).values()) == ["loaded", "loaded"]


def test_a_herd_refreshed_again_finds_nothing_new(three):
    [request], _ = three.tick()
    three.execute(request)
    [request], _ = three.tick(AT + timedelta(days=1))
    run = three.execute(request)
    assert outcomes(three, run) == dict.fromkeys("abc", "unchanged")
    assert not list((three.settings.data_dir / "staging").rglob("*.arrow"))
