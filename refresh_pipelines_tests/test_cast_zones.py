"""Local times into instants, with hours that clocks show twice or never."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.cast import time_trouble
from refresh_pipelines.spec import Column
from refresh_pipelines_tests.test_cast import accepts, cast, refuses

UTC = timezone.utc
# The two changes of 2024 in Paris: 31 March 02:00 -> 03:00, 27 October 03:00 -> 02:00.

PARIS = {"timezone": "Europe/Paris"}


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-15T12:00:00", "2024-01-15T11:00"), ("2024-07-15 12:00", "2024-07-15T10:00"),
        ("2024-03-31T01:59:59", "2024-03-31T00:59:59"), ("2024-03-31T03:00:00", "2024-03-31T01:00"),
        ("2024-10-27T01:59:59", "2024-10-26T23:59:59"), ("2024-10-27T03:00:00", "2024-10-27T02:00"),
        ("2024-07-15", "2024-07-14T22:00"), ("2024-07-15T12:00:00Z", "2024-07-15T12:00"),
        ("2024-10-27T02:30:00+01:00", "2024-10-27T01:30"), ("2024-03-31T02:30:00.5+01:00", "2024-03-31T01:30:00.5"),
    ],
)  # fmt: skip
def test_a_local_time_is_the_instant_its_clocks_showed_unless_it_brings_an_offset(text, instant):
    accepts(text, "timestamptz", utc(instant), **PARIS)


@pytest.mark.parametrize(("rule", "instant"), [("first", "2024-10-27T00:30"), ("last", "2024-10-27T01:30")])
def test_of_an_hour_that_comes_twice_one_is_taken_if_the_source_says_which(rule, instant):
    accepts("2024-10-27T02:30:00", "timestamptz", utc(instant), **PARIS, ambiguous=rule)
    accepts("27.10.2024 02:30", "timestamptz", utc(instant), **PARIS, ambiguous=rule, format="%d.%m.%Y %H:%M")


def test_hours_that_come_twice_or_never_are_refused():
    refuses("2024-10-27T02:30:00", "timestamptz", **PARIS)
    refuses("2024-03-31T02:30:00", "timestamptz", **PARIS, ambiguous="first")
    accepts("2024-03-31T02:30:00", "timestamptz", utc("2024-03-31T01:30"), **PARIS, nonexistent="shift")
    column = Column(type="timestamptz", **PARIS)
    assert time_trouble("2024-10-27T02:30:00", column) == "a time that comes twice when clocks are set"
    assert time_trouble("2024-03-31T02:30:00", column) == "a time that is skipped when clocks are set"
    assert time_trouble("no time", column) == ""


@pytest.mark.parametrize(
    "text", ["0000-01-01", "2024-02-30T00:00", "x", "2024-01-01T10:00:00 CET", "2024-01-01T10:00 +01:00"]
)
def test_a_text_that_is_no_time_is_none_in_any_zone(text):
    refuses(text, "timestamptz", **PARIS)


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001
    st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"]),
)
def test_local_times_are_read_as_pythons_zones_read_them(local, zone):
    there = ZoneInfo(zone)
    first, last = (local.replace(tzinfo=there, fold=fold).astimezone(UTC) for fold in (0, 1))
    exists = first.astimezone(there).replace(tzinfo=None) == local
    for rule, expected in (("first", first), ("last", last), ("refuse", first if first == last else None)):
        values, bad = cast([local.isoformat()], "timestamptz", timezone=zone, ambiguous=rule)
        assert (values, bad) == (([expected], [expected is None]) if exists else ([None], [True]))
    if not exists:
        assert cast([local.isoformat()], "timestamptz", timezone=zone, nonexistent="shift")[0] == [first]
