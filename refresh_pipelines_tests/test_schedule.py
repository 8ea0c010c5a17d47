"""Presets, validity and instants of schedules."""

from datetime import datetime, timedelta, timezone

import pytest
from dagster._utils.schedules import is_valid_cron_string
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.schedule import cron_of, ever_fires, next_fires, valid_cron
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
    ],
)
def test_a_schedule_gives_its_cron_expression(fields, cron):
    assert cron_of(Schedule(**fields), "x") == cron


@pytest.mark.parametrize(
    "fields",
    [{}, {"frequency": "on_event"}, {"frequency": "weekly", "day": 3}, {"frequency": "monthly", "day": "monday"}],
)
def test_a_schedule_without_a_rhythm_has_no_cron_expression(fields):
    with pytest.raises(ValueError, match="rhythm|day"):
        cron_of(Schedule(**fields), "x")


def test_a_weekly_default_is_a_real_sunday():
    at = next_fires(cron_of(Schedule(frequency="weekly"), "x"), "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1)[0]
    assert at.strftime("%A") == "Sunday"


FIELD = st.sampled_from(
    [
        "*",
        "0",
        "1",
        "2",
        "7",
        "8",
        "12",
        "30",
        "31",
        "59",
        "60",
        "*/5",
        "*/0",
        "1-5",
        "5-1",
        "1,2",
        "1,,2",
        "mon",
        "fri-mon",
    ]
    + [
        "MON-FRI",
        "jan",
        "l",
        "L5",
        "1#2",
        "mon#3",
        "15w",
        "W1",
        "?",
        "h",
        "H(0-5)",
        "-1",
        "1.0",
        "x",
        "00",
        "0-7",
        "1-9/2",
    ]
)
PRESET = st.sampled_from(
    ["@daily", "@hourly", "@weekly", "@monthly", "@yearly", "@annually", "@midnight", "@reboot", "@x"]
)


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


def test_instants_are_utc_and_follow_the_zone_through_both_changes_of_the_clock():
    after = datetime(2026, 3, 7, 12, tzinfo=UTC)
    spring = next_fires("0 17 * * *", "America/New_York", after, 2)
    assert spring == [datetime(2026, 3, 7, 22, tzinfo=UTC), datetime(2026, 3, 8, 21, tzinfo=UTC)]
    autumn = next_fires("30 1 * * *", "America/New_York", datetime(2026, 11, 1, 0, tzinfo=UTC), 2)
    assert len({at.date() for at in autumn}) == 2
    assert all(at.tzinfo is UTC for at in spring + autumn)


def test_instants_need_an_instant_with_a_zone():
    with pytest.raises(ValueError, match="time zone"):
        next_fires("* * * * *", "UTC", datetime(2026, 1, 1), 1)  # noqa: DTZ001


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), st.integers(1, 5))
def test_instants_rise_and_come_after(after, count):
    ticks = next_fires("*/20 * * * *", "Europe/Berlin", after, count)
    assert len(ticks) == count
    assert [after, *ticks] == sorted({after, *ticks})
    assert ticks[0] - after <= timedelta(minutes=20)
