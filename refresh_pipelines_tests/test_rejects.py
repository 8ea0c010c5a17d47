"""Rows that break the contract: how many may, where they go with why, and what they never do to the table."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.divide import divide
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse import Notes
from refresh_pipelines.rejects import MOST_REFUSED, each_reject
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import Part, require_rows, stage
from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.stores import KINDS, by_hand, opened
from refresh_pipelines_tests.workbench import HOST, NOW, Bench, commit_of, csv_spec, rows_of, spec_of, staged

COLUMNS = {
    "k": {"type": "text", "nullable": False},
    "n": {"type": "int", "min": 0, "max": 99},
    "t": {"type": "text", "enum": ["x", "y"]},
}
GOOD = {"k": "a", "n": "1", "t": "x"}
LOOSE = {"reject_share": 0.5}


def loose(source="mini", load=LOOSE, **changes):
    return spec_of(source, **{"columns": COLUMNS, "load": load, **changes})


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "warehouse.duckdb", attached=True)


@pytest.fixture
def put(warehouse, tmp_path):
    def put(rows, partition=None, spec=None, **state):
        return warehouse.commit(commit_of(spec or loose(), rows, tmp_path / "scratch", partition, **state)).state.counts

    return put


def aside(warehouse, what="reason", table="mini"):
    return rows_of(warehouse, f"SELECT {what} FROM quarantine.{table} ORDER BY _partition, row_number")


def test_a_bad_row_goes_to_quarantine_with_everything_that_is_wrong_with_it(warehouse, put):
    counts = put([GOOD, {"k": "b", "n": "100", "t": "z"}], raw_sha256="abc", run_id="run-7")
    assert (counts.fetched, counts.added, counts.rejected) == (2, 1, 1) and counts.balanced()
    what = "reason, column_names, row_number, _source, _partition, _run_id, rejected_at, payload_sha256"
    assert aside(warehouse, what) == [
        ("n='100' is no int, from 0 to 99; t='z' is no text, one of x y", "n, t", 2, "mini", None, "run-7", NOW, "abc")
    ]  # fmt: skip
    assert json.loads(aside(warehouse, "CAST(raw AS VARCHAR)")[0][0]) == {"k": "b", "n": "100", "t": "z"}


def test_the_next_payload_of_a_partition_takes_the_place_of_its_rejected_rows_and_of_no_others(warehouse, put):
    for partition in ("p", "q"):
        put([{**GOOD, "k": partition}, {"k": f"{partition}2", "n": "x", "t": None}], partition)
    put([{"k": "p", "n": "2", "t": "x"}, {"k": "p3", "n": "y", "t": None}], "p")
    assert aside(warehouse, "_partition, reason") == [
        ("p", "n='y' is no int, from 0 to 99"), ("q", "n='x' is no int, from 0 to 99"),
    ]  # fmt: skip
    put([{**GOOD, "k": "p"}], "p")
    assert aside(warehouse, "_partition") == [("q",)]


def test_a_rejected_row_is_not_taken_for_gone(warehouse, put):
    spec = loose(load={**LOOSE, "mode": "replace_partition"})
    put([GOOD, {**GOOD, "k": "b"}, {**GOOD, "k": "c"}], spec=spec)
    counts = put([GOOD, {"k": "b", "n": "x", "t": "x"}], spec=spec)
    assert (counts.deleted, counts.rejected, counts.unchanged) == (1, 1, 1)
    assert rows_of(warehouse, "SELECT k, n FROM raw.mini ORDER BY k") == [("a", 1), ("b", 1)]


def test_nothing_is_called_gone_beside_a_row_whose_key_cannot_be_read(warehouse, tmp_path):
    spec = loose(load={**LOOSE, "mode": "replace_partition"})
    warehouse.commit(commit_of(spec, [GOOD, {**GOOD, "k": "b"}], tmp_path / "scratch"))
    merged = warehouse.commit(commit_of(spec, [GOOD, {"k": "", "n": "1", "t": "x"}], tmp_path / "scratch"))
    assert merged.state.counts.deleted == 0 and len(rows_of(warehouse, "SELECT k FROM raw.mini")) == 2
    assert merged.notes == (
        "1 rows of the table are not in the payload and were not deleted: "
        "1 rejected rows have no merge key that can be read",
    )
    assert warehouse.commit(commit_of(spec, [GOOD], tmp_path / "scratch")).state.counts.deleted == 1


def test_tables_of_rejected_rows_go_where_raw_tables_go(warehouse, put):
    spec = loose(table="shared")
    put([GOOD, {**GOOD, "n": "x"}], spec=spec)
    put([{**GOOD, "k": "o"}, {"k": "o2", "n": "x", "t": None}], spec=loose("other", table="shared"))
    assert warehouse.adopt(loose("newer", table="shared", aliases=["mini"]))
    assert sorted(aside(warehouse, "_source", "shared")) == [("newer",), ("other",)]
    assert warehouse.remains("newer").rejected == 1
    warehouse.retire("newer")
    assert aside(warehouse, "_source", "shared") == [("other",)]
    warehouse.retire("other")
    assert by_hand(warehouse, "SELECT 1 FROM information_schema.tables WHERE table_schema = 'quarantine'") == []
    put([GOOD, {**GOOD, "n": "x"}])
    assert warehouse.adopt(loose("renamed", aliases=["mini"]))
    assert aside(warehouse, "_source", "renamed") == [("renamed",)]


@pytest.mark.parametrize(
    ("share", "bad", "refused"), [(0, 1, True), (0.1, 1, False), (0.1, 2, True), (0.29, 29, False), (1, 10, False)]
)
def test_the_share_that_may_be_rejected_is_exact(tmp_path, share, bad, refused):
    rows = [{"k": str(number), "n": "1", "t": None} for number in range(100 if bad > 10 else 10)]
    for row in rows[:bad]:
        row["n"] = "x"
    if not refused:
        assert staged(loose(load={"reject_share": share}), rows, tmp_path).rejected == bad
        return
    with pytest.raises(ContractViolation, match=f"{bad} of {len(rows)} rows do not fit the declared columns") as caught:
        staged(loose(load={"reject_share": share}), rows, tmp_path)
    assert (caught.value.fetched, caught.value.rejected) == (len(rows), bad)
    assert ("in all but 0.1 of the rows (load.reject_share)" in caught.value.expected) == bool(share)


def test_of_a_refused_payload_the_first_bad_rows_can_be_looked_at(tmp_path):
    rows = [{"k": str(number), "n": "x", "t": None} for number in range(MOST_REFUSED + 5)]
    with pytest.raises(ContractViolation) as caught:
        staged(loose(load={}), rows, tmp_path)
    assert caught.value.rejected == len(rows)
    assert len(list(each_reject(tmp_path / "rows.rejects"))) == MOST_REFUSED


def test_rejected_rows_are_part_of_what_a_payload_is(tmp_path):
    clean = staged(loose(), [GOOD], tmp_path)
    one = staged(loose(), [GOOD, {"k": "b", "n": "x", "t": None}], tmp_path)
    other = staged(loose(), [{"k": "b", "n": "y", "t": None}, GOOD], tmp_path)
    again = staged(loose(), [{"k": "b", "n": "x", "t": None}, GOOD], tmp_path)
    assert len({clean.content_hash, one.content_hash, other.content_hash}) == 3
    assert one.content_hash == again.content_hash


def test_too_few_good_rows_are_too_few(tmp_path):
    spec = loose(load={"reject_share": 1}, expect={"min_rows": 2})
    with pytest.raises(ContractViolation, match="the payload holds too few rows"):
        require_rows(spec, staged(spec, [GOOD, {"k": "b", "n": "x", "t": None}], tmp_path))


def test_a_row_says_which_payload_it_was_in_and_keeps_what_no_warehouse_can_store(tmp_path):
    spec = loose()
    parts = []
    for series in ("a", "b"):
        path = tmp_path / series
        path.write_text(json.dumps([{**GOOD, "k": series}, {"k": f"{series}2", "n": "x\0y", "t": None}]))
        parts.append(Part(path, {"series": series}))
    ready = stage(spec, parts, Window(None), tmp_path / "rows.arrow", Notes())
    found = list(each_reject(ready.rejects))
    assert [(one.part, one.row) for one in found] == [("series=a", 2), ("series=b", 2)]
    assert json.loads(found[0].raw) == {"k": "a2", "n": "x\ufffdy", "t": None}


DAYS = {"day": {"type": "date", "nullable": False}, "n": {"type": "int"}}


def days_spec():
    return spec_of(
        columns=DAYS, merge_key=["day"], load={"reject_share": 0.5},
        request={"url": "https://example.org/x", "span": 9},
        partitions={"time": "day", "start": "2025-01-01", "column": "day"},
    )  # fmt: skip


def divided(tmp_path, *rows):
    spec, payload = days_spec(), tmp_path / "payload.json"
    payload.write_text(json.dumps([{"day": day, "n": n} for day, n in rows]))
    windows = [window_of(spec, key) for key in ("2025-01-01", "2025-01-02")]
    whole = Window(None, windows[0].start, windows[1].end)
    return divide(spec, [Part(payload)], whole, windows, tmp_path, Notes())


def test_rejected_rows_of_a_range_belong_to_the_partition_their_column_names(tmp_path):
    first, second = divided(tmp_path, ("2025-01-01", "1"), ("2025-01-02", "x"), ("2025-01-02", "2"))
    assert (first.fetched, first.rejected, second.fetched, second.rejected, second.rows) == (1, 0, 2, 1, 1)
    assert [one.reason for one in each_reject(second.rejects)] == ["n='x' is no int"]


def test_too_many_rejected_rows_refuse_their_partition_alone(tmp_path):
    first, second = divided(tmp_path, ("2025-01-01", "1"), ("2025-01-01", "1"), ("2025-01-02", "x"))
    require_rows(days_spec(), first)
    with pytest.raises(ContractViolation, match="1 of 1 rows do not fit"):
        require_rows(days_spec(), second)


def test_a_rejected_row_of_no_partition_refuses_the_range(tmp_path):
    with pytest.raises(ContractViolation, match="1 rows belong to no partition"):
        divided(tmp_path, ("2025-01-01", "1"), ("2025-01-02", "2"), ("no day", "1"))


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def test_a_refresh_tells_of_rejected_rows_and_counts_them_when_nothing_has_changed(tmp_path, sandbox):
    bench = Bench(tmp_path, sandbox.base)
    spec = csv_spec(columns=COLUMNS, load=LOOSE)
    sandbox.override(HOST, b"k,n,t\na,1,x\nb,many,x\n")
    first = bench.refresh(spec)
    assert (first.outcome, first.counts.rejected) == ("loaded", 1)
    assert first.notes == [
        "1 of 2 rows were rejected into quarantine.mini: row 2: n='many' is no int, from 0 to 99"
    ]  # fmt: skip
    again = bench.refresh(spec, force=True)
    assert (again.outcome, again.counts.rejected, again.counts.unchanged) == ("unchanged", 1, 1)
    sandbox.override(HOST, b"k,n,t\na,1,x\n\nb,many,x\n")
    other_bytes = bench.refresh(spec)
    assert (other_bytes.outcome, other_bytes.counts.rejected) == ("unchanged", 1) and other_bytes.counts.balanced()
    assert len(rows_of(bench.warehouse, "SELECT * FROM quarantine.mini")) == 1


# Random rows with random faults, against the rules in plain Python.

value = {
    "k": st.sampled_from(["a", "b", "c", "", None]),
    "n": st.sampled_from(["0", "99", "100", "-1", "x", "1.5", "", None]),
    "t": st.sampled_from(["x", "y", "z", " x ", "", None]),
}
payloads = st.lists(st.lists(st.fixed_dictionaries(value), max_size=6), min_size=1, max_size=3)


def faults(row):
    """The columns whose demands a row breaks."""
    k, n, t = (None if row[name] is None or not row[name].strip() else row[name].strip() for name in ("k", "n", "t"))
    bad = [] if k else ["k"]
    bad += ["n"] if n is not None and not (n.lstrip("-").isdigit() and 0 <= int(n) <= 99) else []
    return bad + (["t"] if t is not None and t not in ("x", "y") else [])


class Model:
    """The table under `replace_partition` as a dictionary, and the rejected rows of the last payload."""

    def __init__(self):
        self.rows, self.aside = {}, []

    def apply(self, payload):
        """Return the counts, or None for a payload that must be refused."""
        good = [row for row in payload if not faults(row)]
        new = {row["k"]: self._typed(row) for row in good}
        if any(self._typed(row) != new[row["k"]] for row in good):
            return None
        bad = [row for row in payload if faults(row)]
        keys = {row["k"] for row in bad}
        gone = [] if keys & {"", None} else [key for key in self.rows if key not in new and key not in keys]
        self.rows = {**{key: row for key, row in self.rows.items() if key not in gone}, **new}
        self.aside = sorted(", ".join(faults(row)) for row in bad)
        return len(payload), len(bad), len(good) - len(new), len(gone)

    @staticmethod
    def _typed(row):
        return (int(row["n"]) if row["n"] else None, (row["t"] or "").strip() or None)


class InMemory(DuckDBWarehouse):
    """A warehouse without a file, to be had at once."""

    def __init__(self):
        super().__init__(Path(__file__), 5)
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute("SET TimeZone = 'UTC'")

    @contextmanager
    def _open(self, *, read_only=False, own=True):
        yield self.connection, 0.0


@settings(max_examples=12)
@given(payloads=payloads)
def test_accepted_and_rejected_rows_are_those_of_the_model_and_loading_again_changes_nothing(payloads):
    spec = loose(load={"reject_share": 1, "mode": "replace_partition"})
    model = Model()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warehouse = InMemory()
        for number, payload in enumerate(payload for payload in payloads for _ in range(2)):
            expected = model.apply(payload)
            try:
                commit = commit_of(spec, payload, folder / "scratch", at=NOW + timedelta(hours=number))
            except ContractViolation:
                assert expected is None
                continue
            counts = warehouse.commit(commit).state.counts
            assert counts.balanced()
            assert (counts.fetched, counts.rejected, counts.duplicates, counts.deleted) == expected
            if number % 2:
                assert (counts.added, counts.updated) == (0, 0)
            rows = rows_of(warehouse, "SELECT k, n, t FROM raw.mini")
            assert {row[0]: row[1:] for row in rows} == model.rows and len(rows) == len(model.rows)
            if model.aside:
                assert sorted(names for (names,) in aside(warehouse, "column_names")) == model.aside
