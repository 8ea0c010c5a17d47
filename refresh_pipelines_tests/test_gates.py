"""The gate before a source that requires others, and when a derived one is built; all with a fixed clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.expected import Since, expectation
from refresh_pipelines.gates import (
    PATIENCE,
    PAUSES,
    Build,
    Built,
    Closed,
    Facts,
    Open,
    Report,
    Wait,
    changed_since,
    gate_of,
    inputs_of,
    next_build,
)
from refresh_pipelines_tests.workbench import spec_of

# A Sunday. The required sources are due each day at 06:00 UTC.
NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
DUE = NOW.replace(hour=6)
DAY = timedelta(days=1)
LONG_AGO = Since(NOW - 400 * DAY)
DAILY = {"frequency": "daily", "time": "06:00"}
PLAIN = spec_of("plain", schedule=DAILY)
PAIR = spec_of("pair", schedule=DAILY, partitions={"static": {"side": ["left", "right"]}})
DAYS = spec_of("days", schedule=DAILY, partitions={"time": "day", "start": "2026-01-01", "column": "k", "lookback": 1})
SOURCES = {spec.source: spec for spec in (PLAIN, PAIR, DAYS)}


def asking(*needs, **changes):
    return spec_of(
        "asking",
        requires=[{"source": "plain", **need} if isinstance(need, dict) else need for need in needs],
        **changes,
    )


def facts(spec, now=NOW, since=LONG_AGO, **ages):
    """Facts of one source from the ages of its newest successes; the key `_` is of a source without partitions."""
    reports = {
        None if key == "_" else key.replace("d", "").replace("_", "-"): Report(now - age) for key, age in ages.items()
    }
    return {spec.source: Facts(expectation(spec, since, now), reports)}


def days(now=NOW, **ages):
    return facts(DAYS, now, **{f"d2026_11_{key[1:]}": age for key, age in ages.items()})


def gate(need, known, now=NOW, keys=(), **changes):
    return gate_of(asking(need, **changes), SOURCES, known, now, keys)


def test_a_source_that_was_refreshed_since_it_was_due_opens_the_gate():
    assert gate({}, facts(PLAIN, _=timedelta(hours=5))) == Open()


def test_a_source_that_was_due_and_not_refreshed_since_closes_the_gate():
    found = gate({}, facts(PLAIN, _=timedelta(hours=7)))
    assert found == Closed(
        "benin/plain has not been refreshed since 2026-11-22 05:00 UTC; expected at 2026-11-22 06:00 UTC"
    )


def test_max_lag_counts_from_the_first_tick_that_was_missed():
    late = {"max_lag": "3d"}
    # Refreshed 2 days and 7 hours ago, at 05:00: the ticks at 06:00 of that day, the next and today were missed.
    assert gate(late, facts(PLAIN, _=2 * DAY + timedelta(hours=7))) == Open(
        (
            "benin/plain has not been refreshed since 2026-11-20 05:00 UTC; expected at 2026-11-20 06:00 UTC, "
            "and used as it is (max_lag 3d)",
        )
    )
    assert gate(late, facts(PLAIN, _=3 * DAY + timedelta(hours=7))) == Closed(
        "benin/plain has not been refreshed since 2026-11-19 05:00 UTC; expected at 2026-11-19 06:00 UTC, "
        "and by 2026-11-22 06:00 UTC at the latest (max_lag 3d)"
    )


def test_a_source_that_died_long_ago_closes_the_gate_although_its_newest_tick_was_just_now():
    assert isinstance(gate({"max_lag": "10d"}, facts(PLAIN, _=200 * DAY)), Closed)


def test_max_lag_ends_on_the_instant():
    known = facts(PLAIN, _=timedelta(hours=7))
    assert isinstance(gate({"max_lag": "6h"}, known), Open)
    assert isinstance(gate({"max_lag": "5h59m59s"}, known), Closed)


def test_what_does_not_block_is_not_waited_for_and_named():
    found = gate({"max_lag": "1d", "blocking": False}, facts(PLAIN, _=30 * DAY))
    assert isinstance(found, Open)
    assert "benin/plain has not been refreshed since 2026-10-23" in found.notes[0]
    assert "not waited for (blocking: false)" in found.notes[0]


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("need", [{}, {"max_lag": "99d"}, {"period": "any"}])
def test_a_source_that_never_reported_closes_the_gate_whatever_is_said(need, blocking):
    found = gate({**need, "blocking": blocking}, facts(PLAIN))
    assert found == Closed("benin/plain has never been refreshed: `refresh run plain`", never=True)


def test_never_is_told_before_late():
    spec = asking({"source": "plain"}, {"source": "pair"})
    found = gate_of(spec, SOURCES, facts(PLAIN, _=9 * DAY), NOW)
    assert found == Closed("benin/pair has never been refreshed: `refresh run pair`", never=True)


def test_each_static_partition_is_needed_and_the_latest_one_is_named():
    found = gate({"source": "pair"}, facts(PAIR, left=timedelta(hours=7), right=2 * DAY))
    assert isinstance(found, Closed)
    assert found.reason.startswith(
        "benin/pair[right] (and 1 more) has not been refreshed since 2026-11-20 12:00 UTC; expected at 2026-11-21 06:00"
    )


def test_a_static_partition_that_was_never_loaded_closes_the_gate():
    found = gate({"source": "pair", "max_lag": "99d"}, facts(PAIR, left=timedelta(hours=1)))
    assert found == Closed("benin/pair[right] has never been refreshed: `refresh run pair`", never=True)


def test_of_periods_only_the_newest_is_needed():
    assert gate({"source": "days"}, days(d21=timedelta(hours=1))) == Open()


def test_a_period_that_is_not_there_is_late_since_the_first_that_is_missing():
    # Daily partitions: that of the 19th was due on the 20th at 06:00, and so on.
    found = gate({"source": "days", "max_lag": "1d"}, days(d18=3 * DAY))
    assert found == Closed(
        "benin/days[2026-11-21] has not been refreshed since 2026-11-19 12:00 UTC; expected at 2026-11-20 06:00 UTC, "
        "and by 2026-11-21 06:00 UTC at the latest (max_lag 1d)"
    )
    assert isinstance(gate({"source": "days", "max_lag": "3d"}, days(d18=3 * DAY)), Open)


def test_an_old_backfill_does_not_open_the_gate():
    found = gate({"source": "days", "max_lag": "1d"}, days(d01=timedelta(minutes=1)))
    assert isinstance(found, Closed)


TODAY = {"partitions": {"time": "day", "start": "2026-01-01", "column": "k"}}


def test_the_same_period_is_the_one_that_covers_the_same_time():
    need = {"source": "days", "period": "same"}
    known = days(d15=timedelta(minutes=1), d21=timedelta(minutes=1))
    assert gate(need, known, keys=["2026-11-15"], **TODAY) == Open()
    found = gate(need, known, keys=["2026-11-16"], **TODAY)
    assert found == Closed("benin/days[2026-11-16] has not been refreshed yet; expected at 2026-11-17 06:00 UTC")


def test_a_month_needs_all_its_days_under_the_same_period():
    month = {"partitions": {"time": "month", "start": "2026-01-01", "column": "k"}}
    all_but_one = days(**{f"d{day:02}": timedelta(minutes=1) for day in range(1, 22) if day != 7})
    found = gate({"source": "days", "period": "same"}, all_but_one, keys=["2026-11-01"], **month)
    assert isinstance(found, Closed)
    assert "benin/days[2026-11-07]" in found.reason


def test_the_same_period_that_is_not_due_yet_closes_the_gate():
    found = gate({"source": "days", "period": "same"}, days(d21=timedelta(hours=1)), keys=["2026-11-22"], **TODAY)
    assert found == Closed("no partition of benin/days is due yet for the same time")


def test_any_success_opens_the_gate_of_period_any():
    assert gate({"period": "any"}, facts(PLAIN, _=300 * DAY)) == Open()


def test_before_the_first_tick_is_due_one_success_is_enough():
    known = facts(PLAIN, since=Since(NOW - timedelta(hours=1)), _=2 * DAY)
    assert gate({}, known) == Open()


def test_a_disabled_source_is_only_asked_whether_it_was_ever_refreshed():
    off = spec_of("plain", schedule=DAILY, enabled=False)
    assert gate({}, facts(off, _=99 * DAY)) == Open()


def test_a_source_that_cannot_be_loaded_closes_the_gate():
    found = gate_of(asking({"source": "gone"}), SOURCES, {}, NOW)
    assert found == Closed("gone cannot be loaded: `refresh check` says why", never=True)


def test_a_pause_of_the_required_source_is_no_lateness():
    since = Since(NOW - 400 * DAY, resumed_at=NOW - timedelta(hours=7))
    found = gate({"max_lag": "6h"}, facts(PLAIN, since=since, _=90 * DAY))
    assert isinstance(found, Open)


@given(hours=st.integers(0, 24 * 40), lag=st.integers(0, 24 * 40))
def test_more_patience_never_closes_a_gate_and_more_age_never_opens_one(hours, lag):
    def is_open(age, grace):
        return isinstance(gate({"max_lag": f"{grace}h"}, facts(PLAIN, _=timedelta(hours=age))), Open)

    if is_open(hours, lag):
        assert is_open(hours, lag + 1)
        assert hours == 0 or is_open(hours - 1, lag)


# What a derived source is built from.

DERIVED = spec_of("asking", requires=[{"source": "pair"}])


def versions(left, right):
    return {"pair": Facts(None, {"left": Report(NOW, left), "right": Report(NOW, right)})}


def test_inputs_are_the_data_versions_whenever_they_were_reported():
    later = {"pair": Facts(None, {"right": Report(NOW + DAY, "b"), "left": Report(NOW + DAY, "a")})}
    assert inputs_of(DERIVED, versions("a", "b")) == inputs_of(DERIVED, later)
    assert inputs_of(DERIVED, versions("a", "b")) != inputs_of(DERIVED, versions("b", "a"))


def test_another_yaml_is_another_input():
    other = spec_of("asking", requires=[{"source": "pair"}], merge_key=["t"])
    assert inputs_of(DERIVED, versions("a", "b")) != inputs_of(other, versions("a", "b"))


def never():
    raise AssertionError("not to be asked")


BUILT = Built("old", "run-0001-x", NOW - DAY)
PASSED = Open()


def build(gate=PASSED, inputs="new", built=BUILT, **changes):
    values = {
        "asked_for": lambda: "old",
        "failures": list,
        "building": lambda: None,
        "refreshing": lambda: None,
        "changed": NOW,
        "now": NOW,
        **changes,
    }
    return next_build(gate, inputs, built, **values)


def test_changed_inputs_behind_an_open_gate_are_built():
    assert build() == Build("new", 1)
    assert build(built=None) == Build("new", 1)


def test_a_closed_gate_builds_nothing_and_asks_nothing_more():
    assert build(Closed("why"), building=never, failures=never, asked_for=never) == Wait("closed: why")


def test_unchanged_inputs_build_nothing_and_ask_nothing_more():
    found = build(inputs="old", building=never, failures=never, asked_for=never)
    assert found == Wait("nothing changed since run run-0001")


def test_inputs_that_the_newest_build_was_requested_for_are_not_requested_again():
    assert build(asked_for=lambda: "new") == Wait("nothing changed since run run-0001")


def test_a_build_and_refreshes_of_inputs_that_are_under_way_are_waited_for():
    assert build(building=lambda: "run 1 builds it", refreshing=never, failures=never) == Wait("run 1 builds it")
    assert build(refreshing=lambda: "waits for run 1", failures=never) == Wait("waits for run 1")


def test_a_change_waits_for_other_refreshes_for_an_hour_and_no_longer():
    changed = NOW - PATIENCE
    assert build(refreshing=lambda: "waits for run 1", changed=changed) == Wait("waits for run 1")
    assert build(refreshing=never, changed=changed - timedelta(seconds=1)) == Build("new", 1)


def test_a_build_is_wanted_since_the_first_change_after_the_newest_one():
    known = {
        "pair": Facts(
            None,
            {
                "left": Report(NOW, "a", NOW - timedelta(hours=3)),
                "right": Report(NOW, "b", NOW - 2 * DAY),
            },
        )
    }
    assert changed_since(DERIVED, known, BUILT) == NOW - timedelta(hours=3)
    assert changed_since(DERIVED, known, None) == NOW - 2 * DAY
    assert changed_since(DERIVED, known, Built("new", "run", NOW)) is None


def test_a_failed_build_is_tried_again_after_ten_minutes_and_an_hour_and_then_left():
    once, twice = [NOW - PAUSES[0]], [NOW - DAY, NOW - PAUSES[1]]
    assert build(failures=lambda: once) == Build("new", 2)
    assert isinstance(build(failures=lambda: once, now=NOW - timedelta(seconds=1)), Wait)
    assert build(failures=lambda: twice) == Build("new", 3)
    assert isinstance(build(failures=lambda: twice, now=NOW - timedelta(seconds=1)), Wait)
    assert isinstance(build(failures=lambda: [*twice, NOW - DAY], now=NOW + 99 * DAY), Wait)
