"""What is a surprise and what is not: numbers in, reasons out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.plausible import DEFAULTS, Limits, Past, surprises
from refresh_pipelines.profile import KEPT, Profile, read, with_profile, written
from refresh_pipelines.spec import Expect

BASE = Profile(rows=1000, bytes=50_000, before=1000, known=1000)
USUAL = Limits()
SETTLED = (BASE, BASE, BASE)


def limits(**keys):
    return Limits.of(Expect.model_validate(keys))


def why(now, own=SETTLED, limit=USUAL, **past):
    return [reason.demand for reason in surprises(now, Past(tuple(own), **past), limit)]


def changed(**values):
    return replace(BASE, **values)


CASES = [
    ("rows that fall by more than a quarter", changed(rows=740), ["change"]),
    ("rows that fall by a quarter", changed(rows=750), []),
    ("twice as many rows", changed(rows=2000), []),
    ("more than twice as many rows", changed(rows=2001), ["change"]),
    ("less than half of the bytes with the same rows", changed(bytes=19_000), ["bytes"]),
    ("a tenth of the keys is gone", changed(lost=100), []),
    ("more of the keys are gone", changed(lost=101), ["shrink"]),
    ("half of the rows have other values", changed(updated=500), []),
    ("most rows have other values", changed(updated=501), ["updated"]),
    ("a tenth of the rows would be deleted", changed(deleted=100), []),
    ("more rows would be deleted", changed(deleted=101), ["deleted"]),
    ("a column is empty", changed(nulls={"value": 1000}), ["nulls"]),
    ("some values of a column are empty", changed(nulls={"value": 300}), []),
    ("days inside are missing", changed(lost=60, instants=100, holes=6), ["holes"]),
    ("one or two days inside are missing", changed(lost=60, instants=20, holes=2), []),
]


@pytest.mark.parametrize(("now", "demands"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_demand_has_its_limit(now, demands):
    assert why(now) == demands


@pytest.mark.parametrize("now", [case[1] for case in CASES])
def test_a_first_load_is_never_a_surprise(now):
    assert why(replace(now, before=0, known=0), own=()) == []


def test_of_a_young_source_only_rows_and_deletions_are_judged_and_more_leniently():
    assert why(changed(rows=600), own=(BASE,)) == []
    assert why(changed(rows=599), own=(BASE,)) == ["change"]
    assert why(changed(deleted=401), own=(BASE,)) == ["deleted"]
    assert why(changed(rows=5000, updated=900, lost=500, nulls={"a": 900}), own=(BASE, BASE)) == []


def test_small_numbers_say_nothing():
    small = Profile(rows=19, bytes=900, before=19, known=19)
    assert why(replace(small, rows=1, bytes=20, lost=18, nulls={"a": 1000}), own=(small,) * 5) == []
    assert why(replace(small, rows=19, nulls={"a": 900}), own=(small,) * 5) == []
    few = Profile(rows=30, bytes=900, before=30, known=30)
    assert why(replace(few, rows=21, updated=9, known=9), own=(few,) * 5) == []


def test_a_column_that_has_lost_all_its_values_is_a_surprise_however_small_and_young_the_source():
    small = Profile(rows=6, before=6, known=6)
    emptied = replace(small, nulls={"a": 1000})
    assert why(emptied, own=(small,)) == ["nulls"]
    assert why(emptied, own=(replace(small, nulls={"a": 200}),)) == []
    assert why(replace(emptied, rows=4), own=(small,)) == []
    assert why(emptied, own=(), others=(small, small)) == []
    assert why(emptied, own=(small,), limit=limits(nulls="off")) == []


def test_a_share_in_the_yaml_holds_both_ways_and_from_the_second_load_on():
    strict = limits(change="5%", nulls="5%")
    assert why(changed(rows=940), own=(BASE,), limit=strict) == ["change"]
    assert why(changed(rows=1060), own=(BASE,), limit=strict) == ["change"]
    assert why(changed(nulls={"a": 60}), own=(BASE,), limit=strict) == ["nulls"]


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_demand_can_be_switched_off(name):
    worst = changed(
        rows=10, bytes=10, lost=900, updated=900, nulls={"a": 1000}, flat={"b": "0"}, instants=100, holes=90
    )
    worst = replace(worst, lost=0, deleted=900) if name == "deleted" else worst
    before = why(replace(worst, rows=30), own=(changed(rows=100),) * 5)
    assert name in before
    assert name not in why(replace(worst, rows=30), own=(changed(rows=100),) * 5, limit=limits(**{name: "off"}))


def test_a_bare_off_of_yaml_is_off():
    assert Expect.model_validate({"change": False}).change == "off"


def test_a_period_that_was_not_over_may_grow():
    morning = changed(rows=100, before=100)
    assert why(changed(rows=900, before=100), own=(morning,) * 3) == ["change"]
    assert why(changed(rows=900, before=100), own=(morning,) * 3, may_grow=True) == []


def test_what_is_only_new_since_the_last_time_has_no_usual_size():
    assert why(changed(rows=30, bytes=1000, whole=False, before=1000, known=10)) == []


def test_keys_that_the_last_payload_lacked_already_are_not_lost_again():
    window = tuple(changed(lost=lost, before=1000 + lost) for lost in (400, 430, 460))
    assert why(changed(lost=490, before=1490), own=window) == []


def test_a_forecast_that_changes_every_time_is_no_surprise():
    assert why(changed(updated=990), own=[BASE, *[changed(updated=1000)] * 2]) == []


def test_a_source_that_never_loses_rows_is_watched_more_closely_once_that_is_known():
    assert why(changed(rows=1080), own=[changed(rows=1000 + n * 10) for n in range(8)]) == []
    assert why(changed(rows=950), own=[changed(rows=1000 + n * 10) for n in range(8)]) == ["change"]
    assert why(changed(rows=950), own=[changed(rows=1000 + n * 10) for n in range(5)]) == []


def test_the_first_payload_of_a_period_is_compared_with_the_periods_before():
    others = tuple(changed(rows=rows) for rows in (90, 100, 95, 20, 97, 99))
    assert why(changed(rows=1001, before=0, known=0), own=(), others=others) == ["change"]
    assert why(changed(rows=5, before=0, known=0), own=(), others=others) == []
    strict = limits(change="25%")
    assert why(changed(rows=5, before=0, known=0), own=(), others=others, limit=strict) == ["change"]
    assert why(changed(rows=5, before=0, known=0), own=(), others=others, limit=strict, over=False) == []
    assert why(changed(rows=96, nulls={"t": 1000}, before=0, known=0), own=(), others=others) == ["nulls"]


def test_numbers_that_become_one_number_are_a_surprise_only_of_a_source_that_is_known_well():
    assert why(changed(flat={"t": "0"}), own=(BASE,) * 4) == []
    assert why(changed(flat={"t": "0"}), own=(BASE,) * 5) == ["nulls"]
    assert why(changed(flat={"t": "1"}), own=[*[BASE] * 4, changed(flat={"t": "0"})]) == []


NUMBERS = st.integers(0, 3000)
PROFILES = st.builds(
    lambda rows, size, before, parts, nulls, whole: Profile(
        rows=rows, bytes=size, before=before, known=min(rows, before), whole=whole, nulls=nulls,
        updated=min(rows, before) * parts[0] // 100, deleted=before * parts[1] // 100, lost=before * parts[2] // 100,
        instants=100, holes=parts[3],
    ),
    NUMBERS, st.integers(0, 10**6), NUMBERS, st.tuples(*[st.integers(0, 100)] * 4),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 1000)), st.booleans(),
)  # fmt: skip
PASTS = st.lists(PROFILES, min_size=1, max_size=KEPT)
ANY_LIMITS = st.builds(
    lambda keys: limits(**keys),
    st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.sampled_from(["0%", "5%", "50%", "200%", "off"])),
)


@given(own=PASTS, limit=ANY_LIMITS)
def test_a_payload_equal_to_the_last_never_surprises(own, limit):
    last = own[-1]
    again = replace(last, before=last.rows, known=last.rows, updated=0, deleted=0)
    assert why(again, own, limit) == []


@given(own=PASTS, now=PROFILES, limit=ANY_LIMITS)
def test_what_was_accepted_is_no_surprise_when_it_comes_again(own, now, limit):
    assert why(now, [*own, now], limit) == []


@given(own=PASTS, now=PROFILES)
def test_a_switched_off_source_is_never_a_surprise(own, now):
    assert why(now, own, limits(**dict.fromkeys(DEFAULTS, "off"))) == []


@given(profiles=st.lists(PROFILES, max_size=20))
def test_profiles_are_read_as_they_were_written_and_the_oldest_go(profiles):
    text = ""
    for one in profiles:
        text = with_profile(text, one)
    assert list(read(text)) == profiles[-KEPT:]
    assert read(written(profiles)) == tuple(profiles)
