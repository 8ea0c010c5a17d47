"""Later tries: which partitions wait for one, and when it comes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.breaker import Event
from refresh_pipelines.later import Waiting, later_tries, left_alone_until, pause_before, waiting_of
from refresh_pipelines.spec import Retry
from refresh_pipelines_tests.workbench import NOW

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def event(order, key, word="transient", run="r1", trigger="schedule", **more):
    outcome = {"ok": "loaded"}.get(word, word if word == "not_yet" else "failed")
    at = more.pop("at", NOW + order * MINUTE)
    return Event(order, run, at, key, outcome, word if outcome == "failed" else "", trigger, **more)


def waiting(*log, since=-1):
    return [(one.key, one.run_id, one.later) for one in waiting_of(log, since)]


def never(at):
    return at + 1000 * HOUR


def test_the_pauses_go_on_where_those_inside_the_run_have_ended_up_to_the_longest():
    seconds = [pause_before(Retry(), n).total_seconds() for n in range(1, 8)]
    assert seconds == [140, 300, 620, 1260, 2540, 3600, 3600]


def test_no_pause_is_shorter_than_the_sensor_comes():
    assert pause_before(Retry(attempts=1, delay=timedelta(0)), 1) == MINUTE


@given(st.integers(1, 10), st.integers(0, 10**5), st.integers(0, 10**6), st.integers(1, 10**4))
def test_pauses_never_shrink_and_never_pass_their_cap(attempts, delay, cap, number):
    retry = Retry(attempts=attempts, delay=timedelta(seconds=delay), max_delay=timedelta(seconds=cap))
    assert pause_before(retry, number) <= pause_before(retry, number + 1) <= max(MINUTE, retry.max_delay)


def test_what_failed_for_a_passing_reason_waits_and_nothing_else():
    words = ("transient", "busy", "permanent", "contract", "internal", "interrupted", "not_yet", "ok")
    log = [event(n, word, word) for n, word in enumerate(words)]
    assert waiting(*log) == [("transient", "r1", 1), ("busy", "r1", 1)]


@pytest.mark.parametrize("word", ["ok", "not_yet", "permanent"])
def test_a_later_word_about_the_partition_ends_the_wait(word):
    assert waiting(event(0, "a"), event(1, "a", word, run="r2")) == []


def test_a_success_of_another_partition_does_not_end_it():
    assert waiting(event(0, "a"), event(1, "b", "ok")) == [("a", "r1", 1)]


@pytest.mark.parametrize("trigger", ["manual", "backfill", "sensor", "probe"])
def test_what_people_and_other_sensors_asked_for_is_theirs(trigger):
    assert waiting(event(0, "a", trigger=trigger)) == []


def test_later_tries_are_counted_since_the_last_that_a_tick_asked_for():
    log = [event(0, "a"), *(event(n, "a", run=f"r{n + 1}", trigger="retry") for n in (1, 2))]
    assert waiting(*log) == [("a", "r3", 3)]
    assert waiting(*log, event(3, "a", run="r4")) == [("a", "r4", 1)]


def test_what_may_have_been_settled_before_the_part_that_was_read_is_left_out():
    assert waiting(event(0, "a"), event(5, "b"), since=3) == [("b", "r1", 1)]


def test_a_run_is_asked_for_again_as_one_after_its_last_failure():
    found = waiting_of([event(0, "a"), event(2, "b"), event(3, "c", run="r2")])
    first, second = later_tries(Retry(), found, never, DAY)
    assert (first.run_id, first.keys, first.at) == ("r1", ("a", "b"), NOW + 2 * MINUTE + timedelta(seconds=140))
    assert (second.run_id, second.keys) == ("r2", ("c",))


def test_a_tick_that_comes_before_it_makes_a_later_try_needless():
    found = waiting_of([event(0, None)])
    assert later_tries(Retry(), found, lambda at: at + timedelta(seconds=140), DAY) == ()
    assert len(later_tries(Retry(), found, lambda at: at + timedelta(seconds=141), DAY)) == 1


def test_the_upstreams_wish_is_waited_for():
    found = waiting_of([event(0, None, retry_at=NOW + 5 * HOUR)])
    [one] = later_tries(Retry(), found, never, DAY)
    assert one.at == NOW + 5 * HOUR


def test_an_upstream_is_obeyed_until_its_instant_and_for_so_long_at_most():
    def one(minutes):
        return Waiting("a", "r1", NOW, 1, None if minutes is None else NOW + minutes * MINUTE)

    assert left_alone_until([one(None)], DAY) is None
    assert left_alone_until([one(10), one(25), one(None)], DAY) == NOW + 25 * MINUTE
    assert left_alone_until([one(10_000)], DAY) == NOW + DAY


def test_ticks_that_do_not_ask_take_no_later_try_away():
    found = [Waiting("a", "r1", NOW, 1, NOW + 25 * HOUR)]
    daily = later_tries(
        Retry(), found, lambda at: NOW + 24 * HOUR if at < NOW + 24 * HOUR else NOW + 48 * HOUR, 2 * DAY
    )
    assert [one.at for one in daily] == [NOW + 25 * HOUR]
