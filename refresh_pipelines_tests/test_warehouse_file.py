"""What makes the file of the embedded warehouse unusable, and what a question may do to it."""

from __future__ import annotations

import duckdb
import pytest

from refresh_pipelines.errors import InternalError
from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines_tests.workbench import commit_of, spec_of

SPEC = spec_of()
A1 = {"k": "a", "n": "1", "t": None}


@pytest.fixture
def warehouse(tmp_path):
    return DuckDBWarehouse(tmp_path / "not yet" / "there" / "warehouse.duckdb", 5)


@pytest.fixture
def put(warehouse, tmp_path):
    def put(rows, spec=SPEC):
        return warehouse.commit(commit_of(spec, rows, tmp_path / "scratch"))

    return put


@pytest.mark.parametrize("kind", ["folder", "text", "empty"])
def test_a_file_that_is_no_database_is_told_with_what_to_do(warehouse, put, kind):
    if kind == "folder":
        warehouse.path.mkdir(parents=True)
    else:
        warehouse.path.parent.mkdir(parents=True)
        warehouse.path.write_text("hello" if kind == "text" else "")
    for attempt in (lambda: warehouse.states("mini"), lambda: put([A1])):
        with pytest.raises(InternalError) as caught:
            attempt()
        assert str(caught.value).startswith(f"the warehouse {warehouse.path} cannot be opened; expected a DuckDB")
        assert "Set REFRESH_WAREHOUSE to another file" in str(caught.value)


def test_a_file_named_like_a_schema_is_refused_before_it_is_made(tmp_path):
    # DuckDB would find `raw.mini` ambiguous between the schema and the database.
    for name in ("raw.duckdb", "Refresh.db"):
        with pytest.raises(InternalError, match=f"cannot be named {name}"):
            DuckDBWarehouse(tmp_path / name, 1).commit(commit_of(SPEC, [A1], tmp_path))
    assert not list(tmp_path.glob("*.duckdb"))


def test_a_warehouse_below_a_file_is_told_as_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InternalError, match=r"cannot be made.*Check REFRESH_DATA_DIR and REFRESH_WAREHOUSE"):
        DuckDBWarehouse(tmp_path / "file" / "warehouse.duckdb", 1).commit(commit_of(SPEC, [A1], tmp_path))


def test_half_a_file_of_a_killed_first_refresh_is_replaced(warehouse, put):
    warehouse.path.parent.mkdir(parents=True)
    warehouse.path.with_name("warehouse.duckdb.new").write_bytes(b"\0" * 100)
    assert put([A1]).state.counts.added == 1
    assert sorted(path.name for path in warehouse.path.parent.iterdir()) == [
        "warehouse.duckdb",
        "warehouse.duckdb.lock",
    ]


def test_a_question_before_the_first_refresh_says_so(warehouse):
    assert warehouse.states("mini") == ({}, 0.0)
    with pytest.raises(FileNotFoundError, match="refresh a source first"):
        warehouse.query("SELECT 1")
    assert not warehouse.path.parent.exists()


def test_a_question_cannot_write(warehouse, put):
    put([A1])
    with pytest.raises(duckdb.InvalidInputException):
        warehouse.query("DELETE FROM raw.mini")
