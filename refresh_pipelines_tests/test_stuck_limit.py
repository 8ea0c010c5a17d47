"""The time limit of a refresh, as the run's own process keeps it."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta

import dagster as dg
import duckdb
import pytest

from refresh_pipelines.exclusive import exclusive
from refresh_pipelines.limit import COMMIT, FETCH, LOAD, LOCK, READ, Limit, interrupt, interruptible, too_long
from refresh_pipelines.orchestration.incidents import Rules, failures_of
from refresh_pipelines_tests.dagster_bench import Receiver, at, partitions, values
from refresh_pipelines_tests.hurried import Hurried
from refresh_pipelines_tests.upstream import Upstream

FRED = "commodities/fred_fx"
# Half a minute's work, unless it is interrupted.
LONG = "SELECT sum(a.i * b.i) FROM range(200000) a(i), range(200000) b(i)"


@pytest.fixture
def hurried(tmp_path, empty_history):
    with Hurried(tmp_path, empty_history) as bench:
        yield bench


def only(events):
    [event] = events
    return values(event)


def nothing_is_left(bench):
    data = bench.settings.data_dir
    assert list((data / "staging").glob("*")) == []
    assert list((data / "locks/runs").glob("*")) == []
    for key in ("DEXUSEU", "DEXMXUS"):
        with exclusive(bench.spec("fred_fx"), key, bench.settings) as wait:
            assert wait < 0.5


def whole_again(bench):
    """Refresh without trouble and with enough time."""
    bench.adjust, bench.seconds = lambda tools: tools, 60
    return bench.launch("fred_fx", "DEXUSEU")


def test_an_upstream_that_drips_is_left_when_the_time_is_over(hurried):
    with Upstream() as upstream:
        upstream.script.append(upstream.drip)
        hurried.environ["REFRESH_UPSTREAM"] = upstream.base
        began = time.monotonic()
        result = hurried.launch("fred_fx", "DEXUSEU")
        assert time.monotonic() - began < 15
        assert len(upstream.seen) == 1
    said = only(hurried.bad(result))
    assert (said["refresh/outcome"], said["refresh/error_class"]) == ("failed", "transient")
    assert said["refresh/message"] == (
        "commodities/fred_fx[DEXUSEU]: the refresh took too long; expected its end within time_limit 0s; got still "
        "fetching after 0s. Nothing of it was loaded. See whether the upstream answers; raise `time_limit` in the YAML "
        "if it only is slow."
    )
    nothing_is_left(hurried)
    hurried.environ.pop("REFRESH_UPSTREAM")
    assert whole_again(hurried).success


def long():
    with duckdb.connect() as other, interruptible(other.interrupt):
        other.execute(LONG).fetchall()


@pytest.mark.parametrize(("stage", "doing"), [("fetched", READ), ("staged", LOAD), ("merged", COMMIT)])
def test_whatever_it_is_at_is_rolled_back_and_the_run_is_not_tried_again(hurried, stage, doing):
    hurried.adjust, hurried.seconds = at(stage, long), 1
    result = hurried.launch("fred_fx", "DEXUSEU")
    said = only(hurried.bad(result))
    assert said["refresh/error_class"] == "internal"
    assert str(too_long(doing, timedelta(seconds=1))).partition(";")[2] in said["refresh/message"]
    kinds = [entry.dagster_event_type for entry in hurried.instance.all_logs(result.run_id)]
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY not in kinds
    nothing_is_left(hurried)
    again = whole_again(hurried)
    assert only(hurried.good(again))["refresh/outcome"] == "loaded"


def test_partitions_before_it_stay_and_those_after_it_are_not_asked_for(hurried):
    def second():
        reached.append(1)
        if len(reached) == 2:
            time.sleep(30)

    reached = []
    hurried.adjust, hurried.seconds = at("fetched", second), 2
    result = hurried.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert not result.success
    assert partitions(hurried.good(result)) == ["DEXUSEU"]
    assert partitions(hurried.bad(result)) == ["DEXBZUS"]
    assert len(reached) == 2


def test_waiting_for_another_refresh_of_the_partition_is_busy(hurried):
    hurried.environ["REFRESH_LOCK_TIMEOUT"] = "20s"
    with exclusive(hurried.spec("fred_fx"), "DEXUSEU", hurried.settings):
        result = hurried.launch("fred_fx", "DEXUSEU")
    said = only(hurried.bad(result))
    assert said["refresh/error_class"] == "busy"
    assert "waiting for the lock of its partition" in said["refresh/message"]


def test_what_is_committed_is_reported_however_long_it_took(hurried):
    hurried.seconds = 3
    hurried.adjust = at("committed", lambda: time.sleep(3.2))
    result = hurried.launch("fred_fx", "DEXUSEU")
    assert result.success
    assert only(hurried.good(result))["refresh/outcome"] == "loaded"


def test_a_cancelled_run_tells_nobody(hurried):
    hurried.seconds = 60
    hurried.adjust = at("fetched", lambda: signal.raise_signal(signal.SIGINT))
    with Receiver() as receiver:
        hurried.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        result = hurried.launch("fred_fx", "DEXUSEU")
        run = hurried.run(result)
        spec = hurried.spec("fred_fx")
        assert failures_of(hurried.instance, run.run_id, [spec], Rules([spec], hurried.settings)) == []
        assert receiver.received == []
    assert only(hurried.bad(result))["refresh/error_class"] == "interrupted"
    nothing_is_left(hurried)


def test_the_failure_of_a_hung_upstream_is_an_incident_and_counts_for_the_breaker(hurried):
    hurried.edit(FRED, "freshness:", "breaker: {failures: 1}\nfreshness:")
    hurried.adjust = lambda tools: tools
    with Upstream() as upstream:
        upstream.script.append(upstream.hang)
        hurried.environ["REFRESH_UPSTREAM"] = upstream.base
        hurried.launch("fred_fx", "DEXUSEU")
    assert hurried.status()["fred_fx"]["breaker"] == "open"
    assert hurried.status()["fred_fx"]["last_outcome"] == "failed"


def test_a_limit_that_was_stopped_interrupts_nobody():
    limit = Limit(0.05)
    limit.start()
    limit.stop()
    time.sleep(0.1)
    assert not limit.up


def in_a_thread(limit, work):
    """What the work of a thread, whose time is over in a moment, ends with."""
    ended = []

    def run():
        limit.start()
        try:
            work()
        except (KeyboardInterrupt, duckdb.InterruptException) as error:
            ended.append(error)
        finally:
            limit.stop()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return ended


def test_a_thread_that_is_not_the_main_one_is_interrupted_alone():
    def work():
        for _ in range(2000):
            time.sleep(0.01)

    limit = Limit(0.02)
    [error] = in_a_thread(limit, work)
    assert isinstance(error, KeyboardInterrupt)
    assert limit.up


def test_what_another_thread_asks_of_a_database_goes_on():
    with duckdb.connect() as connection, interruptible(connection.interrupt):
        assert not in_a_thread(Limit(60), lambda: None)
        with duckdb.connect() as other:

            def work():
                with interruptible(other.interrupt):
                    other.execute("SELECT count(*) FROM range(100000000) a, range(1000) b").fetchall()

            assert in_a_thread(Limit(0.2), work)
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_thread_that_has_ended_is_left_alone():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    interrupt(thread)
    assert threading.Event().wait(0.01) is False


@pytest.mark.parametrize(
    ("stage", "error_class"),
    [(LOCK, "busy"), (FETCH, "transient"), (READ, "internal"), (LOAD, "internal"), (COMMIT, "internal")],
)
def test_the_stage_says_whose_trouble_it_is_and_the_run_ends_with_it(stage, error_class):
    error = too_long(stage, timedelta(hours=1))
    assert (error.error_class, error.stops) == (error_class, True)
    assert "within time_limit 1h" in str(error)
