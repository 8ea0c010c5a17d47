"""When a source is overdue: each expected partition by itself, with times that are named and none that pass."""

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.expected import Since, expectation
from refresh_pipelines.freshness import Facts, freshness_of, judged, sentence
from refresh_pipelines.spec import Freshness, Partitions, Schedule
from refresh_pipelines_tests.workbench import spec_of

DAYS = {"time": "day", "start": "2026-01-01"}
SERIES = {"static": {"series": ["A", "B"]}}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


ENABLED = Since(at("2026-11-15T12:00"))


def made(partitions=None, checked="36h", changed=None, **schedule):
    schedule = {"frequency": "daily", "time": "06:00", **schedule}
    return spec_of(source="x").model_copy(
        update={
            "schedule": None if schedule["frequency"] is None else Schedule(**schedule),
            "partitions": Partitions(**partitions) if partitions else None,
            "freshness": Freshness(checked=checked, changed=changed),
        }
    )


def facts_of(expected, *refreshes, changed_at=None):
    """Facts as the event log has them after refreshes of (partition, time)."""
    done = sorted((at(when), key) for key, when in refreshes)
    last = {key: when for when, key in done}
    asked = expected.asked if expected else ()

    def asked_before(instant):
        found = [when for when, key in done if when <= instant and expected.was_asked(key, when)]
        return max(found, default=None)

    return Facts(
        max((when for when, _ in done), default=None),
        set(last),
        {key: when for key, when in last.items() if key in asked},
        asked_before,
        changed_at and at(changed_at),
    )


def verdict(spec, now, *refreshes, since=ENABLED, changed_at=None):
    expected = expectation(spec, since, at(now))
    facts = facts_of(expected, *refreshes, changed_at=changed_at)
    return freshness_of(spec, expected, facts, at(now), since)


def good_days(first, last):
    """Refreshes of each day, five minutes after the tick of the next."""
    day, out = datetime.fromisoformat(first), []
    while day <= datetime.fromisoformat(last):
        out.append((f"{day:%F}", f"{day + timedelta(days=1):%F}T06:05"))
        day += timedelta(days=1)
    return out


def test_a_day_that_was_not_refreshed_is_overdue_once_the_last_good_refresh_is_older_than_allowed():
    spec, days = made(DAYS), good_days("2026-11-15", "2026-11-19")
    assert verdict(spec, "2026-11-21T18:05", *days).overdue is False
    found = verdict(spec, "2026-11-21T18:06", *days)
    assert found.partitions == ("2026-11-20",)
    assert sentence(spec, found.late[0]) == (
        "benin/x[2026-11-20] was due at 2026-11-21 06:00 UTC and has never been refreshed; "
        "expected by 2026-11-21 18:05 UTC (freshness.checked 1d12h)"
    )


def test_a_good_refresh_ends_it():
    spec, days = made(DAYS), good_days("2026-11-15", "2026-11-19")
    assert verdict(spec, "2026-11-21T19:00", *days, ("2026-11-20", "2026-11-21T18:30")).overdue is False


def test_a_backfill_of_old_partitions_calms_nothing():
    spec, days = made(DAYS), good_days("2026-11-15", "2026-11-19")
    backfill = [("2026-06-01", "2026-11-21T05:00"), ("2026-11-17", "2026-11-21T05:30")]
    assert verdict(spec, "2026-11-21T18:06", *days, *backfill).partitions == ("2026-11-20",)


def test_a_later_day_that_was_refreshed_does_not_excuse_the_one_before():
    days = [*good_days("2026-11-15", "2026-11-19"), ("2026-11-21", "2026-11-22T06:05")]
    assert verdict(made(DAYS), "2026-11-22T07:00", *days).partitions == ("2026-11-20",)


def test_a_period_that_was_loaded_once_and_is_not_asked_for_any_more_is_never_overdue_again():
    days = good_days("2026-11-15", "2026-11-20")
    assert verdict(made(DAYS), "2026-11-21T12:00", *days).overdue is False


def test_what_lies_in_the_look_back_must_be_refreshed_again():
    spec = made({**DAYS, "lookback": 1})
    days = [*good_days("2026-11-14", "2026-11-19"), ("2026-11-20", "2026-11-21T06:05")]
    found = verdict(spec, "2026-11-21T18:06", *days)
    assert found.partitions == ("2026-11-19",)
    assert "has not been refreshed since 2026-11-20 06:05 UTC" in sentence(spec, found.late[0])


def test_what_was_never_loaded_is_silent_until_its_first_due_tick_and_the_limit_have_passed():
    spec = made(DAYS)
    for now in ("2026-11-15T13:00", "2026-11-16T06:01", "2026-11-17T18:00"):
        assert verdict(spec, now).overdue is None
    found = verdict(spec, "2026-11-17T18:01")
    assert found.partitions == ("2026-11-15",)


def test_a_tick_may_be_late_by_its_grace_before_anything_is_overdue():
    spec = made(DAYS, checked="12h")
    days = good_days("2026-11-15", "2026-11-19")
    assert verdict(spec, "2026-11-21T06:30", *days).overdue is False
    assert verdict(spec, "2026-11-21T06:31", *days).overdue


def test_each_static_partition_has_an_age_of_its_own():
    found = verdict(made(SERIES), "2026-11-20T12:00", ("A", "2026-11-20T06:01"), ("B", "2026-11-18T06:01"))
    assert found.partitions == ("B",)


