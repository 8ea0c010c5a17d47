"""Presets, validity and instants of schedules."""

from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest
from dagster._utils.schedules import is_valid_cron_string, schedule_execution_time_iterator
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.schedule import cron_of, ever_fires, fires_between, last_fire, next_fires, valid_cron
from refresh_pipelines.spec import Schedule

UTC = timezone.utc


@pytest.mark.parametrize(
    ("fields", "cron"),
    [
        ({"frequency": "hourly", "time": "05:15"}, "15 * * * *"),
        ({"frequency": "daily", "time": "05:15"}, "15 5 * * *"),
        ({"frequency": "weekly"}, "0 0 * * 0"),
        ({"frequency": "weekly", "day": "sunday"}, "0 0 * * 0"),
        ({"frequency": "weekly", "day": "Friday", "time": "15:45"}, "45 15 * * 5"),
        ({"frequency": "monthly"}, "0 0 1 * *"),
        ({"frequency": "monthly", "day": 15}, "0 0 15 * *"),
        ({"frequency": "quarterly", "day": 2}, "0 0 2 1,4,7,10 *"),
        ({"frequency": "annual"}, "0 0 1 1 *"),
        ({"frequency": "annual", "day": 3, "month": 6}, "0 0 3 6 *"),
        ({"cron": "  5 4 * * 1 "}, "5 4 * * 1"),
        ({"frequency": "annual", "day": 29, "month": 2}, "0 0 29 feb *"),
        ({"cron": "30 6  29 2 *"}, "30 6 29 feb *"),
    ],
)
def test_a_schedule_gives_its_cron_expression(fields, cron):
    assert cron_of(Schedule(**fields), "x") == cron


@pytest.mark.parametrize(
    "fields",
    [{}, {"frequency": "on_event"}, {"frequency": "weekly", "day": 3}, {"frequency": "monthly", "day": "monday"}],
)
def test_a_schedule_without_a_rhythm_has_no_cron_expression(fields):
    with pytest.raises(ValueError, match=r"rhythm|day"):
        cron_of(Schedule(**fields), "x")


def test_a_weekly_default_is_a_real_sunday():
    at = next_fires(cron_of(Schedule(frequency="weekly"), "x"), "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1)[0]
    assert at.strftime("%A") == "Sunday"


FIELDS = (
    "* 0 1 2 7 8 12 30 31 59 60 */5 */0 1-5 5-1 1,2 1,,2 mon fri-mon MON-FRI jan l L5 1#2 mon#3 15w W1 ? h H(0-5) "
    "-1 1.0 x 00 0-7 1-9/2"
)
FIELD = st.sampled_from(FIELDS.split())
PRESET = st.sampled_from("@daily @hourly @weekly @monthly @yearly @annually @midnight @reboot @x".split())  # noqa: SIM905


@given(st.lists(FIELD, min_size=4, max_size=7).map(" ".join) | PRESET)
def test_cron_expressions_are_judged_as_dagster_does(text):
    assert valid_cron(text) == is_valid_cron_string(text)


@given(st.text(max_size=20))
def test_what_is_accepted_of_any_text_dagster_accepts(text):
    assert not valid_cron(text) or is_valid_cron_string(text)


@pytest.mark.parametrize("cron", ["0 0 31 4 *", "0 0 31 4,6 *", "0 0 31 9,11 *"])
def test_a_date_that_never_comes_is_found(cron):
    assert valid_cron(cron)
    assert not ever_fires(cron)


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "0 0 31 4 1", "0 0 l 2 *", "0 0 31 * *", "@daily"])
def test_a_rare_date_still_comes(cron):
    assert ever_fires(cron)


ZONES = st.sampled_from(["UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kolkata"])
# Days on which one of their clocks changes the next day, a leap day, the end of a year.
AROUND_CHANGES = st.sampled_from(
    ["2026-03-07", "2026-03-28", "2026-10-24", "2026-10-31", "2026-04-04", "2026-10-03", "2028-02-28", "2026-12-30"]
)
FIXED = st.builds("{} {} * * {}".format, st.integers(0, 59), st.integers(0, 4), st.sampled_from(["*", "0", "1", "0,6"]))
RARE = st.builds("{} {} {} {} *".format, st.integers(0, 59), st.integers(0, 4), st.sampled_from(["1", "31", "L"]),
                 st.sampled_from(["*", "1,4,7,10", "3"]))  # fmt: skip
LEAP = st.just("30 2 29 feb *")
HOURLY = st.builds("{} * * * *".format, st.sampled_from(["0", "17", "*/15", "0,30"]))


@given(FIXED | HOURLY | RARE | LEAP, ZONES, AROUND_CHANGES, st.integers(0, 3 * 24 * 60))
def test_instants_are_those_of_dagster_also_where_the_clock_changes(cron, zone, day, minutes):
    if "* * *" in cron and zone == "Australia/Lord_Howe":
        cron = (
            "0 3 * * *"  # there Dagster counts minutes of an hour that is half an hour off, depending on today's date
        )
    after = datetime.fromisoformat(f"{day}T00:00+00:00") + timedelta(minutes=minutes)
    theirs = schedule_execution_time_iterator(after.timestamp() + 1, cron, zone)
    assert next_fires(cron, zone, after, 4) == [at.astimezone(UTC) for at in islice(theirs, 4)]


def test_instants_follow_the_zone_and_are_utc():
    ticks = next_fires("0 17 * * *", "America/New_York", datetime(2026, 3, 7, 12, tzinfo=UTC), 2)
    assert ticks == [datetime(2026, 3, 7, 22, tzinfo=UTC), datetime(2026, 3, 8, 21, tzinfo=UTC)]
    assert all(at.tzinfo is UTC for at in ticks)


def test_instants_need_an_instant_with_a_zone():
    with pytest.raises(ValueError, match="time zone"):
        next_fires("* * * * *", "UTC", datetime(2026, 1, 1), 1)  # noqa: DTZ001


@given(FIXED | HOURLY | RARE | LEAP, ZONES, AROUND_CHANGES, st.integers(0, 3 * 24 * 60))
def test_the_newest_instant_is_the_last_of_those_that_came(cron, zone, day, minutes):
    after = datetime.fromisoformat(f"{day}T00:00+00:00") + timedelta(minutes=minutes)
    coming = next_fires(cron, zone, after, 4)
    assert fires_between(cron, zone, after, coming[-1]) == coming
    assert [last_fire(cron, zone, at) for at in coming] == coming
    assert last_fire(cron, zone, coming[1] - timedelta(microseconds=1)) == coming[0]


def test_a_preset_is_shifted_by_its_name_and_never_into_another_day_or_hour():
    schedule = Schedule(frequency="daily", time="23:10", jitter="49m")
    names = [f"source_{n}" for n in range(200)]
    found = [cron_of(schedule, name) for name in names]
    assert found == [cron_of(schedule, name) for name in names]
    assert {cron.split()[1] for cron in found} == {"23"}
    assert len(set(found)) > 40
    hourly = Schedule(frequency="hourly", time="00:50", jitter="30m")
    assert {cron_of(hourly, name).split()[1:] == ["*"] * 4 for name in names} == {True}


@given(st.integers(1_600_000_000, 1_900_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)), st.integers(1, 5))
def test_instants_rise_and_come_after(after, count):
    ticks = next_fires("*/20 * * * *", "Europe/Berlin", after, count)
    assert len(ticks) == count
    assert [after, *ticks] == sorted({after, *ticks})
    assert ticks[0] - after <= timedelta(minutes=20)
