"""What lies ahead: the next fires, the marks of the clock, the minutes many fall into."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.decide import Facts, decide
from refresh_pipelines.expected import Rhythm
from refresh_pipelines.plan import clock_mark, fires_of, peaks_of, shift_text, standing_of, why_no_fires
from refresh_pipelines.schedule import next_fires
from refresh_pipelines_tests.workbench import spec_of

UTC = timezone.utc


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def marks(cron, zone, after, count):
    """Return (local time, mark) of the next fires."""
    spec = spec_of(schedule={"cron": cron, "timezone": zone})
    return [(f"{fire.local:%d %H:%M}", fire.mark) for fire in fires_of(spec, at(after), count)]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        (
            "30 2 * * *",
            "Europe/Paris",
            "2026-03-28T00:00",
            [
                ("28 02:30", ""),
                ("29 03:00", "the clock goes forward that night: 02:30 does not exist, moved to 03:00"),
                ("30 02:30", ""),
            ],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T00:00",
            [
                ("31 01:30", ""),
                ("01 01:30", "the clock goes back that night: 01:30 comes twice, runs at the second"),
                ("02 01:30", ""),
            ],
        ),
        (
            "10 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-02T12:00",
            [
                ("03 02:10", ""),
                ("04 02:30", "the clock goes forward that night: 02:10 does not exist, moved to 02:30"),
                ("05 02:10", ""),
            ],
        ),
        (
            "30 * * * *",
            "America/New_York",
            "2026-11-01T05:00",
            [
                ("01 01:30", "the clock goes back that night: 01:30 comes twice, runs both times"),
                ("01 01:30", "the clock goes back that night: 01:30 comes twice, runs both times"),
                ("01 02:30", ""),
            ],
        ),
        (
            "0 * * * *",
            "Europe/Paris",
            "2026-03-29T00:00",
            [("29 03:00", "the clock went forward by 1h since the fire before"), ("29 04:00", "")],
        ),
        (
            "0 17 * * 1,2",
            "America/New_York",
            "2026-10-27T00:00",
            [
                ("27 17:00", ""),
                ("02 17:00", "the clock went back by 1h since the fire before"),
                ("03 17:00", ""),
            ],
        ),
    ],
)
def test_a_fire_says_what_the_change_of_the_clock_does_to_it(cron, zone, after, expected):
    assert marks(cron, zone, after, len(expected)) == expected


CRONS = st.sampled_from(["15 2 * * *", "0 * * * *", "*/20 1-3 * * *", "45 1 * * 0", "30 2 31 * *", "0 0 * * *"])
ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])


@given(CRONS, ZONES, st.integers(0, 365 * 24))
def test_a_fire_without_a_mark_has_the_offset_of_the_one_before(cron, zone, hours):
    start = at("2026-01-01T00:00") + timedelta(hours=hours)
    rhythm = Rhythm(cron, zone)
    first, second = (fire.astimezone(ZoneInfo(zone)) for fire in next_fires(cron, zone, start, 2))
    assert clock_mark(rhythm, second, first) or first.utcoffset() == second.utcoffset()
    if zone in ("UTC", "Asia/Kolkata"):
        assert clock_mark(rhythm, second, first) == ""


def test_a_fire_names_the_partitions_it_asks_for():
    spec = spec_of(
        schedule={"frequency": "daily", "time": "06:00"},
        partitions={"time": "day", "start": "2026-01-01", "lookback": 1},
    )
    [fire] = fires_of(spec, at("2026-03-05T07:00"), 1)
    assert (fire.at, fire.keys) == (at("2026-03-06T06:00"), ("2026-03-04", "2026-03-05"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"enabled": False}, "disabled in its YAML"),
        ({"schedule": {"frequency": "on_event"}}, "not due at times: refreshed when files arrive"),
    ],
)
def test_a_source_without_fires_says_why(changes, said):
    spec = spec_of(**changes)
    assert fires_of(spec, at("2026-03-05T07:00"), 3) == []
    assert why_no_fires(spec) == said


def test_the_shift_by_jitter_is_said():
    spec = spec_of(schedule={"frequency": "daily", "time": "06:00", "jitter": "20m"})
    [fire] = fires_of(spec, at("2026-03-05T00:00"), 1)
    shift = int((fire.at - at("2026-03-05T06:00")).total_seconds() // 60)
    assert shift_text(spec) == f"06:00 moved by {shift} min (jitter 20m)"
    assert shift_text(spec_of(schedule={"frequency": "daily"})) == ""


def test_what_would_be_done_now_is_the_tick_s_own_decision():
    tick = at("2026-03-05T06:00")
    spec = spec_of(schedule={"frequency": "daily", "time": "06:00", "catch_up": "none"})
    late = standing_of(decide(spec, tick, tick + timedelta(hours=2), Facts()), tick)
    assert (late.action, late.requests) == ("skip", ())
    assert late.reason.startswith("misfired: looked at 2h after")
    assert standing_of(decide(spec, tick, tick, Facts()), tick).action == "schedule"
    spec = spec_of(schedule={"frequency": "daily", "time": "06:00"})
    assert standing_of(decide(spec, tick, tick + timedelta(hours=2), Facts()), tick).action == "catch_up"


def daily(source, time, host):
    return spec_of(source, schedule={"frequency": "daily", "time": time}, request={"url": f"https://{host}/x"})


def test_peaks_are_the_minutes_with_more_than_one_source_fullest_first():
    specs = [
        daily("a", "06:00", "one.org"),
        daily("b", "06:00", "one.org"),
        daily("c", "06:00", "two.org"),
        daily("d", "05:00", "one.org"),
        daily("e", "05:00", "two.org"),
        daily("f", "07:00", "one.org"),
        daily("g", "06:00", "one.org").model_copy(update={"enabled": False}),
    ]
    first, second = peaks_of(specs, at("2026-03-05T00:00"))
    assert (first.at, first.sources) == (at("2026-03-05T06:00"), ("benin/a", "benin/b", "benin/c"))
    assert first.hosts == {"one.org": 2, "two.org": 1}
    assert (second.at, len(second.sources)) == (at("2026-03-05T05:00"), 2)
    assert peaks_of(specs, at("2026-03-05T00:00"), most=1) == [first]
