"""Payloads that stop half-way are refused by the values they lack: expect.present and expect.keep."""

from __future__ import annotations

import json

import duckdb
import pytest

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import HOST, Bench, rows_of, spec_of

STATIC = {"static": {"site": ["x", "y"]}}


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


@pytest.fixture
def load(bench, sandbox):
    """Refresh from rows named by text or null in column t, one key each."""

    def load(spec, names, key=None, first=0):
        listed = [{"k": f"{key}{number}", "n": number, "t": name} for number, name in enumerate(names, first)]
        sandbox.override(HOST, json.dumps(listed).encode())
        return bench.refresh(spec, key)

    return load


def present(*values, **changes):
    return spec_of(**{"expect": {"min_rows": 0, "present": {"t": list(values)}}, **changes})


def keep(share, **changes):
    return spec_of(**{"expect": {"min_rows": 0, "keep": {"t": share}}, **changes})


def replaced(spec):
    return spec.model_copy(update={"load": spec.load.model_copy(update={"mode": "replace_partition"})})


def test_a_payload_without_the_values_it_must_have_is_refused_from_the_first_load_on(load, bench):
    with pytest.raises(ContractViolation) as caught:
        load(present("Troll", "Yme", "Ålesund"), ["Alta", "Snorre", "Troll"])
    assert str(caught.value).startswith(
        "benin/mini: the payload is not whole; expected t to be also Yme, Ålesund (expect.present); "
        "got 3 different values from Alta to Troll. Nothing was loaded."
    )
    assert caught.value.fetched == 3
    assert not bench.file.exists()
    assert load(present("Troll", "Yme"), ["Alta", "Yme", "Troll"]).counts.added == 3


def test_a_later_payload_without_them_leaves_the_table(load, bench):
    spec = replaced(present("Yme"))
    load(spec, ["Alta", "Yme"])
    before = bench.rows("mini")
    with pytest.raises(ContractViolation, match="the payload is not whole"):
        load(spec, ["Alta"])
    assert bench.rows("mini") == before


@pytest.mark.parametrize("names", [[None, "Yme"], ["Yme", "Yme"]])
def test_missing_and_repeated_values_do_not_matter_to_what_must_be_there(load, names):
    assert load(present("Yme"), names).counts.added == 2


def test_a_payload_of_missing_values_alone_is_not_whole(load):
    with pytest.raises(ContractViolation, match="1 different values from None to None"):
        load(present("Yme"), [None, None])


@pytest.mark.parametrize(
    ("kind", "written", "there", "gone"),
    [
        ("int", ["1", "7"], "7", "8"), ("date", ["2026-01-31"], "2026-01-31", "2026-02-01"),
        ("bool", ["true"], "true", "false"), ("bigint", ["9999999999"], "9999999999", "1"),
        ("decimal(4,1)", ["2.50"], "2.5", "2.6"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_named_as_they_are_written(load, kind, written, there, gone):
    columns = {"k": {"type": "text"}, "t": {"type": kind}}
    with pytest.raises(ContractViolation, match=f"to be also {gone} "):
        load(present(gone, columns=columns), written)
    assert load(present(there, columns=columns), written).outcome == "loaded"


def test_two_columns_are_looked_at(load):
    spec = spec_of(expect={"present": {"t": ["a"], "n": ["1"]}})
    assert load(spec, ["a", "b"]).success
    with pytest.raises(ContractViolation, match="expected n to be also 1"):
        load(spec, ["a"])


# Values that the table has.


@pytest.mark.parametrize(
    ("share", "left", "passes"),
    [("0%", 10, True), ("0%", 9, False), ("10%", 9, True), ("10%", 8, False), ("99%", 1, True), ("100%", 0, True)],
)
def test_so_many_values_of_the_table_may_be_gone_and_no_more(load, bench, share, left, passes):
    spec = keep(share)
    load(spec, [f"v{n}" for n in range(10)])
    before = bench.rows("mini")
    if passes:
        assert load(spec, [f"v{n}" for n in range(left)]).success
        return
    with pytest.raises(ContractViolation) as caught:
        load(spec, [f"v{n}" for n in range(left)])
    assert f"expected at most {share} of the 10 different t of the table to be gone (expect.keep); " in str(
        caught.value
    )
    assert f"got {10 - left} gone: {', '.join(f'v{n}' for n in range(left, 10))}. Nothing" in str(caught.value)
    assert bench.rows("mini") == before


def test_five_of_many_values_that_are_gone_are_named(load):
    load(keep("0%"), [f"v{n}" for n in range(9)])
    with pytest.raises(ContractViolation, match=r"got 8 gone: v1, v2, v3, v4, v5 …\. Nothing"):
        load(keep("0%"), ["v0"])


def test_nothing_is_lost_from_a_table_that_holds_nothing(load):
    assert load(keep("0%"), ["a", "b"]).outcome == "loaded"


def test_values_that_are_new_do_not_stand_for_those_that_are_gone(load):
    load(keep("0%"), ["a", "b"])
    with pytest.raises(ContractViolation, match="1 gone: b"):
        load(keep("0%"), ["a", "c", "d", "e"])
    assert load(keep("0%"), ["b", "c", "a"]).counts == Counts(fetched=3, added=1, updated=2)


def test_a_missing_value_is_none_that_could_be_gone(load):
    load(keep("0%"), ["a", None])
    assert load(keep("0%"), ["a"]).success
    assert load(keep("0%"), [None, "a"]).success
    with pytest.raises(ContractViolation, match=r"at most 0% of the 1 different t .* 1 gone: a"):
        load(keep("0%"), [None, None])


def test_values_of_another_partition_are_not_asked_for(load):
    spec = keep("0%", partitions=STATIC)
    load(spec, ["a"], "x")
    assert load(spec, ["b"], "y").counts.added == 1
    with pytest.raises(ContractViolation, match="1 gone: a"):
        load(spec, ["b"], "x")


def test_values_of_another_source_of_the_table_are_not_asked_for(load):
    load(keep("0%", source="first", table="shared"), ["a"])
    assert load(keep("0%", source="second", table="shared"), ["b"], first=5).counts.added == 1


def test_an_empty_payload_loses_everything(load, bench):
    spec = replaced(keep("0%"))
    load(spec, ["a", "b"])
    with pytest.raises(ContractViolation, match="2 gone: a, b"):
        load(spec, [])
    assert len(bench.rows("mini")) == 2


def test_a_table_that_a_person_emptied_is_filled_with_whatever_comes(load, bench):
    load(keep("0%"), ["a", "b"])
    with duckdb.connect(str(bench.file)) as connection:
        connection.execute("DELETE FROM raw.mini")
    assert load(keep("0%"), ["c"]).counts.added == 1


def test_what_may_be_gone_goes_with_its_rows(load, bench):
    spec = replaced(keep("50%"))
    load(spec, ["a", "b"])
    assert load(spec, ["a"]).counts == Counts(fetched=1, unchanged=1, deleted=1)
    assert rows_of(bench.warehouse, "SELECT t FROM raw.mini") == [("a",)]
