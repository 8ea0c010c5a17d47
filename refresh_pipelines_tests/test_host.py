"""The DuckDB of a process that its warehouse is attached to: whose file it is between calls, and what errors leave."""

from __future__ import annotations

import os

import duckdb
import pytest

from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines.warehouse.host import Attached
from refresh_pipelines_tests.workbench import commit_of, rows_of, spec_of

SPEC = spec_of()
A1, B1 = ({"k": k, "n": "1", "t": None} for k in "ab")


def put(path, rows, folder):
    return DuckDBWarehouse(path, 5).commit(commit_of(SPEC, rows, folder)).state.counts


@pytest.mark.parametrize("name", ["warehouse.duckdb", "memory.duckdb", "temp.db", "system.x", "a \"b' c.duckdb", "w"])
def test_a_warehouse_may_have_any_name_and_is_closed_between_calls(tmp_path, name):
    path = tmp_path / name
    assert put(path, [A1], tmp_path / "scratch").added == 1
    assert put(path, [A1, B1], tmp_path / "scratch").added == 1
    assert DuckDBWarehouse(path, 5).states("mini")[0][""].rows == 2
    with duckdb.connect(str(path), config={"threads": 1}) as person:  # another configuration: it is open nowhere here
        person.execute("DELETE FROM raw.mini WHERE k = 'a'")
    assert put(path, [A1], tmp_path / "scratch").added == 1


def test_two_warehouses_of_one_process_are_kept_apart(tmp_path):
    one, two = tmp_path / "one" / "w.duckdb", tmp_path / "two" / "w.duckdb"
    for path, rows in ((one, [A1]), (two, [A1, B1]), (one, [A1])):
        put(path, rows, tmp_path / "scratch")
    assert [rows_of(DuckDBWarehouse(path, 5), "SELECT count(*) FROM raw.mini") for path in (one, two)] == [
        [(1,)], [(2,)],
    ]  # fmt: skip
    with Attached(one, read_only=True) as first, Attached(two, read_only=True) as second:
        assert [c.execute("SELECT count(*) FROM raw.mini").fetchall() for c in (first, second)] == [[(1,)], [(2,)]]


def test_a_file_that_is_put_in_the_place_of_another_is_the_one_that_is_read(tmp_path):
    path, other = tmp_path / "w.duckdb", tmp_path / "other.duckdb"
    put(path, [A1], tmp_path / "scratch")
    put(other, [A1, B1], tmp_path / "scratch")
    assert DuckDBWarehouse(path, 5).states("mini")[0][""].rows == 1
    other.replace(path)
    assert DuckDBWarehouse(path, 5).states("mini")[0][""].rows == 2


def test_after_an_error_the_file_is_free_and_the_next_call_works(tmp_path):
    path = tmp_path / "w.duckdb"
    put(path, [A1], tmp_path / "scratch")
    with pytest.raises(KeyboardInterrupt), Attached(path, read_only=False) as connection:
        connection.begin()
        connection.execute("DELETE FROM raw.mini")
        raise KeyboardInterrupt
    duckdb.connect(str(path), config={"threads": 1}).close()
    assert put(path, [A1], tmp_path / "scratch").unchanged == 1


def test_a_forked_child_opens_one_of_its_own(tmp_path):
    path = tmp_path / "w.duckdb"
    put(path, [A1], tmp_path / "scratch")
    child = os.fork()
    if not child:
        # Whatever happens, the child must not go on with the tests.
        code = 1
        try:
            code = 0 if put(path, [A1, B1], tmp_path / "child").added == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert put(path, [A1, B1], tmp_path / "scratch").unchanged == 2
