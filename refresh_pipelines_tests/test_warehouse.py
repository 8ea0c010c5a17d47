"""One commit, in either warehouse: rows and load state together or not at all, and whose rows they are."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pyarrow as pa
import pytest

from refresh_pipelines.errors import ContractViolation, InternalError, SpecChanged
from refresh_pipelines.warehouse import Commit
from refresh_pipelines_tests.stores import KINDS, by_hand, held, is_postgres, opened
from refresh_pipelines_tests.workbench import NOW, commit_of, rows_of, spec_of, state_of

SPEC = spec_of()
A1, A2, B1 = ({"k": k, "n": n, "t": None} for k, n in (("a", "1"), ("a", "2"), ("b", "1")))
LATER = NOW + timedelta(days=1)


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "not yet" / "there" / "warehouse.duckdb")


@pytest.fixture
def put(warehouse, tmp_path):
    """Commit rows the way a refresh does and return what was merged."""

    def put(rows, spec=SPEC, partition=None, **state):
        return warehouse.commit(commit_of(spec, rows, tmp_path / "scratch", partition, **state))

    return put


def test_a_table_ends_with_the_load_columns_which_tell_a_rows_story(warehouse, put):
    put([A1, B1], partition="p", run_id="one")
    put([A2, B1], partition="q", run_id="two", at=LATER)
    assert held(warehouse, "mini") == [
        ("a", 2, None, "mini", "q", NOW, LATER, "two"),
        ("b", 1, None, "mini", "p", NOW, NOW, "one"),
    ]
    names, _ = warehouse.query("SELECT * FROM raw.mini")
    assert names == ["k", "n", "t", "_source", "_partition", "_first_seen_at", "_updated_at", "_run_id"]


def test_a_replaced_partition_loses_what_vanished_and_no_other_does(put, warehouse):
    spec = spec_of(load={"mode": "replace_partition"})
    put([A1], spec, "p")
    put([B1, {**B1, "k": "c"}], spec, "q")
    merged = put([B1], spec, "q", at=LATER)
    assert (merged.state.counts.deleted, merged.partition_rows, merged.table_rows) == (1, 1, 2)
    assert [row[0] for row in held(warehouse, "mini")] == ["a", "b"]


def test_an_empty_payload_empties_a_replaced_partition_and_leaves_a_merged_one(put):
    spec = spec_of(load={"mode": "replace_partition"})
    put([A1], spec, "p")
    assert put([], spec, "p").state.counts.deleted == 1
    put([A1], spec_of("other"), "p")
    merged = put([], spec_of("other"), "p")
    assert (merged.state.outcome, merged.state.counts.deleted, merged.partition_rows) == ("empty", 0, 1)


def test_a_row_of_another_source_is_refused_and_nothing_changes(warehouse, put):
    put([A1], spec_of("one", table="shared"), "p")
    before = held(warehouse, "shared")
    with pytest.raises(ContractViolation) as caught:
        put([A2, B1], spec_of("two", table="shared"), "q")
    assert str(caught.value).startswith("a row of raw.shared belongs to one[p]; expected rows that no other")
    assert caught.value.came == "(k) = (a)"
    assert held(warehouse, "shared") == before
    assert warehouse.states("two")[0] == {}


def test_a_row_of_another_replaced_partition_is_refused_and_nothing_changes(warehouse, put):
    spec = spec_of(load={"mode": "replace_partition"})
    put([A1], spec, "p")
    with pytest.raises(ContractViolation, match=r"belongs to mini\[p\]"):
        put([A1], spec, "q")
    assert len(held(warehouse, "mini")) == 1
    assert set(warehouse.states("mini")[0]) == {"p"}


def test_a_row_that_a_person_added_without_a_source_is_not_taken_over(warehouse, put):
    put([A1])
    by_hand(warehouse, "INSERT INTO raw.mini (k, n) VALUES ('b', 7)")
    with pytest.raises(ContractViolation, match="belongs to nobody we know"):
        put([B1])


def test_keys_doubled_by_hand_are_told_and_not_updated_twice(warehouse, put):
    put([A1])
    if is_postgres(warehouse):  # its tables have a unique key
        with pytest.raises(psycopg.errors.UniqueViolation):
            by_hand(warehouse, "INSERT INTO raw.mini SELECT * FROM raw.mini")
        return
    by_hand(warehouse, "INSERT INTO raw.mini SELECT * FROM raw.mini")
    with pytest.raises(InternalError, match=r"wrote into raw.mini by hand, remove rows with equal \(k\)"):
        put([A2])
    assert [row[1] for row in held(warehouse, "mini")] == [1, 1]


def test_rows_and_load_state_are_written_together_or_not_at_all(warehouse, put, tmp_path):
    put([A1], run_id="one")
    before = warehouse.states("mini")[0]
    commit = commit_of(SPEC, [A2, B1], tmp_path / "scratch", run_id="two")

    def stop(stage):
        raise KeyboardInterrupt(stage)

    with pytest.raises(KeyboardInterrupt, match="merged"):
        warehouse.commit(Commit(SPEC, None, commit.staged, commit.state, stop))
    assert warehouse.states("mini")[0] == before
    assert [row[:2] for row in held(warehouse, "mini")] == [("a", 1)]
    assert warehouse.commit(commit).state.counts.added == 1


def test_the_load_state_comes_back_as_it_was_written(warehouse, put):
    merged = put([A1, A1], partition="p", etag='"x"', last_modified="then", published_at=LATER, url="u")
    assert warehouse.states("mini")[0] == {"p": merged.state}
    assert warehouse.states("other")[0] == {}


def test_touch_writes_the_state_and_no_row(warehouse, put):
    merged = put([A1])
    before = held(warehouse, "mini")
    touched = state_of(SPEC, None, etag='"new"', content_hash=merged.state.content_hash)
    assert warehouse.touch(touched) < 1
    assert warehouse.states("mini")[0] == {"": touched}
    assert held(warehouse, "mini") == before


def test_the_data_version_changes_with_the_rows_and_only_then(put):
    first = put([A1], content_hash="one").state
    again = put([A1], content_hash="two", data_version=first.data_version, changed_at=NOW, at=LATER).state
    assert (again.outcome, again.data_version, again.changed_at) == ("unchanged", first.data_version, NOW)
    changed = put([A2], data_version=first.data_version, changed_at=NOW, at=LATER).state
    assert (changed.outcome, changed.changed_at) == ("loaded", LATER)
    assert changed.data_version not in {"", first.data_version}


def test_the_cursor_is_the_newest_value_of_the_partition(put):
    columns = {"k": {"type": "text"}, "day": {"type": "date"}}
    spec = spec_of(columns=columns, partitions={"static": {"s": ["p", "q"]}, "column": "day"})
    put([{"k": "a", "day": "2026-03-01"}, {"k": "b", "day": None}], spec, "p")
    assert put([{"k": "c", "day": "2026-01-01"}], spec, "q").state.cursor == "2026-01-01"
    assert put([{"k": "a", "day": "2026-02-01"}], spec, "p").state.cursor == "2026-02-01"
    assert put([], spec, "r").state.cursor is None


def test_a_dropped_table_is_forgotten_so_that_it_is_loaded_anew(warehouse, put):
    put([A1], partition="p")
    assert set(warehouse.states("mini", "mini")[0]) == {"p"}
    by_hand(warehouse, "DROP TABLE raw.mini")
    assert warehouse.states("mini", "mini")[0] == {}
    assert put([A1], partition="p").state.counts.added == 1


def test_a_persons_own_table_called_staged_is_left_alone(warehouse, put):
    put([A1])
    by_hand(warehouse, "CREATE TABLE staged AS SELECT 'mine' AS k")
    assert put([A1, B1]).state.counts.added == 1
    assert rows_of(warehouse, "SELECT * FROM staged") == [("mine",)]


@pytest.mark.parametrize("made", ["TABLE raw.mini (k VARCHAR, n INTEGER, t VARCHAR)", "VIEW raw.mini AS SELECT 1 AS k"])
def test_what_a_person_made_under_the_tables_name_is_refused(warehouse, put, made):
    put([A1], spec_of("other"))
    by_hand(warehouse, f"CREATE {made}")
    with pytest.raises(SpecChanged, match=r"raw\.mini was not made by a refresh.*give the source another `table:`"):
        put([A1])


def test_a_value_that_the_database_refuses_is_the_payloads_fault_and_rolls_back(warehouse, put, tmp_path):
    put([A1])
    commit = commit_of(SPEC, [B1], tmp_path / "scratch")
    rows = commit.staged.table()
    keyless = pa.table([pa.nulls(1, rows.schema.field("k").type), *rows.columns[1:]], schema=rows.schema)
    with pa.OSFile(str(commit.staged.path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(keyless)
    with pytest.raises(ContractViolation, match=r"(?i)cannot hold a value of the payload.*not.null"):
        warehouse.commit(commit)
    assert len(held(warehouse, "mini")) == 1


def test_a_persons_index_in_the_way_of_a_new_column_is_told_without_a_traceback(warehouse, put):
    put([A1])
    by_hand(warehouse, "CREATE INDEX mine ON raw.mini (n)")
    wider = spec_of(columns={**SPEC.model_dump()["columns"], "extra": {"type": "int"}})
    if is_postgres(warehouse):  # where it is in nobody's way
        assert put([{**A1, "extra": "1"}], wider).state.counts.updated == 1
        return
    with pytest.raises(InternalError, match=r"refused a statement.*depend"):
        put([{**A1, "extra": "1"}], wider)
    assert put([A2]).state.counts.updated == 1


def test_a_row_that_changes_keeps_what_a_person_wrote_beside_it_and_when_it_was_first_seen(warehouse, put):
    put([A1, B1, {**B1, "k": "c"}], run_id="one")
    by_hand(
        warehouse,
        'ALTER TABLE raw.mini ADD COLUMN "remark" VARCHAR',
        "UPDATE raw.mini SET remark = 'of ' || k",
        "UPDATE raw.mini SET _first_seen_at = NULL WHERE k = 'c'",
    )
    merged = put([A2, {**B1, "k": "c", "n": "9"}, {**A1, "k": "d"}], run_id="two", at=LATER)
    assert (merged.state.counts.added, merged.state.counts.updated, merged.table_rows) == (1, 2, 4)
    assert held(warehouse, "mini") == [
        ("a", 2, None, "mini", None, NOW, LATER, "two", "of a"),
        ("b", 1, None, "mini", None, NOW, NOW, "one", "of b"),
        ("c", 9, None, "mini", None, None, LATER, "two", "of c"),
        ("d", 1, None, "mini", None, LATER, LATER, "two", None),
    ]


def test_commits_of_one_transaction_build_on_each_other(warehouse, tmp_path):
    first = commit_of(SPEC, [A1, B1], tmp_path / "one", "p", run_id="one")
    second = commit_of(SPEC, [A2, {**B1, "k": "c"}], tmp_path / "two", "q", run_id="two", at=LATER)
    third = commit_of(SPEC, [A1, B1], tmp_path / "three", "r", run_id="three", at=LATER)
    counts = [merged.state.counts for merged in warehouse.commit_all([first, second, third])]
    assert [(one.added, one.updated, one.unchanged) for one in counts] == [(2, 0, 0), (1, 1, 0), (0, 1, 1)]
    assert held(warehouse, "mini") == [
        ("a", 1, None, "mini", "r", NOW, LATER, "three"),
        ("b", 1, None, "mini", "p", NOW, NOW, "one"),
        ("c", 1, None, "mini", "q", LATER, LATER, "two"),
    ]
