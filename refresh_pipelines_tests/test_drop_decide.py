"""When a run of dropped files is asked for, and when again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.drop.decide import LONGEST_WAIT, days_due, wait_after
from refresh_pipelines.drop.stability import Sighting
from refresh_pipelines.spec import Drop

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
DROP = Drop(url="drops")


def sighting(key, day="2026-11-22", **changes):
    return replace(Sighting(key, "v1", 1, NOW, NOW, NOW, NOW, NOW, day), **changes)


def due(*files, busy=(), now=NOW, drop=DROP):
    return [(run.day, [file.key for file in run.files]) for run in days_due(files, drop, busy, now)]


def test_each_day_is_one_run():
    files = [sighting("b", "2026-11-23"), sighting("a"), sighting("c")]
    assert due(*files) == [("2026-11-22", ["a", "c"]), ("2026-11-23", ["b"])]


def test_a_day_with_a_run_under_way_waits():
    assert due(sighting("a"), sighting("b", "2026-11-23"), busy={"2026-11-22"}) == [("2026-11-23", ["b"])]


def test_the_same_files_are_the_same_request():
    keys = {run.run_key for _ in range(3) for run in days_due([sighting("a"), sighting("b")], DROP, (), NOW)}
    assert len(keys) == 1
    assert days_due([sighting("a", version="v2")], DROP, (), NOW)[0].run_key not in keys


def test_what_was_asked_for_and_is_not_settled_is_asked_for_again_later_and_less_often():
    assert [wait_after(n).total_seconds() for n in range(1, 6)] == [60, 240, 960, 3600, 3600]
    asked = sighting("a", requests=1, requested_at=NOW)
    assert due(asked, now=NOW + timedelta(seconds=59)) == []
    (again,) = days_due([asked], DROP, (), NOW + timedelta(seconds=60))
    assert again.run_key != days_due([sighting("a")], DROP, (), NOW)[0].run_key


def test_a_new_file_does_not_wait_for_one_that_failed():
    assert due(sighting("a", requests=3, requested_at=NOW), sighting("b")) == [("2026-11-22", ["a", "b"])]


def test_a_clock_that_was_set_back_keeps_nothing_waiting():
    assert due(sighting("a", requests=1, requested_at=NOW + timedelta(days=400))) == [("2026-11-22", ["a"])]


def test_files_that_cannot_be_read_do_not_stand_in_the_way():
    stuck = [sighting(f"0{n}", requests=2, requested_at=NOW - timedelta(hours=2)) for n in range(3)]
    assert due(*stuck, sighting("new"), drop=Drop(url="drops", max_files=2)) == [("2026-11-22", ["00", "new"])]


@given(st.integers(0, 10_000))
def test_no_wait_is_longer_than_the_longest(requests):
    assert timedelta(0) < wait_after(requests) <= LONGEST_WAIT
