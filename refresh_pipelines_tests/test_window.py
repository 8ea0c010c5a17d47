"""Partitions as keys and intervals; the arithmetic agrees with Dagster's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.orchestration.partitions import partitions_of
from refresh_pipelines.window import (
    UnknownPartition,
    Window,
    due_keys,
    fill,
    first_period,
    floor_period,
    key_format,
    next_period,
    partition_keys,
    since,
    split_key,
    window_of,
)
from refresh_pipelines_tests.workbench import spec_of

UTC = timezone.utc
KINDS = ["hour", "day", "week", "month", "quarter", "year"]


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def timed(kind, start="2023-01-01", **more):
    return spec_of(partitions={"time": kind, "start": start, **more}, params={"days": 7, "sites": ["a"]})


@pytest.mark.parametrize(
    ("kind", "key", "start", "end"),
    [
        ("hour", "2026-01-31-05:00", at(2026, 1, 31, 5), at(2026, 1, 31, 6)),
        ("hour", "2026-12-31-23:00", at(2026, 12, 31, 23), at(2027, 1, 1)),
        ("day", "2024-02-28", at(2024, 2, 28), at(2024, 2, 29)),
        ("day", "2024-02-29", at(2024, 2, 29), at(2024, 3, 1)),
        ("day", "2025-12-31", at(2025, 12, 31), at(2026, 1, 1)),
        ("week", "2025-12-28", at(2025, 12, 28), at(2026, 1, 4)),
        ("month", "2024-02-01", at(2024, 2, 1), at(2024, 3, 1)),
        ("month", "2025-12-01", at(2025, 12, 1), at(2026, 1, 1)),
        ("quarter", "2025-10-01", at(2025, 10, 1), at(2026, 1, 1)),
        ("year", "2024-01-01", at(2024, 1, 1), at(2025, 1, 1)),
    ],
)
def test_a_key_is_the_first_instant_of_its_period(kind, key, start, end):
    window = window_of(timed(kind), key)
    assert (window.partition, window.start, window.end) == (key, start, end)


@pytest.mark.parametrize(
    ("kind", "key", "why"),
    [
        ("day", "2024-02-30", "is no day partition"), ("day", "2024-2-3", "is no day partition"),
        ("day", "2024-02-03-00:00", "is no day partition"), ("day", "", "is no day partition"),
        ("hour", "2024-02-03-05:30", "is not the beginning of a hour"), ("hour", "2024-02-03", "is no hour partition"),
        ("week", "2024-01-01", "is not the beginning of a week"),
        ("month", "2024-01-15", "is not the beginning of a month"),
        ("quarter", "2024-02-01", "is not the beginning of a quarter"),
        ("year", "2024-07-01", "is not the beginning of a year"),
        ("year", "2022-01-01", "lies before the first partition, 2023-01-01"),
    ],
)  # fmt: skip
def test_a_key_that_is_none_says_what_keys_look_like(kind, key, why):
    with pytest.raises(UnknownPartition, match=why) as caught:
        window_of(timed(kind), key)
    assert "2023-01-01" in str(caught.value)


def test_a_source_without_partitions_has_one_window_and_no_key():
    source = spec_of(params={"days": 7, "name": "x", "sites": ["a"]})
    assert window_of(source, None) == Window(names={"days": 7, "name": "x"})
    assert partition_keys(source, at(2026, 1, 1)) == due_keys(source, at(2026, 1, 1)) == []
    with pytest.raises(UnknownPartition, match="has no partitions, so '2024-01-01' is none"):
        window_of(source, "2024-01-01")


def test_a_static_key_names_its_dimension_and_reads_from_the_start():
    source = spec_of(partitions={"static": {"site": ["b", "a"]}, "start": "1971-01-04"})
    window = window_of(source, "a")
    assert (window.start, window.end, window.names) == (at(1971, 1, 4), None, {"site": "a"})
    assert partition_keys(source, at(2026, 1, 1)) == due_keys(source, at(2026, 1, 1)) == ["b", "a"]
    assert window_of(source, None) == Window()


def test_fields_are_params_names_and_the_bounds_there_are():
    assert window_of(timed("day"), "2024-02-03").fields == {
        "days": 7, "partition": "2024-02-03", "start": at(2024, 2, 3), "end": at(2024, 2, 4)
    }  # fmt: skip
    assert Window().fields == {"partition": ""}


@pytest.mark.parametrize(
    ("kind", "start", "first"),
    [
        ("year", "2024-02-29", at(2025, 1, 1)), ("quarter", "2024-02-29", at(2024, 4, 1)),
        ("month", "2024-02-01", at(2024, 2, 1)),
        ("week", "2024-01-01", at(2024, 1, 7)), ("week", "2024-01-07", at(2024, 1, 7)),
        ("week", "2024-01-06T22:00:00-05:00", at(2024, 1, 14)), ("day", "2024-01-01T01:00:00-05:00", at(2024, 1, 2)),
        ("hour", "2024-01-01T02:30:00+02:00", at(2024, 1, 1, 1)), ("day", "2024-01-01T00:00:00", at(2024, 1, 1)),
    ],
)  # fmt: skip
def test_a_start_inside_a_period_moves_up_to_the_next(kind, start, first):
    assert first_period(timed(kind, start).partitions) == first


def test_the_running_period_counts_only_with_an_offset():
    now = at(2026, 3, 15)
    assert partition_keys(timed("year"), now) == ["2023-01-01", "2024-01-01", "2025-01-01"]
    assert partition_keys(timed("year", end_offset=1), now)[-1] == "2026-01-01"


@pytest.mark.parametrize(
    ("lookback", "now", "due"),
    [
        (0, at(2026, 3, 15), ["2026-03-14"]),
        (3, at(2026, 3, 2, 23, 59), ["2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01"]),
        (3, at(2023, 1, 3), ["2023-01-01", "2023-01-02"]),
        (3, at(2023, 1, 1, 12), []),
        (3, at(2020, 1, 1), []),
    ],
)
def test_a_tick_refreshes_the_newest_period_and_its_lookback(lookback, now, due):
    assert due_keys(timed("day", lookback=lookback), now) == due


@hypothesis.settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    start=st.datetimes(datetime(1996, 1, 1), datetime(2026, 6, 1)),  # noqa: DTZ001
    after=st.timedeltas(timedelta(0), timedelta(days=400)),
    offset=st.integers(0, 3),
)
def test_keys_and_windows_are_dagsters(kind, start, after, offset):
    source = timed(kind, start.isoformat(), end_offset=offset)
    now = first_period(source.partitions) + after
    dagsters = partitions_of(source)
    keys = partition_keys(source, now)
    assert keys == list(dagsters.get_partition_keys(current_time=now))
    for key in {*keys[:2], *keys[-2:]}:
        theirs, ours = dagsters.time_window_for_partition_key(key), window_of(source, key)
        assert (ours.start, ours.end) == (theirs.start, theirs.end)


# Turns of the year, of the leap day and of the clocks; only schedules have zones, partitions never follow.
EDGES = [
    ("2023-12-31T23:59:59", "UTC"), ("2024-02-29T00:00", "UTC"), ("2024-03-01T00:00", "UTC"),
    ("2025-02-28T23:30", "UTC"), ("2024-12-31T19:00", "America/New_York"), ("2024-03-10T01:59", "America/New_York"),
    ("2024-11-03T01:30", "America/New_York"), ("2024-03-31T02:00", "Europe/Berlin"),
    ("2024-10-27T02:30", "Europe/Berlin"), ("2025-01-01T13:00", "Pacific/Kiritimati"),
    ("2024-04-07T02:00", "Australia/Lord_Howe"),
]  # fmt: skip


@hypothesis.settings(max_examples=80)
@given(
    kind=st.sampled_from(KINDS),
    edge=st.sampled_from(EDGES),
    away=st.timedeltas(timedelta(hours=-3), timedelta(hours=3)),
    fold=st.integers(0, 1),
    offset=st.integers(0, 2),
)
def test_keys_and_windows_are_dagsters_where_calendar_and_clocks_turn(kind, edge, away, fold, offset):
    local = datetime.fromisoformat(edge[0]).replace(tzinfo=ZoneInfo(edge[1]), fold=fold)
    # Not long before, since each of these keys is asked of Dagster too.
    first = local - timedelta(days=20) if kind in ("hour", "day", "week") else datetime(2020, 1, 1)  # noqa: DTZ001
    source = timed(kind, f"{first:%Y-%m-%d}", end_offset=offset)
    now = local.astimezone(UTC) + away
    keys, dagsters = partition_keys(source, now.astimezone(ZoneInfo(edge[1]))), partitions_of(source)
    assert keys == list(dagsters.get_partition_keys(current_time=now))
    windows = [window_of(source, key) for key in keys]
    assert all(one.end == two.start for one, two in pairwise(windows))
    for key, ours in list(zip(keys, windows, strict=True))[-3:]:
        theirs = dagsters.time_window_for_partition_key(key)
        assert (ours.start, ours.end) == (theirs.start, theirs.end)
    if windows and not offset:
        assert windows[-1].end <= now < next_period(kind, windows[-1].end)


@given(st.sampled_from(KINDS), st.integers(0, 40), st.integers(0, 40))
def test_periods_are_counted_without_gaps(kind, one, two):
    start = first_period(timed(kind).partitions)
    assert next_period(kind, next_period(kind, start, one), two) == next_period(kind, start, one + two)
    end = next_period(kind, start, one)
    assert window_of(timed(kind), end.strftime(key_format(kind))).start == end


def test_reading_starts_a_lookback_before_the_newest_row():
    source = spec_of(partitions={"static": {"site": ["a"]}, "start": "2020-01-01", "lookback": "45d"})
    whole = window_of(source, "a")
    assert since(source, whole, "2026-03-01").start == at(2026, 1, 15)
    assert since(source, whole, "2026-03-01T12:00:00+02:00").start == at(2026, 1, 15, 10)
    assert since(source, whole, "2020-01-10").start == at(2020, 1, 1)
    assert since(source, whole, None) is whole
    assert since(source, Window("a"), "2026-03-01").start == at(2026, 1, 15)


def test_other_windows_are_not_narrowed():
    window = window_of(timed("day", lookback=3), "2024-02-03")
    assert since(timed("day", lookback=3), window, "2026-03-01") is window
    assert since(spec_of(), Window(), "2026-03-01") == Window()


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("x{start:%Y}.zip", "x2024.zip"), ("{start}", "2024-02-03"), ("{end:%Y%m%d}", "20240204"), ("{days}", "7"),
        ("{partition}/{start:%H:%M}", "2024-02-03/00:00"), ("plain", "plain"),
    ],
)  # fmt: skip
def test_templates_are_filled_from_the_window(text, filled):
    assert fill(text, window_of(timed("day"), "2024-02-03"), "url") == filled


def test_an_hour_is_written_with_its_time():
    window = window_of(timed("hour"), "2024-02-03-05:00")
    assert fill("{start} {end}", window, "url") == "2024-02-03T05:00:00Z 2024-02-03T06:00:00Z"


@pytest.mark.parametrize(
    "text", ["{site}", "{0}", "{}", "{start.year}", "{start[0]}", "{days:%Y}", "{open", "{partition.nothing}"]
)
def test_a_template_that_cannot_be_filled_names_what_there_is(text):
    with pytest.raises(
        UpstreamRefused, match=r"url .* names what this refresh has not .*\{days\}.*Correct the YAML"
    ) as caught:
        fill(text, window_of(timed("day"), "2024-02-03"), "url")
    assert repr(text) in str(caught.value)


# Every kind, with and without a second dimension.

SITES = ["44013", "b c", "å-1"]
starts = st.datetimes(datetime(1996, 1, 1), datetime(2026, 6, 1))  # noqa: DTZ001
instants = st.datetimes(datetime(1999, 12, 1), datetime(2027, 1, 31), timezones=st.just(UTC))  # noqa: DTZ001


def crossed(kind, start="2023-01-01", **more):
    return timed(kind, start, static={"site": SITES}, **more)


@hypothesis.settings(max_examples=120)
@given(kind=st.sampled_from(KINDS), start=starts, moment=instants)
def test_each_instant_since_the_start_lies_in_exactly_one_window(kind, start, moment):
    source = timed(kind, start.isoformat())
    first = first_period(source.partitions)
    begin = floor_period(kind, moment, first)
    if begin < first:
        return
    window = window_of(source, begin.strftime(key_format(kind)))
    assert window.start <= moment < window.end
    after = window_of(source, window.end.strftime(key_format(kind)))
    assert after.start == window.end and not after.start <= moment
    if begin > first:
        before = window_of(
            source, floor_period(kind, begin - timedelta(microseconds=1), first).strftime(key_format(kind))
        )
        assert before.end == window.start


@hypothesis.settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    start=starts,
    after=st.timedeltas(timedelta(0), timedelta(days=60)),
    offset=st.integers(0, 2),
    two=st.booleans(),
)
def test_the_windows_of_all_keys_tile_the_time_from_the_start(kind, start, after, offset, two):
    source = (crossed if two else timed)(kind, start.isoformat(), end_offset=offset)
    now = first_period(source.partitions) + after
    keys = partition_keys(source, now)
    windows = [window_of(source, key) for key in keys]
    assert [window.partition for window in windows] == keys
    assert len(set(keys)) == len(keys)
    for site in SITES if two else [None]:
        line = [window for window in windows if window.names.get("site") == site]
        at = first_period(source.partitions)
        for window in line:
            assert window.start == at < window.end
            at = window.end
        assert next_period(kind, at, -offset) <= now < next_period(kind, at, 1 - offset)


@given(kind=st.sampled_from(KINDS), number=st.integers(0, 60), site=st.sampled_from(SITES))
def test_a_key_of_two_dimensions_names_its_period_and_its_static_key(kind, number, site):
    start = next_period(kind, first_period(crossed(kind).partitions), number)
    time = start.strftime(key_format(kind))
    one, two = window_of(timed(kind), time), window_of(crossed(kind), f"{time}|{site}")
    assert (two.partition, two.start, two.end) == (f"{time}|{site}", one.start, one.end)
    assert two.names == {**one.names, "site": site}
    assert split_key(two.partition) == (time, site)
    assert fill("{partition} {site} {start:%Y}", two, "url") == f"{time}|{site} {site} {start:%Y}"


@pytest.mark.parametrize(
    ("kind", "key"), [("day", "9999-12-31"), ("month", "9999-12-01"), ("hour", "9999-12-31-23:00")]
)
def test_the_last_period_of_all_is_no_partition(kind, key):
    with pytest.raises(UnknownPartition, match="has no end"):
        window_of(timed(kind), key)


def test_a_key_of_one_dimension_has_no_second_part():
    assert split_key("2026-01-31") == ("2026-01-31", None)
    assert split_key("2026-01-31|") == ("2026-01-31", "")
    assert split_key("2026-01-31|a|b") == ("2026-01-31", "a|b")


def test_the_keys_of_two_dimensions_run_along_time_first():
    source = crossed("day", "2026-01-01", lookback=1)
    assert partition_keys(source, at(2026, 1, 3, 5)) == [f"2026-01-0{day}|{site}" for day in (1, 2) for site in SITES]
    assert partition_keys(source, at(2026, 1, 1, 5)) == []


@pytest.mark.parametrize(("lookback", "days"), [(0, [14]), (2, [12, 13, 14])])
def test_a_tick_refreshes_the_due_periods_of_every_static_key(lookback, days):
    due = due_keys(crossed("day", lookback=lookback), at(2026, 3, 15, 0, 1))
    assert due == [f"2026-03-{day}|{site}" for day in days for site in SITES]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("2026-01-01", "names no site that is declared"), ("2026-01-01|", "names no site that is declared"),
        ("2026-01-01|44014", "names no site that is declared"), ("44013|2026-01-01", "names no site that is declared"),
        ("2026-01-01|44013|x", "names no site that is declared"), ("|44013", "'' is no month partition"),
        ("2026-01-01-05:00|44013", "is no month partition"), ("2026-01-15|44013", "is not the beginning of a month"),
        ("2022-12-01|44013", "lies before the first partition, 2023-01-01"), (" 2026-01-01|44013", "is no month"),
    ],
)  # fmt: skip
def test_a_key_of_two_dimensions_that_is_none_says_what_keys_look_like(key, why):
    with pytest.raises(UnknownPartition, match=why) as caught:
        window_of(crossed("month"), key)
    assert "2023-01-01" in str(caught.value)
    if "site" in why:
        assert "keys look like 2023-01-01|44013" in str(caught.value)


@given(st.integers(0, 1500))
def test_weeks_begin_on_sunday_whatever_the_year_and_its_week_numbers(number):
    source = timed("week", "1998-01-01")
    start = next_period("week", first_period(source.partitions), number)
    window = window_of(source, start.strftime("%Y-%m-%d"))
    assert (window.start.isoweekday(), window.end - window.start) == (7, timedelta(days=7))


@pytest.mark.parametrize("year", [1999, 2000, 2023, 2024, 2100])
def test_the_days_of_a_year_are_all_there_in_leap_years_too(year):
    keys = partition_keys(timed("day", f"{year}-01-01"), at(year + 1, 1, 1))
    leap = year % 4 == 0 and year != 2100
    assert len(keys) == (366 if leap else 365) and (f"{year}-02-29" in keys) == leap
    assert len(partition_keys(timed("hour", f"{year}-01-01"), at(year + 1, 1, 1))) == 24 * len(keys)


def test_a_dynamic_key_is_whatever_was_added():
    source = spec_of(partitions={"dynamic": "file"})
    assert (
        partition_keys(source, at(2026, 1, 1), ["b", "a"]) == due_keys(source, at(2026, 1, 1), ["b", "a"]) == ["b", "a"]
    )
    assert partition_keys(source, at(2026, 1, 1)) == []
    window = window_of(source, "2026-01-01|x")
    assert (window.partition, window.start, window.end) == ("2026-01-01|x", None, None)
    assert window.names == {"file": "2026-01-01|x"}
