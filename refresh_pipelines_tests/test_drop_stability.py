"""When a dropped file counts as whole, whatever the clocks say."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.drop.stability import Seen, look

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=timezone.utc)
QUIET = timedelta(seconds=60)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def seen(version="v1", touched=0, size=10, key="a.csv"):
    return Seen(key, size, version, None if touched is None else after(touched))


def looks(*steps, quiet=QUIET):
    """Return the sighting after each of some looks, given as seconds and what is listed then."""
    known, out = {}, []
    for seconds, file in steps:
        (found,) = look(list(known.values()), [file], after(seconds), quiet)
        known[found.key, found.version] = found
        out.append(found)
    return out


def stable(*steps, quiet=QUIET):
    return [sighting.stable_at is not None for sighting in looks(*steps, quiet=quiet)]


def test_a_file_nobody_touched_for_long_is_whole_at_the_first_look():
    assert stable((0, seen(touched=-60))) == [True]


def test_a_file_that_was_just_written_is_whole_after_two_looks_as_far_apart_as_quiet():
    assert stable((0, seen(touched=-1)), (30, seen(touched=-1)), (59, seen(touched=-1))) == [False, False, True]


def test_a_file_that_grows_is_never_whole():
    steps = [(n * 30, seen(f"v{n}", touched=n * 30, size=n)) for n in range(10)]
    assert not any(stable(*steps))


def test_a_storage_whose_clock_runs_ahead_delays_a_file_and_does_not_keep_it():
    file = seen(touched=3600)
    assert stable((0, file), (30, file), (60, file)) == [False, False, True]


def test_a_time_that_goes_back_says_nothing_of_a_file():
    # Written at 23:59, and the next version says that it is two hours older: only looks count.
    assert stable((0, seen("v1", touched=-1)), (30, seen("v2", -7200)), (89, seen("v2", -7200))) == [False] * 3
    assert stable((0, seen("v1", touched=-1)), (30, seen("v2", -7200)), (90, seen("v2", -7200)))[-1]


def test_a_storage_without_times_needs_two_looks():
    assert stable((0, seen(touched=None)), (60, seen(touched=None))) == [False, True]


def test_our_clock_set_back_starts_the_wait_again_and_no_longer_one():
    file = seen(touched=4000)
    assert stable((0, file), (-3600, file), (-3570, file), (-3540, file)) == [False, False, False, True]


def test_quiet_of_zero_takes_what_is_there():
    assert stable((0, seen(touched=99)), quiet=timedelta(0)) == [True]


def test_the_day_is_that_of_the_first_look_for_ever():
    found = looks((0, seen(touched=-1)), (90, seen(touched=-1)), (90_000, seen(touched=-1)))
    assert [sighting.day for sighting in found] == ["2026-11-22"] * 3
    assert [sighting.day for sighting in looks((61, seen()))] == ["2026-11-23"]


def test_a_new_version_arrives_on_its_own_day():
    found = looks((0, seen("v1", -99)), (90, seen("v2", -70)))
    assert [(s.version, s.day) for s in found] == [("v1", "2026-11-22"), ("v2", "2026-11-23")]


def test_a_version_that_comes_back_after_another_one_arrives_anew():
    (settled,) = looks((0, seen("v1", -99)))
    settled = replace(settled, settled="loaded", requests=1)
    (other,) = look([settled], [seen("v2", -80)], after(10), QUIET)
    (back,) = look([settled, other], [seen("v1", -99)], after(90), QUIET)
    assert (back.day, back.settled, back.first_seen_at) == ("2026-11-23", None, after(90))
    # And once only: it is the newest of the versions now.
    assert look([other, back], [seen("v1", -99)], after(200), QUIET)[0].first_seen_at == after(90)


def test_what_was_settled_stays_so():
    (first,) = looks((0, seen(touched=-99)))
    settled = replace(first, settled="loaded")
    assert look([settled], [seen(touched=-99)], after(500), QUIET) == [settled]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(-500, 500),
    st.booleans(),
)
def test_no_version_counts_before_it_was_quiet_by_our_clock_or_its_own(steps, skew, honest):
    """Whatever changes when: a stable file was seen unchanged, or untouched by a believable time, for `quiet`."""
    at, known, begun, touched = 0, {}, {}, {}
    for wait, version in steps:
        at += wait
        name = f"v{version}"
        begun.setdefault(name, at)
        touched.setdefault(name, at if honest else at + skew)
        (found,) = look(list(known.values()), [seen(name, touched[name])], after(at), QUIET)
        known[name] = found
        if found.stable_at is not None:
            waited = found.stable_at - found.since >= QUIET
            assert waited or found.stable_at - after(touched[name]) >= QUIET
            assert found.day == found.first_seen_at.date().isoformat()


@pytest.mark.parametrize("skew", [-10_000, 0, 10_000])
def test_whatever_the_clock_of_the_storage_says_a_quiet_file_is_taken(skew):
    file = seen(touched=skew)
    assert stable((0, file), (30, file), (60, file), (90, file))[2:] == [True, True]
