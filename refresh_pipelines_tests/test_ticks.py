"""Schedules through Dagster's own scheduler: clocks that change, short months, downtime, clocks set back."""

from datetime import timedelta

import pytest

from refresh_pipelines.orchestration.tags import COALESCED, TRIGGER
from refresh_pipelines_tests.clockwork import Clockwork, covered, utc

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def start(tmp_path, empty_history):
    """Return a function that starts the scheduler over a schedule of the YAML."""
    stack = []

    def begin(schedule, partitions="", **environ):
        stack.append(Clockwork(tmp_path, empty_history, schedule, partitions, **environ).__enter__())
        return stack[0]

    yield begin
    for clockwork in stack:
        clockwork.__exit__()


def keys(found):
    return [key.rstrip("|") for _, key in found]


NEW_YORK = 'timezone: America/New_York, frequency: daily, time: "02:30"'
NEW_YORK_EARLY = NEW_YORK.replace("02:30", "01:30")
PARIS = 'timezone: Europe/Paris, frequency: daily, time: "02:30"'
LORD_HOWE = 'timezone: Australia/Lord_Howe, frequency: daily, time: "02:10"'
LORD_HOWE_BACK = 'timezone: Australia/Lord_Howe, frequency: daily, time: "01:40"'


@pytest.mark.parametrize(
    ("schedule", "day", "expected"),
    [
        # Forward at 02:00 to 03:00: the skipped time is moved to the end of the gap.
        (NEW_YORK, "2026-03-07", ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]),
        # Back at 02:00 to 01:00: 02:30 comes once.
        (NEW_YORK, "2026-10-31", ["2026-10-31T06:30:00Z", "2026-11-01T07:30:00Z", "2026-11-02T07:30:00Z"]),
        # ... and 01:30 twice, of which the second counts.
        (NEW_YORK_EARLY, "2026-10-31", ["2026-10-31T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"]),
        (PARIS, "2026-03-28", ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        (PARIS, "2026-10-24", ["2026-10-24T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]),
        # Half an hour forward, at 02:00 to 02:30, and back at 02:00 to 01:30.
        (LORD_HOWE, "2026-10-02", ["2026-10-02T15:40:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:10:00Z"]),
        (LORD_HOWE_BACK, "2026-04-03", ["2026-04-03T14:40:00Z", "2026-04-04T15:10:00Z", "2026-04-05T15:10:00Z"]),
    ],
)  # fmt: skip
def test_a_daily_source_runs_once_a_day_also_where_the_clock_changes(start, schedule, day, expected):
    found = start(schedule).pass_time(utc(day), utc(day) + 3 * DAY - MINUTE)
    assert keys(found) == expected


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/New_York", "2026-03-08T07:00"),
        ("America/New_York", "2026-11-01T06:00"),
        ("Europe/Paris", "2026-03-29T01:00"),
        ("Europe/Paris", "2026-10-25T01:00"),
    ],
)
def test_an_hourly_source_runs_every_hour_also_where_the_clock_changes(start, zone, change):
    begin = utc(change) - 3 * HOUR
    found = start(f"timezone: {zone}, frequency: hourly").pass_time(begin, begin + 5 * HOUR)
    assert keys(found) == [f"{begin + n * HOUR:%Y-%m-%dT%H:%M:%SZ}" for n in range(6)]


