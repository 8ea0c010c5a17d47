"""Runs that fail: what stays, what is retried, what is told and what never leaks."""

from __future__ import annotations

import os
import signal

import dagster as dg
import pytest

from refresh_pipelines.exclusive import exclusive
from refresh_pipelines.orchestration.events import history
from refresh_pipelines_tests.dagster_bench import FRED, Receiver, at, partitions, values

BAD = f"{FRED}?series_id=DEXBZUS"


def failure(bench, result):
    [entry] = bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return entry.dagster_event.step_failure_data.error


def retries(bench, result):
    return len(bench.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY))


def on_attempt(number, action):
    """Return an `adjust` that does `action` when that attempt of a run begins."""
    attempts = []

    def adjust(tools):
        attempts.append(tools)
        if len(attempts) == number:
            action()
        return tools

    return adjust


def test_one_bad_partition_leaves_the_good_ones_materialized(bench):
    bench.sandbox.override(BAD, b"no", status=403)
    result = bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert not result.success
    assert partitions(bench.good(result)) == ["DEXUSEU", "DEXMXUS"]
    [observed] = bench.bad(result)
    assert observed.partition == "DEXBZUS"
    assert values(observed)["refresh/outcome"] == "failed"
    assert values(observed)["refresh/error_class"] == "permanent"
    assert "1 of 3 partitions failed: DEXBZUS" in failure(bench, result).message


def test_a_failed_refresh_says_when_and_why_it_was_made(bench):
    bench.sandbox.override(FRED, b"no", status=403)
    result = bench.launch("fred_fx", "DEXUSEU", refresh__trigger="catch_up")
    [outcome] = history(bench.instance, bench.spec("fred_fx"), 5)
    assert (outcome.outcome, outcome.trigger, outcome.run_id) == ("failed", "catch_up", result.run_id)
    assert outcome.started_at
    assert "HTTP 403" in outcome.message


def test_a_permanent_error_burns_no_retries(retrying):
    retrying.sandbox.override(FRED, b"no", status=403)
    result = retrying.launch("fred_fx", "DEXUSEU")
    assert (result.success, retries(retrying, result)) == (False, 0)


def test_a_transient_error_is_retried_inside_the_run(retrying):
    retrying.sandbox.override(FRED, b"busy", status=503)
    retrying.adjust = on_attempt(2, retrying.sandbox.clear)
    result = retrying.launch("fred_fx", "DEXUSEU")
    assert (result.success, retries(retrying, result)) == (True, 1)
    assert partitions(retrying.good(result)) == ["DEXUSEU"]
    assert retrying.bad(result) == []


def test_a_transient_error_that_stays_is_told_after_the_last_attempt(retrying):
    retrying.sandbox.override(FRED, b"busy", status=503)
    result = retrying.launch("fred_fx", "DEXUSEU")
    assert (result.success, retries(retrying, result)) == (False, 1)
    assert [values(event)["refresh/error_class"] for event in retrying.bad(result)] == ["transient"]
    assert "HTTP 503" in failure(retrying, result).message


def test_a_retry_takes_up_only_what_is_not_settled(retrying):
    retrying.sandbox.override(BAD, b"busy", status=503)
    requests = retrying.sandbox.requests
    retrying.adjust = on_attempt(2, lambda: (retrying.sandbox.clear(), requests.clear()))
    result = retrying.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert result.success
    assert [request.query["series_id"] for request in requests] == ["DEXBZUS"]
    assert partitions(retrying.good(result)) == ["DEXUSEU", "DEXMXUS", "DEXBZUS"]
    assert retrying.bad(result) == []


def test_what_a_first_attempt_gave_up_still_fails_the_run_after_a_good_retry(retrying):
    retrying.sandbox.override(f"{FRED}?series_id=DEXUSEU", b"no", status=403)
    retrying.sandbox.override(BAD, b"busy", status=503)
    retrying.adjust = on_attempt(2, retrying.sandbox.clear)
    result = retrying.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert not result.success
    assert partitions(retrying.good(result)) == ["DEXMXUS", "DEXBZUS"]
    assert partitions(retrying.bad(result)) == ["DEXUSEU"]
    assert "1 of 3 partitions failed: DEXUSEU" in failure(retrying, result).message


def test_a_defect_of_ours_is_class_internal_and_told(retrying):
    def defect():
        raise KeyError("observation")

    retrying.adjust = at("fetched", defect)
    with Receiver() as receiver:
        retrying.environ["REFRESH_WEBHOOK_URL"] = receiver.url
        result = retrying.launch("fred_fx", "DEXUSEU")
    [observed] = retrying.bad(result)
    assert (result.success, retries(retrying, result)) == (False, 0)
    assert values(observed)["refresh/error_class"] == "internal"
    assert "KeyError" in values(observed)["refresh/message"]
    assert [body["error_class"] for body in receiver.delivered] == ["internal"]


