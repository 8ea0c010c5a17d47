"""An Arrow file as a relation of DuckDB: whole in every scan."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from refresh_pipelines.arrowfile import ArrowFile

ROWS = pa.table({"k": pa.array(["a", "b", "c"]), "n": pa.array([1, None, 3], pa.int32())})


@pytest.fixture
def path(tmp_path):
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, ROWS.schema) as writer:
        writer.write_table(ROWS, max_chunksize=2)
    return tmp_path / "rows.arrow"


def test_each_scan_sees_all_rows_also_two_in_one_statement(path):
    with duckdb.connect() as connection:
        connection.register("staged", ArrowFile(path, ROWS.schema))
        for _ in range(2):
            query = "SELECT s.k, t.n FROM staged s JOIN staged t USING (k) WHERE s.k >= 'b' ORDER BY 1"
            assert connection.execute(query).fetchall() == [("b", None), ("c", 3)]


def test_a_scan_that_is_not_read_to_its_end_leaves_the_next_one_whole(path):
    with duckdb.connect() as connection:
        connection.register("staged", ArrowFile(path, ROWS.schema))
        assert connection.execute("SELECT 1 FROM staged LIMIT 1").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*), sum(n) FROM staged").fetchall() == [(3, 4)]


def test_columns_that_the_file_has_not_are_null(path):
    schema = pa.schema([("n", pa.int32()), ("later", pa.string()), ("k", pa.string())])
    with duckdb.connect() as connection:
        connection.register("staged", ArrowFile(path, schema))
        assert connection.execute("SELECT * FROM staged").fetchall() == [
            (1, None, "a"),
            (None, None, "b"),
            (3, None, "c"),
        ]
