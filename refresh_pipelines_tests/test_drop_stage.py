"""Many files as one set of rows: each judged by the source's own rule, the last one speaks, and none costs memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.drop.stage import stage_files
from refresh_pipelines.measure import calculator
from refresh_pipelines.parse import Notes
from refresh_pipelines.rejects import each_reject
from refresh_pipelines.stage import Part
from refresh_pipelines.window import Window
from refresh_pipelines_tests.dropping import DAY, Dropping, csv, drop_spec
from refresh_pipelines_tests.workbench import NOW

SPEC = drop_spec()


@pytest.fixture
def bench(tmp_path):
    return Dropping(tmp_path)


def entry(key):
    return FileEntry("mini", key, "1", 3, "ab", NOW, None, NOW, "loaded", 0, 0, 0, None, DAY, "run", "spec")


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


def test_each_file_may_have_its_share_of_bad_rows_and_they_are_told_apart(tmp_path):
    spec = drop_spec(load={"reject_share": 0.5})
    files = [[["a", 1, "t"], ["b", "x", "t"]], [["c", "x", "t"]], [["d", 2, "t"]]]
    parts = []
    for number, rows in enumerate(files):
        (tmp_path / f"file-{number}").write_text(csv(*rows))
        parts.append(Part(tmp_path / f"file-{number}", {"file": str(number)}))
    entries = tuple(entry(str(number)) for number in range(3))
    answer = Delivery(tuple(parts), "drops", "", 0, None, None, files=entries)
    staged, answer = stage_files(spec, answer, Window(DAY), tmp_path / "rows.arrow", Notes())
    assert (staged.fetched, staged.rows, staged.rejected, staged.duplicates) == (3, 2, 1, 0)
    assert [(one.part, one.reason) for one in each_reject(staged.rejects)] == [("file=0", "n='x' is no int")]
    assert [(one.status, one.rows_in, one.rows_loaded, one.rows_rejected) for one in answer.files] == [
        ("loaded", 2, 1, 1), ("refused", 1, 0, 1), ("loaded", 1, 1, 0),
    ]  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"rows.arrow", "rows.rejects"}


def test_undeclared_fields_of_good_files_become_columns(tmp_path):
    texts = ["k,n,t,more\na,1,t,5\n", csv(["b", 2, "t"]), "k,n,t,bad\nc,x,t,6\n"]
    parts = []
    for number, text in enumerate(texts):
        (tmp_path / f"file-{number}").write_text(text)
        parts.append(Part(tmp_path / f"file-{number}", {"file": str(number)}))
    answer = Delivery(tuple(parts), "drops", "", 0, None, None)
    spec = drop_spec(load={"drift": "evolve"})
    staged, _ = stage_files(spec, answer, Window(DAY), tmp_path / "rows.arrow", Notes())
    assert staged.evolved == {"more": "more"}
    assert [(row["k"], row["more"]) for row in staged.table().to_pylist()] == [("a", "5"), ("b", None)]


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
