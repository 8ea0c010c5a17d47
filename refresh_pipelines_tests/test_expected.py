"""Which partitions should be there, and since which tick."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.expected import Since, expectation, rhythm_of
from refresh_pipelines.spec import Partitions, Schedule
from refresh_pipelines.window import due_keys, partition_keys
from refresh_pipelines_tests.workbench import spec_of

UTC = timezone.utc


def made(schedule=None, partitions=None, **changes):
    fields = {
        "schedule": Schedule(**(schedule or {"frequency": "daily", "time": "06:00"})),
        "partitions": Partitions(**partitions) if partitions else None,
        **changes,
    }
    return spec_of().model_copy(update=fields)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAYS = {"time": "day", "start": "2026-01-01"}
ENABLED = Since(at("2026-03-01T12:00"))


def test_nothing_is_expected_before_the_first_tick_after_the_source_was_enabled():
    assert expectation(made(partitions=DAYS), ENABLED, at("2026-03-02T05:59")) is None
    found = expectation(made(partitions=DAYS), ENABLED, at("2026-03-02T06:00"))
    assert found.keys == ("2026-03-01",)


def test_what_the_first_tick_reads_again_is_expected_and_what_lies_before_is_not():
    found = expectation(made(partitions={**DAYS, "lookback": 2}), ENABLED, at("2026-03-03T10:00"))
    assert found.keys == ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02")
    assert found.asked == ("2026-02-28", "2026-03-01", "2026-03-02")


def test_under_initial_all_every_period_is_expected_from_the_first_tick_on():
    spec = made(partitions={**DAYS, "initial": "all"})
    assert expectation(spec, ENABLED, at("2026-03-02T05:59")) is None
    found = expectation(spec, ENABLED, at("2026-03-02T06:00"))
    assert list(found.keys) == partition_keys(spec, at("2026-03-02T06:00"))
    assert found.first_due("2026-01-01") == at("2026-03-02T06:00")


def test_a_period_is_due_at_the_first_tick_after_it_is_over():
    found = expectation(made(partitions=DAYS), ENABLED, at("2026-03-05T07:00"))
    assert found.first_due("2026-03-02") == at("2026-03-03T06:00")
    assert found.due_at("2026-03-04") == at("2026-03-05T06:00")
    assert found.due_at("2026-03-02") == at("2026-03-03T06:00")


def test_a_period_that_is_read_while_it_runs_is_due_at_the_first_tick_in_it():
    found = expectation(made(partitions={**DAYS, "end_offset": 1}), ENABLED, at("2026-03-05T07:00"))
    assert found.keys[-1] == "2026-03-05"
    assert found.first_due("2026-03-05") == at("2026-03-05T06:00")


def test_a_period_that_stays_unpublished_is_missing_only_after_that():
    spec = made(partitions={**DAYS, "unpublished_for": timedelta(days=3)})
    found = expectation(spec, ENABLED, at("2026-03-04T07:00"))
    assert found.missing(()) == ["2026-03-01"]
    assert found.first_due("2026-03-01") == at("2026-03-04T06:00")


def test_what_was_due_while_the_source_was_paused_is_due_when_it_goes_on():
    since = Since(ENABLED.enabled_at, resumed_at=at("2026-03-10T08:00"))
    found = expectation(made(partitions=DAYS), since, at("2026-03-11T07:00"))
    assert found.first_due("2026-03-05") == at("2026-03-11T06:00")


def test_static_partitions_are_all_asked_for_by_every_tick():
    spec = made(partitions={"static": {"series": ["A", "B"]}})
    found = expectation(spec, ENABLED, at("2026-03-05T07:00"))
    assert found.keys == found.asked == ("A", "B")
    assert found.due_at("A") == at("2026-03-05T06:00")
    assert found.first_due("A") == at("2026-03-02T06:00")


def test_two_dimensions_expect_every_static_key_of_a_period():
    spec = made(partitions={**DAYS, "static": {"series": ["A", "B"]}})
    found = expectation(spec, ENABLED, at("2026-03-03T07:00"))
    assert found.keys == ("2026-03-01|A", "2026-03-01|B", "2026-03-02|A", "2026-03-02|B")
    assert found.missing({"2026-03-01|A", "2026-03-02|B"}) == ["2026-03-01|B", "2026-03-02|A"]


def test_dynamic_keys_are_expected_as_they_are_known():
    spec = made(partitions={"dynamic": "file"})
    found = expectation(spec, ENABLED, at("2026-03-03T07:00"), ["x", "y"])
    assert found.keys == ("x", "y")


@pytest.mark.parametrize("changes", [{"enabled": False}, {"schedule": None}])
def test_a_source_without_a_rhythm_expects_nothing(changes):
    spec = made().model_copy(update=changes)
    assert rhythm_of(spec) is None
    assert expectation(spec, ENABLED, at("2026-03-05T07:00")) is None


def test_a_source_that_waits_for_files_expects_nothing():
    assert rhythm_of(made({"frequency": "on_event"})) is None


def test_a_refresh_of_a_period_that_no_tick_asked_for_any_more_was_a_backfill():
    found = expectation(made(partitions=DAYS), ENABLED, at("2026-03-10T07:00"))
    assert found.was_asked("2026-03-08", at("2026-03-09T06:10"))
    assert not found.was_asked("2026-03-08", at("2026-03-10T06:10"))


KINDS = st.sampled_from(["hour", "day", "week", "month", "quarter", "year"])
PRESETS = st.sampled_from(["hourly", "daily", "weekly", "monthly", "quarterly"])


@given(KINDS, PRESETS, st.integers(0, 3), st.integers(0, 1), st.integers(0, 24 * 40))
def test_what_is_expected_is_what_the_ticks_so_far_have_asked_for(kind, preset, lookback, offset, hours):
    partitions = {"time": kind, "start": "2025-12-15", "lookback": lookback, "end_offset": offset}
    spec = made({"frequency": preset, "time": "03:30"}, partitions)
    since, now = Since(at("2026-02-10T00:00")), at("2026-02-10T00:00") + timedelta(hours=hours)
    found = expectation(spec, since, now)
    ticks = rhythm_of(spec).between(since.enabled_at - timedelta(seconds=1), now)
    if found is None:
        assert not ticks
        return
    asked = dict.fromkeys(key for tick in ticks for key in due_keys(spec, tick))
    skipped = set(found.keys) - set(asked)
    # Only ticks rarer than the periods pass some over: those are expected too, at the tick that came after them.
    assert set(asked) <= set(found.keys)
    assert list(found.keys) == sorted(found.keys)
    assert not skipped or len(ticks) > 1
    assert all(found.first_due(key) <= found.newest for key in found.keys)
    for key in set(found.keys) - skipped:
        assert found.first_due(key) == next(tick for tick in ticks if key in due_keys(spec, tick))