def test_a_partition_somebody_else_refreshes_is_busy(bench):
    bench.environ["REFRESH_LOCK_TIMEOUT"] = "0.1"
    bench.edit("commodities/fred_fx", "freshness:", "retry: {attempts: 1}\nfreshness:")
    with exclusive(bench.spec("fred_fx"), "DEXUSEU", bench.settings):
        result = bench.launch("fred_fx", "DEXUSEU")
    assert [values(event)["refresh/error_class"] for event in bench.bad(result)] == ["busy"]


@pytest.mark.parametrize(
    ("stage", "number"), [("fetched", signal.SIGINT), ("staged", signal.SIGTERM), ("merged", signal.SIGTERM)]
)
def test_a_cancelled_run_is_told_as_interrupted_and_not_retried(retrying, stage, number):
    retrying.adjust = at(stage, lambda: os.kill(os.getpid(), number))
    result = retrying.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    [observed] = retrying.bad(result)
    assert (result.success, retries(retrying, result)) == (False, 0)
    assert retrying.good(result) == []
    assert (observed.partition, values(observed)["refresh/error_class"]) == ("DEXUSEU", "interrupted")
    assert retrying.status()["fred_fx"]["incident"] == "interrupted"
    assert retrying.run(result).status is dg.DagsterRunStatus.FAILURE


def test_a_run_cancelled_while_it_waits_for_the_lock_is_not_retried(retrying):
    retrying.environ["REFRESH_LOCK_TIMEOUT"] = "20s"
    timer = on_attempt(1, lambda: signal.setitimer(signal.ITIMER_REAL, 0.5))
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    retrying.adjust = timer
    try:
        with exclusive(retrying.spec("fred_fx"), "DEXUSEU", retrying.settings):
            result = retrying.launch("fred_fx", "DEXUSEU")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (result.success, retries(retrying, result)) == (False, 0)
    assert [values(event)["refresh/error_class"] for event in retrying.bad(result)] == ["interrupted"]


def test_cancelling_stops_also_a_run_in_which_something_could_be_retried(retrying):
    retrying.sandbox.override(f"{FRED}?series_id=DEXUSEU", b"busy", status=503)
    retrying.adjust = at("fetched", lambda: os.kill(os.getpid(), signal.SIGINT))
    result = retrying.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert retries(retrying, result) == 0
    assert partitions(retrying.bad(result)) == ["DEXUSEU", "DEXBZUS"]
    assert [values(event)["refresh/error_class"] for event in retrying.bad(result)] == ["transient", "interrupted"]


def test_a_second_signal_while_the_first_is_told_does_not_start_a_retry(retrying):
    def kill():
        os.kill(os.getpid(), signal.SIGINT)

    retrying.adjust = at("fetched", kill)
    run_id = "5ec0d5ec-0000-4000-8000-000000000000"

    def second(entry):
        if entry.dagster_event and entry.dagster_event.event_type_value == "ASSET_OBSERVATION":
            kill()

    retrying.instance.add_event_listener(run_id, second)
    result = retrying.launch("fred_fx", "DEXUSEU", run_id=run_id)
    assert (result.success, retries(retrying, result)) == (False, 0)


def test_a_run_by_hand_without_the_key_asks_nobody_and_names_the_variable(bench):
    bench.environ["FRED_API_KEY"] = ""
    result = bench.launch("fred_fx", "DEXUSEU")
    assert not result.success
    assert bench.sandbox.requests == []
    assert "set FRED_API_KEY" in failure(bench, result).message
    assert [values(event)["refresh/outcome"] for event in bench.bad(result)] == ["blocked"]
    assert bench.status()["fred_fx"]["consecutive_failures"] == 0


def test_trouble_with_the_notice_is_no_trouble_of_the_refresh(bench):
    bench.environ["REFRESH_WEBHOOK_URL"] = "http://127.0.0.1:9/hook"
    bench.settings.data_dir.mkdir()
    (bench.settings.data_dir / "ops.sqlite").write_text("this is no database, and it is long enough to be one")
    result = bench.launch("fred_fx", "DEXUSEU")
    assert result.success


def test_a_data_folder_that_cannot_be_used_is_told_as_such(bench):
    bench.settings.data_dir.write_text("a file where a folder should be")
    result = bench.launch("fred_fx", "DEXUSEU")
    [observed] = bench.bad(result)
    assert values(observed)["refresh/error_class"] == "internal"
    assert "Check REFRESH_DATA_DIR" in values(observed)["refresh/message"]
