"""What a tick decides: blocked, overlap, lateness and catch-up, as the table in the documentation has it."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.decide import MOST_CAUGHT_UP, Facts, Flight, catch_up_of, decide
from refresh_pipelines.expected import Since, expectation
from refresh_pipelines.spec import Partitions, Schedule
from refresh_pipelines_tests.workbench import spec_of

UTC = timezone.utc
TICK = datetime(2026, 3, 10, 6, tzinfo=UTC)
DAILY = {"frequency": "daily", "time": "06:00"}
DAYS = {"time": "day", "start": "2026-01-01"}
PROMPT, LATE = timedelta(seconds=20), timedelta(days=3)


def source(partitions=None, **schedule):
    fields = {
        "schedule": Schedule(**DAILY, **schedule),
        "partitions": Partitions(**partitions) if partitions else None,
    }
    return spec_of().model_copy(update=fields)


def asked(decision):
    """What is requested, as (trigger, first key, last key)."""
    return [(one.trigger, *(one.keys[:1] or (None,)), *(one.keys[-1:] or (None,))) for one in decision.requests]


def days(first, count):
    start = datetime.fromisoformat(first)
    return [(start + timedelta(days=n)).strftime("%Y-%m-%d") for n in range(count)]


MISSED = days("2026-03-06", 3)  # of a machine that was off from the 7th to the 10th
NEWEST = ("2026-03-09", "2026-03-09")


@pytest.mark.parametrize(
    ("catch_up", "late", "requests", "reason"),
    [
        ("none", PROMPT, [("schedule", *NEWEST)], ""),
        ("none", LATE, [], "misfired: looked at 3d after it was due, later than misfire_grace 30m allows"),
        ("latest", PROMPT, [("schedule", *NEWEST)], ""),
        ("latest", LATE, [("catch_up", *NEWEST)], ""),
        ("all", PROMPT, [("schedule", *NEWEST), ("catch_up", MISSED[0], MISSED[-1])], ""),
        ("all", LATE, [("catch_up", *NEWEST), ("catch_up", MISSED[0], MISSED[-1])], ""),
        (None, LATE, [("catch_up", *NEWEST), ("catch_up", MISSED[0], MISSED[-1])], ""),
    ],
)
def test_three_days_down_under_each_catch_up_and_grace(catch_up, late, requests, reason):
    spec = source(DAYS, catch_up=catch_up)
    decision = decide(spec, TICK, TICK + late, Facts(missing=MISSED, coalesced=4))
    assert asked(decision) == requests
    assert decision.reason.startswith(reason)
    assert [one.run_key for one in decision.requests] == [f"2026-03-10T06:00:00Z|{last}" for _, _, last in requests]
    assert [one.coalesced for one in decision.requests[:1]] == [4] * bool(requests)


@pytest.mark.parametrize(
    ("catch_up", "late", "requests"),
    [
        ("none", PROMPT, [("schedule", None, None)]),
        ("none", LATE, []),
        ("latest", PROMPT, [("schedule", None, None)]),
        ("latest", LATE, [("catch_up", None, None)]),
        ("all", PROMPT, [("schedule", None, None)]),
        ("all", LATE, [("catch_up", None, None)]),
        (None, LATE, [("catch_up", None, None)]),
    ],
)
def test_three_days_down_without_partitions_is_one_run_at_most(catch_up, late, requests):
    assert asked(decide(source(catch_up=catch_up), TICK, TICK + late, Facts(coalesced=4))) == requests


def test_three_days_down_with_a_look_back_that_covers_them_is_one_run():
    spec = source({**DAYS, "lookback": 3})
    decision = decide(spec, TICK, TICK + LATE, Facts(missing=[*MISSED, "2026-03-09"]))
    assert asked(decision) == [("catch_up", "2026-03-06", "2026-03-09")]


@pytest.mark.parametrize(
    ("late", "trigger"), [(timedelta(minutes=30), "schedule"), (timedelta(minutes=31), "catch_up")]
)
def test_a_tick_is_late_after_its_grace_and_not_at_it(late, trigger):
    assert asked(decide(source(catch_up="latest"), TICK, TICK + late, Facts())) == [(trigger, None, None)]


@pytest.mark.parametrize(
    ("partitions", "meant"),
    [(DAYS, "all"), (None, "latest"), ({"static": {"s": ["A"]}}, "latest"), ({"dynamic": "file"}, "latest")],
)
def test_what_is_missed_is_made_up_for_in_full_only_where_there_are_periods(partitions, meant):
    assert catch_up_of(source(partitions)) == meant
    assert catch_up_of(source(partitions, catch_up="none")) == "none"


def test_blocked_comes_before_everything_else():
    facts = Facts(blocked="blocked: set FRED_API_KEY", missing=MISSED, flights=[Flight("r1", frozenset(), "schedule")])
    decision = decide(source(DAYS), TICK, TICK + LATE, facts)
    assert (decision.requests, decision.reason) == ((), "blocked: set FRED_API_KEY")


@pytest.mark.parametrize("trigger", ["schedule", "catch_up", "probe", "retry"])
def test_a_run_that_is_under_way_is_not_started_a_second_time(trigger):
    facts = Facts(flights=[Flight("0123456789", frozenset(["2026-03-09"]), trigger)])
    decision = decide(source(DAYS), TICK, TICK + PROMPT, facts)
    assert decision.requests == ()
    assert decision.reason == "overlap: skip, because run 01234567 of the same partitions is queued or in progress"


@pytest.mark.parametrize("trigger", ["manual", "backfill", "sensor"])
def test_a_person_or_a_backfill_never_holds_a_schedule_up(trigger):
    facts = Facts(flights=[Flight("r1", frozenset(["2026-03-09"]), trigger)])
    assert asked(decide(source(DAYS), TICK, TICK + PROMPT, facts)) == [("schedule", *NEWEST)]


def test_a_run_of_other_partitions_holds_nothing_up():
    facts = Facts(flights=[Flight("r1", frozenset(["2026-03-08"]), "schedule")])
    assert asked(decide(source(DAYS), TICK, TICK + PROMPT, facts)) == [("schedule", *NEWEST)]


def test_of_a_look_back_only_what_is_not_under_way_is_requested():
    facts = Facts(flights=[Flight("r1", frozenset(days("2026-03-06", 3)), "schedule")])
    decision = decide(source({**DAYS, "lookback": 3}), TICK, TICK + PROMPT, facts)
    assert asked(decision) == [("schedule", *NEWEST)]


def test_queue_requests_it_all_the_same():
    facts = Facts(flights=[Flight("r1", frozenset(["2026-03-09"]), "schedule")])
    decision = decide(source(DAYS, overlap="queue"), TICK, TICK + PROMPT, facts)
    assert (asked(decision), decision.cancel) == ([("schedule", *NEWEST)], ())


def test_cancel_takes_the_place_of_the_older_run():
    facts = Facts(flights=[Flight("r1", frozenset(), "schedule"), Flight("r2", frozenset(), "manual")])
    decision = decide(source(overlap="cancel"), TICK, TICK + PROMPT, facts)
    assert (asked(decision), decision.cancel) == ([("schedule", None, None)], ("r1",))


def test_a_tick_that_came_too_late_cancels_nothing():
    facts = Facts(flights=[Flight("r1", frozenset(), "schedule")])
    decision = decide(source(overlap="cancel", catch_up="none"), TICK, TICK + LATE, facts)
    assert (decision.requests, decision.cancel) == ((), ())


def test_what_was_missed_is_requested_also_while_the_newest_is_under_way():
    facts = Facts(missing=MISSED, flights=[Flight("r1", frozenset(["2026-03-09"]), "schedule")])
    assert asked(decide(source(DAYS), TICK, TICK + PROMPT, facts)) == [("catch_up", MISSED[0], MISSED[-1])]


def test_holes_are_runs_of_their_own():
    missing = ["2026-03-01", "2026-03-02", "2026-03-05"]
    assert asked(decide(source(DAYS), TICK, TICK + PROMPT, Facts(missing=missing)))[1:] == [
        ("catch_up", "2026-03-01", "2026-03-02"),
        ("catch_up", "2026-03-05", "2026-03-05"),
    ]


def test_history_is_loaded_whatever_is_caught_up_on():
    spec = source({**DAYS, "initial": "all"}, catch_up="latest")
    assert len(decide(spec, TICK, TICK + PROMPT, Facts(missing=MISSED)).requests) == 2


def test_a_tick_before_the_first_period_says_so():
    decision = decide(source({**DAYS, "start": "2030-01-01"}), TICK, TICK, Facts())
    assert decision.reason == "no partition is due: the first one begins at 2030-01-01"


COUNTS = st.integers(1, 60)


@given(st.integers(0, 80), st.integers(0, 40), COUNTS, st.sampled_from(["none", "latest", "all"]), st.booleans())
def test_no_partition_is_requested_twice_and_no_more_than_a_month_is_under_way(gap, flying, count, catch_up, late):
    spec = source({**DAYS, "start": "2025-10-01", "lookback": 2}, catch_up=catch_up)
    missing = days("2025-10-01", 160)[gap : gap + count]
    flights = [Flight("r1", frozenset(missing[:flying]), "catch_up")]
    decision = decide(spec, TICK, TICK + (LATE if late else PROMPT), Facts(missing=missing, flights=flights))
    keys = [key for one in decision.requests for key in one.keys]
    assert len(keys) == len(set(keys))
    assert not set(keys) & set(missing[:flying])
    assert len({one.run_key for one in decision.requests}) == len(decision.requests)
    caught_up = [key for one in decision.requests for key in one.keys if key < "2026-03-07"]
    assert len(caught_up) + min(flying, count) <= max(MOST_CAUGHT_UP, min(flying, count))


@given(st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_after_any_downtime_everything_that_was_expected_is_requested_or_there(down, lookback, late):
    """The whole of it: ticks of a fortnight, then silence, then one tick."""
    spec = source({**DAYS, "lookback": lookback})
    began = Since(TICK - timedelta(days=14))
    back = TICK + timedelta(days=down)
    loaded = set(expectation(spec, began, TICK).keys)
    expected = expectation(spec, began, back)
    decision = decide(spec, back, back + (LATE if late else PROMPT), Facts(missing=expected.missing(loaded)))
    requested = {key for one in decision.requests for key in one.keys}
    left = set(expected.keys) - loaded - requested
    assert len(left) == max(0, down - (lookback + 1) - MOST_CAUGHT_UP)
    assert not left or min(left) > min(requested)
