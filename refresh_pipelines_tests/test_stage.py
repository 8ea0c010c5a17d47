"""What staging promises: rows unique by merge key, and a hash of the content and of nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.contract import staged_schema
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines_tests.workbench import spec_of, staged

ROOT = Path(__file__).resolve().parent.parent

COLUMNS = {
    "k": {"type": "text", "nullable": False, "strip": False},
    "n": {"type": "int"},
    "t": {"type": "text", "strip": False},
    "noise": {"type": "text"},
}
SPEC = spec_of(columns=COLUMNS, load={"volatile": ["noise"]})
values = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-2, 2).map(str),
        "t": st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=3),
        "noise": st.none() | st.sampled_from(["x", "y"]),
    }
)
rows = st.dictionaries(st.text("abcdé", min_size=1, max_size=3), values, max_size=6).map(
    lambda by_key: [{"k": key, **rest} for key, rest in by_key.items()]
)


def content_hash(payload, spec=SPEC):
    with tempfile.TemporaryDirectory() as folder:
        return staged(spec, payload, Path(folder)).content_hash


def content(payload):
    """What the hash may know of a payload: empty text is no value, volatile columns do not count."""
    return {(row["k"], row["n"], row["t"] or None) for row in payload}


@settings(max_examples=12)
@given(payload=rows, data=st.data())
def test_the_hash_knows_neither_order_nor_volatile_columns(payload, data):
    shuffled = data.draw(st.permutations(payload))
    other = [{**row, "noise": "z"} for row in shuffled]
    assert content_hash(other) == content_hash(payload)


@settings(max_examples=25)
@given(one=rows, two=rows)
def test_two_payloads_have_one_hash_exactly_if_they_have_one_content(one, two):
    assert (content_hash(one) == content_hash(two)) == (content(one) == content(two))


@pytest.mark.parametrize(
    ("column", "value"),
    [("k", "b"), ("n", "0"), ("n", "-1"), ("n", None), ("t", "X"), ("t", "x "), ("t", None), ("t", "1")],
)
def test_any_other_value_gives_another_hash(column, value):
    row = {"k": "a", "n": "1", "t": "x", "noise": None}
    assert content_hash([row]) != content_hash([{**row, column: value}])


def test_a_value_that_moves_to_another_row_or_column_gives_another_hash():
    apart = [{"k": "a", "n": "1", "t": None, "noise": None}, {"k": "b", "n": None, "t": None, "noise": None}]
    moved = [{**apart[0], "n": None}, {**apart[1], "n": "1"}]
    assert len({content_hash(apart), content_hash(moved)}) == 2
    columns = {name: {"type": "text"} for name in ("k", "n", "t")}
    left, right = [{"k": "a", "n": "1", "t": None}], [{"k": "a", "n": None, "t": "1"}]
    assert content_hash(left, spec_of(columns=columns)) != content_hash(right, spec_of(columns=columns))


def test_a_renamed_column_and_a_changed_type_give_another_hash():
    row = [{"k": "a", "n": "1", "t": "1"}]
    columns = {"k": {"type": "text"}, "n": {"type": "int"}, "t": {"type": "text"}}
    renamed = {"k": {"type": "text"}, "number": {"type": "int", "from": "n"}, "t": {"type": "text"}}
    wider = {**columns, "n": {"type": "bigint"}}
    assert len({content_hash(row, spec_of(columns=c)) for c in (columns, renamed, wider)}) == 3


def test_negative_zero_is_zero_as_the_comparison_of_rows_has_it():
    spec = spec_of(columns={"k": {"type": "double"}, "v": {"type": "double"}})
    zeros = [[{"k": sign, "v": other}] for sign in ("0.0", "-0.0") for other in ("0", "-0.0")]
    assert len({content_hash(payload, spec) for payload in zeros}) == 1


def test_identical_rows_are_collapsed_and_counted(tmp_path):
    payload = [{"k": "a", "n": "1"}, {"k": "b", "n": None}, {"k": "a", "n": "1"}, {"k": "a", "n": "01"}]
    ready = staged(spec_of(), [{"t": None, **row} for row in payload], tmp_path)
    assert (ready.fetched, ready.rows, ready.duplicates) == (4, 2, 2)
    assert sorted(ready.table().column("k").to_pylist()) == ["a", "b"]
    once = [{"k": "b", "n": None, "t": None}, {"k": "a", "n": "1", "t": None}]
    assert content_hash(once, spec_of()) == ready.content_hash


def test_rows_of_one_key_that_differ_are_refused_naming_keys_and_times(tmp_path):
    payload = [{"k": key, "n": str(n), "t": None} for key in "edcba" for n in range(2)] + [{"k": "a", "n": "2"}]
    with pytest.raises(ContractViolation) as caught:
        staged(spec_of(), [{"t": None, **row} for row in payload], tmp_path)
    assert str(caught.value) == (
        "5 merge keys stand for several rows; expected one row for each (k), or rows identical in every column; "
        "got (a) 3 times; (b) 2 times; (c) 2 times. "
        "Nothing was loaded. If the upstream has added a dimension, add its column to merge_key."
    )


def test_rows_that_differ_in_a_volatile_column_alone_are_refused_too(tmp_path):
    payload = [{"k": "a", "n": "1", "t": "x", "noise": noise} for noise in ("1", "2")]
    with pytest.raises(ContractViolation, match="a merge key stands for several rows"):
        staged(SPEC, payload, tmp_path)


def test_refuse_refuses_identical_rows(tmp_path):
    spec = spec_of(load={"duplicates": "refuse"})
    with pytest.raises(ContractViolation) as caught:
        staged(spec, [{"k": "a", "n": "1", "t": "x"}] * 2, tmp_path)
    assert "identical" not in str(caught.value)
    assert caught.value.came == "(a) 2 times"


def test_no_rows_are_staged_as_a_file_of_no_rows(tmp_path):
    ready = staged(spec_of(), [], tmp_path)
    assert (ready.fetched, ready.rows, ready.duplicates, ready.table().num_rows) == (0, 0, 0, 0)
    assert ready.table().schema.field("n").type == pa.int32()
    assert ready.content_hash != content_hash([{"k": "a", "n": None, "t": None}], spec_of())


def test_staging_leaves_one_file(tmp_path):
    staged(spec_of(), [{"k": "a", "n": "1", "t": "x"}] * 3, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["payload.json", "rows.arrow"]


# duplicates: last, against a plain model.

LAST = spec_of(columns=COLUMNS, load={"duplicates": "last"})
repeated = st.lists(st.tuples(st.sampled_from("abc"), values), max_size=12).map(
    lambda pairs: [{"k": key, **rest} for key, rest in pairs]
)


def last_values(payload):
    """Each column's last value that is not missing, by key; empty text is no value."""
    out = {}
    for row in payload:
        known = out.setdefault(row["k"], dict.fromkeys(COLUMNS))
        known.update({name: value for name, value in row.items() if value not in (None, "")})
    return out