def test_a_source_without_partitions_is_overdue_by_the_age_of_its_last_good_refresh():
    spec = made()
    assert verdict(spec, "2026-11-19T18:05", (None, "2026-11-18T06:05")).overdue is False
    found = verdict(spec, "2026-11-19T18:06", (None, "2026-11-18T06:05"))
    assert (found.overdue, found.partitions) == (True, ())
    assert sentence(spec, found.late[0]) == (
        "benin/x has not been refreshed since 2026-11-18 06:05 UTC; "
        "expected by 2026-11-19 18:05 UTC (freshness.checked 1d12h)"
    )


def test_two_dimensions_name_the_station_that_is_missing():
    spec = made({**DAYS, **SERIES})
    days = [(f"{key}|A", when) for key, when in good_days("2026-11-15", "2026-11-16")]
    days += [("2026-11-15|B", "2026-11-16T06:05")]
    assert verdict(spec, "2026-11-18T06:00", *days).partitions == ("2026-11-16|B",)


def test_after_a_pause_nothing_is_overdue_before_its_first_tick_had_time():
    since = Since(ENABLED.enabled_at, resumed_at=at("2026-11-25T10:00"))
    for spec, done in ((made(DAYS), good_days("2026-11-15", "2026-11-17")), (made(), [(None, "2026-11-18T06:05")])):
        assert verdict(spec, "2026-11-26T06:30", *done, since=since).overdue is False
        assert verdict(spec, "2026-11-26T06:31", *done, since=since).overdue


def test_a_period_that_may_stay_unpublished_is_not_overdue_before_that_time_is_over():
    spec = made({**DAYS, "unpublished_for": timedelta(days=3)})
    days = good_days("2026-11-15", "2026-11-17")
    found = verdict(spec, "2026-11-20T18:00", *days)
    assert found.overdue is False
    assert verdict(spec, "2026-11-21T06:31", *days).partitions == ("2026-11-18",)


def test_a_source_where_nothing_changes_is_overdue_though_it_was_refreshed():
    spec = made(changed="30d")
    done = (None, "2026-11-22T06:05")
    assert verdict(spec, "2026-11-22T12:00", done, changed_at="2026-10-23T12:00").overdue is False
    found = verdict(spec, "2026-11-22T12:01", done, changed_at="2026-10-23T12:00")
    assert (found.overdue, found.identity) == (True, "changed|")
    assert sentence(spec, found.late[0]) == (
        "benin/x: nothing has changed since 2026-10-23 12:00 UTC; "
        "expected by 2026-11-22 12:00 UTC (freshness.changed 30d)"
    )


def test_without_the_limit_checked_only_changes_are_judged():
    spec = made(DAYS, checked=None, changed="30d")
    assert verdict(spec, "2026-12-20T12:00").overdue is None
    assert verdict(spec, "2026-12-20T12:00", ("2026-11-15", "2026-11-16T06:05")).overdue is False


def test_what_comes_when_files_come_is_judged_by_its_last_refresh_alone():
    for spec in (made(SERIES, frequency="on_event"), made(frequency=None)):
        assert verdict(spec, "2026-12-20T12:00").overdue is None
        assert verdict(spec, "2026-11-19T18:05", ("A", "2026-11-18T06:05")).overdue is False
        assert verdict(spec, "2026-11-19T18:06", ("A", "2026-11-18T06:05")).overdue


def test_only_enabled_sources_with_a_limit_are_judged():
    assert judged(made())
    assert not judged(made(checked=None))
    assert not judged(made().model_copy(update={"enabled": False}))


def test_of_ten_thousand_missing_hours_only_those_that_are_late_are_looked_at():
    spec = made({"time": "hour", "start": "2025-01-01", "initial": "all"}, frequency="hourly", time="00:00")
    asked = []

    def asked_before(instant):
        asked.append(instant)

    expected = expectation(spec, ENABLED, at("2026-11-15T13:00"))
    found = freshness_of(spec, expected, Facts(asked_before=asked_before), at("2026-11-15T13:00"), ENABLED)
    assert found.overdue is None
    assert len(expected.keys) > 10_000
    assert len(asked) < 50


FIRST = at("2026-11-16")
HOURS = st.integers(0, 24 * 12)
REFRESHES = st.lists(st.tuples(st.sampled_from(range(10)), st.integers(0, 23)), max_size=8)


@given(REFRESHES, HOURS, st.sampled_from([0, 1, 3]), st.sampled_from(["6h", "36h", "5d"]))
def test_a_verdict_holds_until_the_time_it_names(refreshes, hours, lookback, checked):
    spec = made({**DAYS, "lookback": lookback}, checked=checked, changed="6d")
    days = [(f"2026-11-{15 + day}", f"{FIRST + timedelta(days=day, hours=hour):%FT%R}") for day, hour in refreshes]
    start = at("2026-11-16T00:00") + timedelta(hours=hours)
    known = [one for one in days if at(one[1]) <= start]
    changed = max((when for _, when in known), default=None)

    def look(now):
        expected = expectation(spec, ENABLED, now)
        return freshness_of(spec, expected, facts_of(expected, *known, changed_at=changed), now, ENABLED)

    now = look(start)
    end = min(now.until or start + timedelta(days=3), start + timedelta(days=3))
    for share in (0.3, 0.9, 0.999):
        later = look(start + (end - start) * share)
        assert (later.overdue, later.identity, later.partitions) == (now.overdue, now.identity, now.partitions)