@pytest.mark.parametrize(
    ("schedule", "begin", "end", "expected"),
    [
        ("frequency: monthly, day: 31", "2026-01-01", "2026-06-30", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ('cron: "0 0 L * *"', "2028-01-02", "2028-04-29", ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("frequency: annual, month: 2, day: 29", "2026-01-01", "2033-01-01", ["2028-02-29", "2032-02-29"]),
        ("frequency: quarterly", "2026-02-01", "2027-01-02", ["2026-04-01", "2026-07-01", "2026-10-01", "2027-01-01"]),
        ("frequency: annual", "2026-06-01", "2028-06-01", ["2027-01-01", "2028-01-01"]),
        ("frequency: weekly", "2026-03-01T01:00", "2026-03-16", ["2026-03-08", "2026-03-15"]),
        ("frequency: weekly, day: friday", "2026-03-01", "2026-03-14", ["2026-03-06", "2026-03-13"]),
    ],
)
def test_rare_schedules_run_on_their_days(start, schedule, begin, end, expected):
    found = start(schedule).pass_time(utc(begin), utc(end))
    assert keys(found) == [f"{day}T00:00:00Z" for day in expected]


DAYS = "time: day, start: 2026-01-01, column: day"
BEGIN, LAST, BACK = utc("2026-03-01T05:00"), utc("2026-03-06T06:00"), utc("2026-03-09T12:00")
EVERY_DAY = 'frequency: daily, time: "06:00"'


def three_days_down(clockwork):
    """Five ticks, each of which loads its day; then three days of silence; return what is requested afterwards."""
    clockwork.look(BEGIN)
    for number in range(5):
        for run in clockwork.look(BEGIN + HOUR + number * DAY):
            clockwork.end(run, covered(run)[1])
    return clockwork.look(BACK)


CAUGHT_UP = ("2026-03-05", "2026-03-07")
NEWEST = ("2026-03-08", "2026-03-08")


@pytest.mark.parametrize("grace", ["30m", "7h"])
@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_three_days_down_requests_exactly_what_is_documented(start, catch_up, grace):
    clockwork = start(f"{EVERY_DAY}, catch_up: {catch_up}, misfire_grace: {grace}", DAYS)
    runs = three_days_down(clockwork)
    late = grace == "30m"
    newest = [] if late and catch_up == "none" else [(*NEWEST, "catch_up" if late else "schedule", "4")]
    past = [(*CAUGHT_UP, "catch_up", None)] if catch_up == "all" else []
    found = [(*covered(run), run.tags[TRIGGER], run.tags.get(COALESCED)) for run in runs]
    assert sorted(found) == sorted(newest + past)
    reason = clockwork.ticks()[-1][2]
    assert (reason or "").startswith("misfired: looked at 6h after it was due") == (not found)


@pytest.mark.parametrize("grace", ["30m", "7h"])
@pytest.mark.parametrize("catch_up", ["none", "latest", "all"])
def test_three_days_down_without_partitions_is_one_run_or_a_reason(start, catch_up, grace):
    clockwork = start(f"{EVERY_DAY}, catch_up: {catch_up}, misfire_grace: {grace}")
    runs = three_days_down(clockwork)
    late = grace == "30m"
    expected = [] if late and catch_up == "none" else [("catch_up" if late else "schedule", "4")]
    assert [(run.tags[TRIGGER], run.tags[COALESCED]) for run in runs] == expected


def test_nothing_is_requested_twice_however_often_it_is_looked_at(start):
    clockwork = start(EVERY_DAY, DAYS)
    three_days_down(clockwork)
    assert [clockwork.look(BACK + n * MINUTE) for n in range(3)] == [[], [], []]
    run_keys = [run.tags["dagster/run_key"] for run in clockwork.instance.get_runs() if TRIGGER in run.tags]
    assert len(run_keys) == len(set(run_keys)) == 7


def test_a_clock_that_is_set_back_repeats_no_tick(start):
    clockwork = start("frequency: hourly, catch_up: latest", "time: hour, start: 2026-03-01, column: day")
    found = clockwork.pass_time(utc("2026-03-02T00:30"), utc("2026-03-02T04:30"))
    again = clockwork.pass_time(utc("2026-03-02T01:30"), utc("2026-03-02T06:10"))
    run_keys = keys(found) + keys(again)
    ticks = [key.split("|")[0] for key in run_keys]
    assert ticks == [f"2026-03-02T0{hour}:00:00Z" for hour in (1, 2, 3, 4, 5, 6)]


def test_a_source_that_is_first_seen_late_in_its_life_raises_no_flood(start):
    clockwork = start(EVERY_DAY, "time: day, start: 2020-01-01, column: day")
    clockwork.look(BEGIN)
    [run] = clockwork.look(BEGIN + 90 * MINUTE)
    assert covered(run) == ("2026-02-28", "2026-02-28")
    assert COALESCED not in run.tags


def test_a_tick_that_finds_its_run_still_queued_is_skipped_and_says_which(start):
    clockwork = start('cron: "*/5 * * * *"')
    clockwork.look(BEGIN + MINUTE)
    [run] = clockwork.look(BEGIN + 5 * MINUTE)
    assert clockwork.look(BEGIN + 10 * MINUTE) == []
    _, status, reason = clockwork.ticks()[-1]
    assert status == "SKIPPED"
    assert f"overlap: skip, because run {run.run_id[:8]}" in reason
    clockwork.end(run)
    assert len(clockwork.look(BEGIN + 15 * MINUTE)) == 1


def test_overlap_cancel_ends_the_older_run(start):
    clockwork = start('cron: "*/5 * * * *", overlap: cancel')
    clockwork.look(BEGIN + MINUTE)
    [older] = clockwork.look(BEGIN + 5 * MINUTE)
    [newer] = clockwork.look(BEGIN + 10 * MINUTE)
    assert clockwork.instance.get_run_by_id(older.run_id).status.value == "CANCELED"
    assert clockwork.instance.get_run_by_id(newer.run_id).status.value == "QUEUED"


def test_schedules_that_are_switched_off_say_so_in_each_tick(start):
    clockwork = start('cron: "*/5 * * * *"', REFRESH_SCHEDULES_ENABLED="false")
    assert clockwork.pass_time(BEGIN, BEGIN + 10 * MINUTE) == []
    assert {reason for _, _, reason in clockwork.ticks()} == {"REFRESH_SCHEDULES_ENABLED is false"}


def test_jitter_moves_a_preset_by_the_same_minutes_every_day(start):
    found = keys(start("frequency: daily, jitter: 50m").pass_time(BEGIN, BEGIN + 3 * DAY))
    minutes = {key[11:] for key in found}
    assert len(found) == 3
    assert len(minutes) == 1
    assert "00:00:00Z" <= minutes.pop() <= "00:50:00Z"