@settings(max_examples=30)
@given(payload=repeated)
def test_of_rows_with_one_key_each_columns_last_value_is_taken(payload):
    with tempfile.TemporaryDirectory() as folder:
        ready = staged(LAST, payload, Path(folder))
        expected = last_values(payload)
        assert (ready.fetched, ready.rows) == (len(payload), len(expected))
        assert ready.fetched == ready.rows + ready.duplicates
        found = ready.table().to_pylist()
    assert [row["k"] for row in found] == list(expected)
    texts = {row["k"]: {**row, "n": None if row["n"] is None else str(row["n"])} for row in found}
    assert texts == expected
    assert ready.content_hash == content_hash(list(expected.values()), LAST)


def test_the_last_of_many_rows_is_the_last_of_the_payload_and_not_of_a_batch(tmp_path):
    payload = [{"k": "a", "n": str(n), "t": None} for n in range(120_000)]
    ready = staged(spec_of(load={"duplicates": "last"}), payload, tmp_path)
    assert ready.table().to_pylist() == [{"k": "a", "n": 119_999, "t": None}]
    assert (ready.fetched, ready.duplicates) == (120_000, 119_999)


@pytest.mark.parametrize(
    ("kind", "values", "last"),
    [
        ("double", ["1.5", "-0.0"], -0.0), ("bool", ["true", "false"], False), ("bigint", ["9", "7"], 7),
        ("decimal(6,2)", ["9.99", "1.10"], Decimal("1.10")), ("json", ['{"b": 1}', '{"a": 2}'], '{"a": 2}'),
        ("date", ["2026-01-02", "2026-01-01"], date(2026, 1, 1)),
        ("timestamptz", ["2026-01-02T00:00Z", "2026-01-01T02:00+02:00"], datetime(2026, 1, 1, tzinfo=timezone.utc)),
    ],
)  # fmt: skip
def test_the_last_value_is_taken_whatever_its_type_and_keeps_it(tmp_path, kind, values, last):
    spec = spec_of(columns={"k": {"type": "text"}, "v": {"type": kind}}, load={"duplicates": "last"})
    ready = staged(spec, [{"k": "a", "v": value} for value in [*values, None]], tmp_path)
    assert ready.table().to_pylist() == [{"k": "a", "v": last}]
    assert ready.table().schema == staged_schema(spec)


