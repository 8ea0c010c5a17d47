"""The breaker as a pure decision: what counts, when it opens, when it probes, what closes it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.breaker import Event, Probe, State, failed_tries, probe_key, sentence, short, state_of
from refresh_pipelines.spec import Breaker
from refresh_pipelines_tests.workbench import NOW, spec_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FIVE = Breaker()
WHY = "benin/mini[2026-11-01]: https://example.org/data.csv was refused; expected HTTP 200; got HTTP 403. Look at it."


def events(*runs, trigger="schedule", start=NOW, step=MINUTE):
    """Return the log of some runs, a minute apart; each is a word or several: ok, an error class, or an outcome."""
    out = []
    for number, run in enumerate(runs):
        for key, word in enumerate(run.split()):
            outcome = {"ok": "loaded"}.get(word, word if word in OTHER else "failed")
            error_class = word if outcome == "failed" else ""
            at = start + number * step
            out.append(Event(len(out), f"run{number}", at, f"k{key}", outcome, error_class, trigger, WHY))
    return out


OTHER = ("not_yet", "quarantined", "blocked")
NEUTRAL = ("busy", "interrupted", "internal", *OTHER)


def count(*runs):
    return len(failed_tries(events(*runs)))


@pytest.mark.parametrize("failure", ["transient", "permanent", "contract", "step"])
def test_failures_of_the_upstream_in_a_row_open_it(failure):
    tries = failed_tries(events(*[failure] * 5))
    assert state_of(FIVE, tries[:4], NOW + HOUR / 2).phase == "closed"
    state = state_of(FIVE, tries, NOW + HOUR / 2)
    assert (state.phase, state.failures, state.since) == ("open", 5, NOW + 4 * MINUTE)


@pytest.mark.parametrize("word", NEUTRAL)
def test_what_is_no_fault_of_the_upstream_neither_counts_nor_resets(word):
    assert count(*[word] * 9) == 0
    assert count("permanent", word, "permanent", word) == 2


def test_one_run_is_one_refresh_however_many_partitions_failed_in_it():
    assert count("transient " * 200, "permanent contract transient") == 2


def test_a_run_with_a_success_in_it_is_a_success_whatever_its_order():
    assert count("permanent", "permanent ok permanent") == 0
    assert count("permanent", "ok permanent", "permanent") == 1


def test_an_event_that_makes_up_for_a_lost_one_does_not_excuse_its_run():
    late = Event(0, "run1", NOW, None, "loaded", own=False)
    failure = Event(1, "run1", NOW, None, "failed", "permanent")
    assert [one.run_id for one in failed_tries([late, failure])] == ["run1"]


def test_events_without_a_run_are_counted_one_by_one():
    logged = [Event(0, "", NOW, None, "loaded"), *(Event(n, "", NOW, None, "failed", "permanent") for n in (1, 2))]
    assert len(failed_tries(logged)) == 2


def test_a_reset_forgives_what_was_before_it():
    tries = failed_tries(events(*["permanent"] * 6))
    assert state_of(FIVE, tries, NOW + HOUR, reset_at=NOW + 5 * MINUTE).failures == 0
    assert state_of(FIVE, tries, NOW + HOUR, reset_at=NOW + 4 * MINUTE).failures == 1
    assert state_of(FIVE, tries, NOW + HOUR, reset_at=NOW - DAY).phase == "open"


def test_probes_come_at_doubling_intervals_up_to_the_longest():
    log, last, waits = events(*["permanent"] * 5), NOW + 4 * MINUTE, []
    for number in range(7):
        state = state_of(FIVE, failed_tries(log), last)
        waits.append((state.probe_at - last) / HOUR)
        assert (state.phase, state.probes) == ("open", number)
        assert state_of(FIVE, failed_tries(log), state.probe_at).phase == "half_open"
        last = state.probe_at
        log.append(Event(len(log), f"probe{number}", last, None, "failed", "permanent", "probe"))
    assert waits == [1, 2, 4, 8, 16, 24, 24]


def test_a_persons_failing_try_puts_the_probe_off_and_doubles_nothing():
    log = events(*["permanent"] * 5)
    log.append(Event(9, "by_hand", NOW + HOUR, None, "failed", "permanent", "manual"))
    assert state_of(FIVE, failed_tries(log), NOW + HOUR).probe_at == NOW + 2 * HOUR


def test_a_probe_under_way_is_waited_for_and_one_without_a_verdict_is_made_again():
    tries = failed_tries(events(*["permanent"] * 5))
    asked = NOW + 4 * MINUTE + HOUR
    running = state_of(FIVE, tries, asked + 2 * HOUR, probe=Probe("r1", asked, running=True))
    assert (running.phase, running.probing) == ("half_open", "r1")
    broke_off = Probe("r1", asked, running=False)
    assert state_of(FIVE, tries, asked + MINUTE, probe=broke_off).probe_at == asked + HOUR
    assert state_of(FIVE, tries, asked + HOUR, probe=broke_off).phase == "half_open"


def test_what_the_upstream_asks_for_is_heard_up_to_the_longest_interval():
    def probe_at(retry_at):
        last = Event(0, "r", NOW, None, "failed", "transient", retry_at=retry_at)
        return state_of(Breaker(failures=1), failed_tries([last]), NOW).probe_at

    assert probe_at(NOW + 3 * HOUR) == NOW + 3 * HOUR
    assert probe_at(NOW + MINUTE) == NOW + HOUR
    assert probe_at(NOW + 40 * DAY) == NOW + DAY


def test_the_reason_names_since_when_why_what_comes_and_what_to_do():
    log = events(*["permanent"] * 5, start=NOW.replace(hour=6, minute=6))
    state = state_of(FIVE, failed_tries(log), NOW.replace(hour=7, minute=0))
    assert sentence("mini", state) == (
        "breaker open since 2026-11-22 06:10 UTC after 5 failures in a row (permanent: https://example.org/data.csv "
        "was refused; got HTTP 403); next probe 07:10 UTC; `refresh reset mini` closes it"
    )
    due = state_of(FIVE, failed_tries(log), NOW)
    assert "; a probe is due; " in sentence("mini", due)
    assert "next probe 2026-11-23 02:00 UTC" in sentence(
        "mini", state_of(Breaker(failures=1, probe=DAY), failed_tries(events("permanent", start=NOW - 10 * HOUR)), NOW)
    )
    assert sentence("mini", State()) == ""


def test_a_long_message_is_cut_and_loses_its_place():
    text = short("benin/mini: " + "x" * 500 + "\nmore")
    assert (len(text), text[-1], text[0]) == (100, "…", "x")
    assert short("") == ""


def test_a_probe_asks_for_one_partition_and_each_for_another():
    static = spec_of(partitions={"static": {"series": ["b", "a"]}})
    assert [probe_key(static, ["b", "a"], n, NOW) for n in range(3)] == ["b", "a", "b"]
    days = spec_of(partitions={"time": "day", "start": "2026-01-01", "lookback": 1, "column": "t"})
    assert [probe_key(days, ["2026-11-20", "2026-11-21"], n, NOW) for n in range(2)] == ["2026-11-21", "2026-11-20"]
    assert probe_key(spec_of(), [], 3, NOW) is None
    crossed = spec_of(
        partitions={"time": "day", "start": "2026-01-01", "lookback": 1, "column": "t", "static": {"s": ["b", "a"]}}
    )
    due = [f"2026-11-{day}|{s}" for day in (20, 21) for s in "ba"]
    assert [probe_key(crossed, due, n, NOW) for n in range(3)] == [due[2], due[3], due[0]]


def test_a_period_that_is_not_published_yet_is_not_probed():
    patient = spec_of(
        partitions={"time": "day", "start": "2026-01-01", "lookback": 1, "column": "t", "unpublished_for": "60h"}
    )
    assert probe_key(patient, ["2026-11-20", "2026-11-21"], 0, NOW) == "2026-11-20"


WORDS = st.sampled_from(("ok", "transient", "permanent", "contract", *NEUTRAL))
RUNS = st.lists(st.lists(WORDS, min_size=1, max_size=4), max_size=20)


@given(RUNS, st.integers(1, 6))
def test_it_is_open_exactly_after_as_many_failing_runs_since_the_last_good_one(runs, failures):
    log = events(*map(" ".join, runs))
    expected = 0
    for run in runs:
        if "ok" in run:
            expected = 0
        elif set(run) & {"transient", "permanent", "contract"}:
            expected += 1
    state = state_of(Breaker(failures=failures), failed_tries(log), NOW)
    assert state.failures == expected
    assert state.holds == (expected >= failures)
    assert failed_tries(reversed(log)) == failed_tries(log)


@given(RUNS, st.data())
def test_what_neither_counts_nor_resets_changes_nothing_wherever_it_is_logged(runs, data):
    log = events(*map(" ".join, runs))
    word = data.draw(st.sampled_from(NEUTRAL))
    place = data.draw(st.integers(0, len(log)))
    [noise] = events(word)
    log.append(Event(place * 2 - 1, "other", NOW, None, noise.outcome, noise.error_class))
    moved = [Event(**{**vars(event), "order": event.order * 2}) if event.run_id != "other" else event for event in log]
    assert failed_tries(moved) == failed_tries(events(*map(" ".join, runs)))


@given(st.integers(0, 2000), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**7))
def test_a_probe_is_never_later_than_the_longest_interval_after_the_last_try(probes, first, longest, passed):
    breaker = Breaker(failures=1, probe=timedelta(seconds=first), probe_max=timedelta(seconds=longest))
    log = events("permanent", *["permanent"] * probes, trigger="probe", step=timedelta())
    now = NOW + timedelta(seconds=passed)
    state = state_of(breaker, failed_tries(log), now)
    assert NOW <= state.probe_at <= NOW + breaker.probe_max
    assert (state.phase == "half_open") == (now >= state.probe_at)


@given(RUNS)
def test_any_success_closes_it(runs):
    log = events(*map(" ".join, runs), "ok")
    assert state_of(Breaker(failures=1), failed_tries(log), NOW) == State()
