"""Many files as one set of rows: each judged by the source's own rule, the last one speaks, and none costs memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drop.stage import stage_files
from refresh_pipelines.measure import calculator
from refresh_pipelines.parse import Notes
from refresh_pipelines.stage import Part
from refresh_pipelines.window import Window
from refresh_pipelines_tests.dropping import DAY, Dropping, csv, drop_spec

SPEC = drop_spec()


@pytest.fixture
def bench(tmp_path):
    return Dropping(tmp_path)


def stage(folder, files, spec=SPEC):
    parts = []
    for number, rows in enumerate(files):
        path = folder / f"file-{number}"
        path.write_text(csv(*rows))
        parts.append(Part(path, {"file": str(number)}))
    answer = Delivery(tuple(parts), "drops", "", 0, None, None)
    staged, answer = stage_files(spec, answer, Window(DAY), folder / "rows.arrow", Notes())
    assert not list(folder.glob("file-*")) and {path.name for path in folder.glob("rows.*")} <= {"rows.arrow"}
    return staged, {key: str(error) for key, error in answer.missing}


ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 1), st.just("t")), min_size=1, max_size=5)


@settings(max_examples=30)
@given(files=st.lists(ROWS, min_size=1, max_size=5))
def test_each_file_is_judged_alone_and_of_the_good_ones_the_last_speaks(files):
    """A file that says two things of one key is refused, one that says the same twice is not."""
    good = {n: rows for n, rows in enumerate(files) if len({row[0] for row in rows}) == len(set(rows))}
    with tempfile.TemporaryDirectory() as folder:
        staged, bad = stage(Path(folder), files)
        found = sorted((row["k"], row["n"], row["t"]) for row in staged.table().to_pylist())
    last = {row[0]: row for rows in good.values() for row in rows}
    assert set(bad) == {str(n) for n in range(len(files)) if n not in good}
    assert all(text.startswith("file=") and "several rows" in text for text in bad.values())
    assert found == sorted(last.values())
    assert (staged.rows, staged.fetched) == (len(last), sum(map(len, good.values())))
    assert staged.duplicates == staged.fetched - staged.rows


def test_under_refuse_a_repeated_row_is_its_files_fault_alone(tmp_path):
    spec = drop_spec(load={"duplicates": "refuse"})
    staged, bad = stage(tmp_path, [[["a", 1, "t"], ["a", 1, "t"]], [["b", 1, "t"]], [["b", 1, "t"]]], spec)
    assert (list(bad), staged.rows, staged.duplicates) == (["0"], 1, 1)


def test_values_that_must_be_present_must_be_in_each_file(tmp_path):
    spec = drop_spec(expect={"min_rows": 1, "present": {"k": ["a"]}})
    staged, bad = stage(tmp_path, [[["a", 1, "t"]], [["b", 1, "t"]]], spec)
    assert (list(bad), staged.rows) == (["1"], 1)
    assert bad["1"].startswith("file=1: the payload is not whole")


def test_of_a_file_that_turns_bad_late_no_row_is_staged(tmp_path):
    rows = [[f"k{n}", n, "t" * 200] for n in range(30_000)]
    staged, bad = stage(tmp_path, [[*rows, ["last", "one", "t"]], [["a", 1, "t"]]])
    assert (list(bad), staged.rows, staged.fetched) == (["0"], 1, 1)


def test_repeated_rows_are_counted_where_they_are(bench):
    bench.put("a.csv", csv(["x", 1, "t"], ["x", 1, "t"], ["y", 1, "t"]), age=300)
    bench.put("b.csv", csv(["y", 2, "t"]), age=200)
    outcome = bench.refresh(SPEC, DAY)
    assert (outcome.counts.fetched, outcome.counts.added, outcome.counts.duplicates) == (4, 2, 2)
    assert [row[2:4] for row in bench.ledger()] == [(3, 1), (1, 1)]
    assert bench.table() == [("x", 1, "t", DAY), ("y", 2, "t", DAY)]


def test_what_is_calculated_spills_in_place_of_growing(tmp_path):
    with calculator(tmp_path / "spill") as connection:
        connection.execute("CREATE TEMP TABLE big AS SELECT 'key-' || i AS k FROM range(3_000_000) r(i)")
        query = "SELECT count(*) FROM (SELECT 1 FROM big GROUP BY k)"
        assert connection.execute(query).fetchall() == [(3_000_000,)]
        used = "SELECT sum(memory_usage_bytes) FROM duckdb_memory()"
        assert connection.execute(used).fetchall()[0][0] < 128_000_000
        connection.execute("DROP TABLE big")
