"""`refresh.completion`: what a person with only SQL sees of each source and partition."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from refresh_pipelines_tests.stores import KINDS, by_hand, held, is_postgres, opened
from refresh_pipelines_tests.workbench import NOW, commit_of, rows_of, spec_of

NAMES = ("source", "partition", "table_name", "outcome", "data_version", "rows", "run_id", "completed_at", "changed_at")
COLUMNS = {"k": {"type": "text", "nullable": False}, "n": {"type": "int"}}
PAIR = spec_of("pair", table="shared", columns=COLUMNS, partitions={"static": {"side": ["left", "right"]}})
ROWS = [{"k": "a", "n": 1}, {"k": "b", "n": 2}]
LATER = NOW + timedelta(days=1)


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "w.duckdb", attached=True)


def completion(warehouse, names="*"):
    return rows_of(warehouse, f"SELECT {names} FROM refresh.completion ORDER BY source, partition")


def test_a_commit_writes_one_row_for_its_source_and_partition(warehouse, tmp_path):
    state = warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left")).state
    assert warehouse.query("SELECT * FROM refresh.completion")[0] == [*NAMES]
    assert completion(warehouse) == [
        ("pair", "left", "raw.shared", "loaded", state.data_version, 2, "run", NOW, NOW),
    ]
    warehouse.commit(commit_of(PAIR, [{"k": "c", "n": 3}], tmp_path, "right"))
    assert completion(warehouse, "partition, rows") == [("left", 2), ("right", 1)]


def test_a_source_without_partitions_has_none_as_in_its_table(warehouse, tmp_path):
    warehouse.commit(commit_of(spec_of(columns=COLUMNS), ROWS, tmp_path))
    same = "source = _source AND partition IS NOT DISTINCT FROM _partition"
    query = f"SELECT count(*) FROM raw.mini JOIN refresh.completion ON {same}"
    assert rows_of(warehouse, query) == [(2,)]


def test_a_commit_without_a_change_is_complete_later_and_changed_as_before(warehouse, tmp_path):
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left"))
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left", at=LATER, changed_at=NOW, run_id="run2", data_version="v"))
    assert completion(warehouse, "outcome, data_version, run_id, completed_at, changed_at") == [
        ("unchanged", "v", "run2", LATER, NOW)
    ]


def test_other_bytes_with_the_same_rows_are_written_too(warehouse, tmp_path):
    state = warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left")).state
    warehouse.touch(replace(state, outcome="unchanged", run_id="run2"))
    assert completion(warehouse, "outcome, run_id, rows") == [("unchanged", "run2", 2)]


def test_a_commit_that_breaks_off_leaves_rows_and_completion_as_they_were(warehouse, tmp_path):
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left"))
    before = completion(warehouse), held(warehouse, "shared")

    def die(_):
        raise KeyboardInterrupt

    commit = commit_of(PAIR, [{"k": "a", "n": 9}], tmp_path, "left", run_id="run2", at=LATER)
    with pytest.raises(KeyboardInterrupt):
        warehouse.commit(replace(commit, progress=die))
    assert (completion(warehouse), held(warehouse, "shared")) == before


def test_what_is_retired_is_no_longer_complete(warehouse, tmp_path):
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left"))
    warehouse.retire("pair")
    assert completion(warehouse) == []


def test_a_warehouse_of_an_earlier_version_shows_everything_after_its_first_write(warehouse, tmp_path):
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left"))
    warehouse.commit(commit_of(spec_of("other", columns=COLUMNS), ROWS[:1], tmp_path))
    by_hand(warehouse, "DROP VIEW refresh.completion", "ALTER TABLE refresh.load_state DROP COLUMN rows")
    assert warehouse.states("pair")[0]["left"].rows == 0
    warehouse.commit(commit_of(PAIR, [{"k": "c", "n": 3}], tmp_path, "right"))
    assert completion(warehouse, "source, partition, rows") == [
        ("other", None, 1), ("pair", "left", 2), ("pair", "right", 1),
    ]  # fmt: skip


def test_the_view_says_what_it_is(warehouse, tmp_path):
    warehouse.commit(commit_of(PAIR, ROWS, tmp_path, "left"))
    asked = "SELECT comment FROM duckdb_views() WHERE view_name = 'completion'"
    if is_postgres(warehouse):
        asked = "SELECT obj_description('refresh.completion'::regclass)"
    [(comment,)] = rows_of(warehouse, asked)
    assert comment.startswith("One row for each source and partition")