def test_a_key_of_several_columns_is_compared_whole(tmp_path):
    spec = spec_of(merge_key=["k", "n"], load={"duplicates": "last"})
    payload = [{"k": "a", "n": "1", "t": "x"}, {"k": "a", "n": "2", "t": "y"}, {"k": "a", "n": "1", "t": "z"}]
    ready = staged(spec, payload, tmp_path)
    assert sorted(tuple(row.values()) for row in ready.table().to_pylist()) == [("a", 1, "z"), ("a", 2, "y")]


def test_staging_that_collapses_leaves_one_file_too(tmp_path):
    staged(LAST, [{"k": "a", "n": "1", "t": "x", "noise": None}] * 3, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["payload.json", "rows.arrow"]


def test_a_forked_child_calculates_for_itself_and_ends(tmp_path):
    question = "SELECT sum(i) FROM range(100000) t(i)"
    with calculator(tmp_path / "parent.spill") as connection:
        assert connection.execute(question).fetchall() == [(4999950000,)]
    script = tmp_path / "forking.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\nfrom refresh_pipelines.measure import calculator\n"
        f"def ask():\n    with calculator(Path('x.spill')) as connection:\n"
        f"        return connection.execute({question!r}).fetchall()\n"
        "before = ask()\nchild = os.fork()\n"
        "if child == 0:\n    sys.exit(7 if ask() == before else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environ, timeout=60, capture_output=True)
    assert done.returncode == 7


KEYS = st.tuples(st.sampled_from(["a", "ab", "b", "é"]), st.integers(0, 2), st.booleans())


@given(st.lists(st.lists(KEYS, max_size=4), max_size=4), st.booleans())
def test_each_key_is_counted_once_however_the_rows_lie(batches, in_order):
    if in_order:
        every = sorted(key for batch in batches for key in batch)
        batches = [[every.pop(0) for _ in batch] for batch in batches]
    columns = {"k": {"type": "text"}, "n": {"type": "int"}, "f": {"type": "bool"}}
    spec = spec_of(columns=columns, merge_key=["k", "n", "f"])
    schema = staged_schema(spec)
    with tempfile.TemporaryDirectory() as folder, calculator(Path(folder) / "spill") as connection:
        path = Path(folder) / "rows.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                rows = [dict(zip(columns, key, strict=True)) for key in batch]
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
        unique = measure(connection, spec, spec.merge_key, path)
    keys = [key for batch in batches for key in batch]
    assert (unique.rows, unique.duplicates) == (len(set(keys)), len(keys) - len(set(keys)))
