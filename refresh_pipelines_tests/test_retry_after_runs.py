"""Runs that an upstream asks for a pause: one request, every partition says until when, and nobody knocks before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.events import history
from refresh_pipelines_tests.clockwork import utc
from refresh_pipelines_tests.dagster_bench import FRED, partitions, values
from refresh_pipelines_tests.knocking import GOOD, Knocking
from refresh_pipelines_tests.test_runs_failing import retries
from refresh_pipelines_tests.upstream import Upstream, answer

BRAZIL = f"{FRED}?series_id=DEXBZUS"
HEADERS = {"Retry-After": "600"}


def retry_at(event):
    return datetime.fromisoformat(values(event)["refresh/retry_at"])


def seconds_from_now(at):
    return (at - datetime.now(timezone.utc)).total_seconds()


def test_the_partitions_behind_the_refused_one_fail_without_a_request(retrying):
    retrying.sandbox.override(BRAZIL, b"slow down", status=429, headers=HEADERS)
    result = retrying.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert (result.success, retries(retrying, result)) == (False, 0)
    assert partitions(retrying.good(result)) == ["DEXUSEU"]
    brazil, mexico = retrying.bad(result)
    assert (brazil.partition, mexico.partition) == ("DEXBZUS", "DEXMXUS")
    assert retry_at(brazil) == retry_at(mexico)
    assert 500 < seconds_from_now(retry_at(brazil)) < 602
    assert "was not asked" in values(mexico)["refresh/message"]
    assert len(retrying.sandbox.requests) == 2


def test_the_history_of_a_source_keeps_the_instant(bench):
    bench.sandbox.override(FRED, b"", status=503, headers=HEADERS)
    [event] = bench.bad(bench.launch("fred_fx", "DEXUSEU"))
    [outcome] = history(bench.instance, bench.spec("fred_fx"), 5)
    assert outcome.retry_at == retry_at(event)


@pytest.mark.parametrize(("ahead", "success", "tried_again"), [(timedelta(0), False, 0), (timedelta(hours=1), True, 1)])
def test_a_retry_inside_the_run_is_made_only_if_the_pause_is_over_by_then(retrying, ahead, success, tried_again):
    """`ahead`: how far the clock is when the first try has ended."""
    attempts = []

    def adjust(tools):
        attempts.append(tools)
        if len(attempts) == 2:
            retrying.sandbox.clear()
        return replace(tools, clock=lambda: datetime.now(timezone.utc) + ahead)

    retrying.adjust = adjust
    retrying.sandbox.override(FRED, b"slow down", status=429, headers=HEADERS)
    result = retrying.launch("fred_fx", "DEXUSEU")
    assert (result.success, retries(retrying, result)) == (success, tried_again)
    waits = [
        entry.dagster_event.step_retry_data.seconds_to_wait
        for entry in retrying.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    ]
    assert waits == [0] * tried_again  # the pause itself, without the policy's jitter


@pytest.mark.e2e
def test_a_later_try_comes_when_the_upstream_wants_it_and_loads(tmp_path, empty_history):
    on = "2026-11-22T{}".format
    with (
        Upstream(answer(b"slow down", 429, HEADERS)) as upstream,
        Knocking(tmp_path, empty_history, upstream) as knocking,
    ):
        assert knocking.tick(on("06:05")) == knocking.sense(on("06:05")) == []
        [run] = knocking.tick(on("07:00:01"))
        assert not knocking.run(run, on("07:00:02"))
        assert len(upstream.seen) == 1
        for early in ("07:03", "07:06", "07:10:01"):
            assert knocking.sense(on(early)) == []
        [again] = knocking.sense(on("07:11:02"))
        assert again.tags["refresh/trigger"] == "retry"
        upstream.script[:] = [GOOD]
        assert knocking.run(again, on("07:11:03"))
        assert len(upstream.seen) == 2
        [event] = knocking.instance.fetch_observations(dg.AssetKey(["benin", "a"]), limit=5).records
        assert retry_at(event.asset_observation) == utc(on("07:10:02"))


def test_ticks_do_not_ask_before_it_and_a_later_try_takes_their_place(tmp_path, empty_history):
    on = "2026-11-22T{}".format
    with (
        Upstream(answer(b"slow down", 429, HEADERS)) as upstream,
        Knocking(tmp_path, empty_history, upstream, 'schedule: {cron: "*/5 * * * *"}') as knocking,
    ):
        assert knocking.tick(on("06:57")) == knocking.sense(on("06:57")) == []
        [run] = knocking.tick(on("07:00:01"))
        assert not knocking.run(run, on("07:00:02"))
        for tick in ("07:05:01", "07:10:01"):
            assert knocking.tick(on(tick)) == []
            assert knocking.ticks("a_schedule")[-1] == (
                "SKIPPED", "left alone: the upstream wants no request before 2026-11-22 07:10:02 UTC",
            )  # fmt: skip
        [again] = knocking.sense(on("07:11:02"))
        assert again.tags["refresh/trigger"] == "retry"
        assert len(upstream.seen) == 1
