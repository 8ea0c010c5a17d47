"""What a renamed source carries over, and what a retired one leaves, in the warehouse."""

from __future__ import annotations

import pytest

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines.warehouse import Holding, Remains
from refresh_pipelines_tests.stores import KINDS, by_hand, held, is_postgres, opened
from refresh_pipelines_tests.workbench import commit_of, rows_of, spec_of

A, B = {"k": "a", "n": "1", "t": None}, {"k": "b", "n": "2", "t": None}


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "warehouse.duckdb", attached=True)


@pytest.fixture
def put(warehouse, tmp_path):
    def put(source, rows, partition=None, **changes):
        spec = spec_of(source, **changes)
        return warehouse.commit(commit_of(spec, rows, tmp_path / source, partition))

    return put


def tables(warehouse):
    return [name for (name,) in rows_of(warehouse, 'SELECT "table" FROM refresh.tables ORDER BY 1')]


def test_a_renamed_source_keeps_rows_load_state_and_table(warehouse, put):
    put("old", [A], "p")
    put("old", [B], "q")
    states = warehouse.states("old")[0]
    new = spec_of("new", aliases=["old"])
    assert new.spec_hash  # computed before, as it is in a refresh
    assert warehouse.adopt(new)
    assert [row[:5] for row in held(warehouse, "new")] == [
        ("a", 1, None, "new", "p"),
        ("b", 2, None, "new", "q"),
    ]
    carried = warehouse.states("new", "new")[0]
    assert {key: (state.spec_hash, state.table) for key, state in carried.items()} == {
        "p": (new.spec_hash, "new"), "q": (new.spec_hash, "new"),
    }  # fmt: skip
    assert [state.content_hash for state in carried.values()] == [state.content_hash for state in states.values()]
    assert (warehouse.states("old")[0], tables(warehouse)) == ({}, ["new"])
    assert not warehouse.adopt(new)


def test_after_a_rename_the_same_rows_are_unchanged(warehouse, put):
    put("old", [A, B])
    warehouse.adopt(spec_of("new", aliases=["old"]))
    merged = put("new", [A, B], aliases=["old"])
    assert (merged.state.counts.unchanged, merged.table_rows) == (2, 2)


def test_a_table_with_a_name_of_its_own_keeps_it(warehouse, put):
    put("old", [A], table="shared")
    put("other", [B], table="shared")
    assert warehouse.adopt(spec_of("new", aliases=["old"], table="shared"))
    assert [row[3] for row in held(warehouse, "shared")] == ["new", "other"]
    assert warehouse.states("new", "shared")[0][""].table == "shared"


def test_a_yaml_edited_with_the_rename_is_read_anew(warehouse, put):
    put("old", [A])
    new = spec_of("new", aliases=["old"], merge_key=["k"], format={"kind": "json", "rows": "here"})
    warehouse.adopt(new)
    assert warehouse.states("new")[0][""].spec_hash != new.spec_hash


def test_a_rename_and_another_table_at_once_is_refused_at_the_load(warehouse, put):
    put("old", [A])
    warehouse.adopt(spec_of("new", aliases=["old"], table="elsewhere"))
    with pytest.raises(SpecChanged, match=r"lie in raw\.old"):
        put("new", [A], table="elsewhere")


def test_the_group_before_an_alias_does_not_matter_to_the_warehouse(warehouse, put):
    put("old", [A])
    assert warehouse.adopt(spec_of("new", aliases=["elsewhere/old"]))
    assert not warehouse.adopt(spec_of("new", aliases=["elsewhere/new"]))


def test_nothing_to_carry_over_creates_nothing(warehouse):
    assert not warehouse.adopt(spec_of("new", aliases=["old"]))
    assert is_postgres(warehouse) or not warehouse.path.exists()


@pytest.mark.parametrize(
    ("before", "aliases", "said"),
    [
        (["old", "new"], ["old"], "got rows of old, new"),
        (["old", "older"], ["old", "older"], "got rows of old, older"),
    ],
)
def test_rows_under_two_names_are_not_mixed(warehouse, put, before, aliases, said):
    for source, row in zip(before, (A, B), strict=True):
        put(source, [row])
    found = [held(warehouse, source) for source in before]
    with pytest.raises(SpecChanged) as caught:
        warehouse.adopt(spec_of("new", aliases=aliases))
    assert said in str(caught.value)
    assert "Nothing was changed." in str(caught.value)
    assert [held(warehouse, source) for source in before] == found


def test_a_table_named_after_the_old_source_that_others_share_stays_theirs(warehouse, put):
    put("old", [A])
    put("other", [B], table="old")
    with pytest.raises(SpecChanged, match="Write `table: old` into the YAML"):
        warehouse.adopt(spec_of("new", aliases=["old"]))
    assert [row[3] for row in held(warehouse, "old")] == ["old", "other"]


def test_a_table_that_bears_the_new_name_already_is_not_written_over(warehouse, put):
    put("other", [B], table="new")
    put("old", [A])
    with pytest.raises(SpecChanged, match=r"expected no table raw\.new"):
        warehouse.adopt(spec_of("new", aliases=["old"]))


def test_a_retired_source_leaves_neither_rows_nor_table_nor_state(warehouse, put):
    put("mini", [A], "p")
    put("mini", [B], "q")
    expected = Remains("mini", 2, (Holding("mini", 2, 0),))
    assert warehouse.remains("mini") == expected
    assert warehouse.retire("mini") == expected
    assert (warehouse.sources(), tables(warehouse)) == (set(), [])
    assert rows_of(warehouse, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'raw'") == []
    assert warehouse.retire("mini") == Remains("mini")


def test_a_shared_table_keeps_the_rows_of_others(warehouse, put):
    put("mini", [A], table="shared")
    put("other", [B], table="shared")
    assert warehouse.sources() == {"mini", "other"}
    assert warehouse.retire("mini") == Remains("mini", 1, (Holding("shared", 1, 1),))
    assert [row[3] for row in held(warehouse, "shared")] == ["other"]
    assert warehouse.remains("other") == Remains("other", 1, (Holding("shared", 1, 0),))


def test_a_table_that_is_empty_and_ours_goes_too(warehouse, put):
    put("mini", [])
    assert warehouse.retire("mini") == Remains("mini", 1, (Holding("mini", 0, 0),))
    assert tables(warehouse) == []


def test_after_retiring_another_type_and_key_load_as_if_new(warehouse, put):
    put("mini", [A])
    warehouse.retire("mini")
    columns = {"k": {"type": "text"}, "n": {"type": "bigint", "nullable": False}, "t": {"type": "text"}}
    assert put("mini", [A], columns=columns, merge_key=["n"]).state.counts.added == 1


def test_before_the_first_load_there_is_nothing_to_retire(warehouse):
    assert (warehouse.sources(), warehouse.remains("mini"), warehouse.retire("mini")) == (
        set(), Remains("mini"), Remains("mini"),
    )  # fmt: skip
    assert is_postgres(warehouse) or not warehouse.path.exists()


def test_a_persons_own_tables_are_neither_counted_nor_touched(warehouse, put):
    put("mini", [A])
    by_hand(warehouse, "CREATE TABLE raw.mine AS SELECT 'mini' AS _source")
    assert warehouse.retire("mini").holdings == (Holding("mini", 1, 0),)
    assert len(rows_of(warehouse, "SELECT * FROM raw.mine")) == 1
