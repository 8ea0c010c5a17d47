"""Load modes and history against a plain model, in either warehouse: tables, counts, versions, as-of at each instant.

The model is a dictionary of the table, and a copy of it after each commit.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines_tests.stores import KINDS, Addressed, by_hand, held, is_postgres, opened
from refresh_pipelines_tests.workbench import NOW, commit_of, spec_of

MODES = ("merge", "replace_partition", "snapshot", "append")
COLUMNS = {"k": {"type": "text"}, "n": {"type": "int"}, "noise": {"type": "int"}}
PARTITIONS = ("2026-01-01", "2026-01-02")
numbers = itertools.count()

row = st.fixed_dictionaries(
    {"k": st.sampled_from("abcd"), "n": st.sampled_from(["1", "2", None]), "noise": st.sampled_from(["1", "2"])}
)
payload = st.lists(row, max_size=4, unique_by=lambda row: row["k"])
# Hours between commits; at 0 two share an instant, and a clock may be put back.
step = st.tuples(st.sampled_from(PARTITIONS), payload, st.sampled_from([1, 1, 0, -5]), st.booleans())


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "warehouse.duckdb", attached=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def spec(mode, *, history=True, source=None, **changes):
    return spec_of(
        source or f"s{next(numbers)}", columns=COLUMNS, load={"mode": mode, "history": history, "volatile": ["noise"]},
        **changes,
    )  # fmt: skip


class Model:
    """key -> [n, noise, partition]; and the table after each commit, with its instant."""

    def __init__(self, mode):
        self.mode, self.rows, self.newest, self.past = mode, {}, "", []

    def apply(self, partition, payload, complete):
        """Return (added, updated, deleted), None for a payload that must be refused."""
        new = {raw["k"]: [raw["n"] and int(raw["n"]), int(raw["noise"])] for raw in payload}
        known = {key: row for key, row in self.rows.items() if key in new}
        if self.mode == "replace_partition" and any(row[2] != partition for row in known.values()):
            return None
        if self.mode == "snapshot" and partition < self.newest:
            return None
        self.newest = max(self.newest, partition)
        gone = [
            key for key, row in self.rows.items() if key not in new and self._leaves(row, partition, complete and new)
        ]
        for key in gone:
            del self.rows[key]
        updated = [key for key, row in known.items() if row[0] != new[key][0]] if self.mode != "append" else []
        added = [key for key in new if key not in known]
        for key in [*updated, *added]:
            self.rows[key] = [*new[key], partition]
        return len(added), len(updated), len(gone)

    def _leaves(self, row, partition, whole):
        return (self.mode == "replace_partition" and row[2] == partition) or (self.mode == "snapshot" and bool(whole))

    def table(self):
        return sorted((key, *row) for key, row in self.rows.items())


@pytest.mark.parametrize("mode", MODES)
def test_tables_counts_and_the_past_are_those_of_the_model(warehouse, scratch, mode):
    @settings(max_examples=3 if is_postgres(warehouse) else 8, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(steps=st.lists(step, min_size=1, max_size=5))
    def sequences(steps):
        declared = spec(mode)
        follow(warehouse, scratch, declared, Model(mode), steps)
        warehouse.retire(declared.source)

    sequences()


def follow(warehouse, scratch, declared, model, steps):
    now, latest = NOW, NOW - timedelta(days=9)
    for number, (partition, rows, hours, complete) in enumerate(steps):
        now += timedelta(hours=hours)
        expected = model.apply(partition, rows, complete)
        commit = commit_of(declared, rows, scratch, partition, run_id=f"run-{number}", at=now)
        if expected is None:
            with pytest.raises(ContractViolation):
                warehouse.commit(commit)
            continue
        state = warehouse.commit(replace(commit, complete=complete)).state
        counts = state.counts
        assert (counts.added, counts.updated, counts.deleted) == expected
        assert counts.balanced()
        latest = max(latest, now)
        assert state.committed_at == latest
        model.past = [(at, rows) for at, rows in model.past if at != latest] + [(latest, model.table())]
        assert present(warehouse, declared) == model.table()
    check_past(warehouse, declared, model)


def present(warehouse, declared):
    return sorted((*row[:3], row[4]) for row in held(warehouse, declared.raw_table))


def check_past(warehouse, declared, model):
    table, moment = declared.raw_table, timedelta(microseconds=1)
    if not model.past:
        return
    query = f"SELECT k, n, noise, _partition FROM raw.{table}"
    before: list = []
    for at, rows in model.past:
        assert sorted(warehouse.query_as_of(query, at - moment).rows) == before
        before = rows
    assert sorted(warehouse.query_as_of(query, at).rows) == rows
    versions = warehouse.query(f"SELECT k, _valid_from, _valid_to, _ended FROM history.{table} ORDER BY 1, 2, 3")[1]
    for key, group in itertools.groupby(versions, key=lambda version: version[0]):
        spans = list(group)
        for (_, since, ended, how), (_, begun, *_) in itertools.pairwise(spans):
            assert since <= ended <= begun, key
            assert how == "delete" or (ended, how) == (begun, "update"), key
    assert sum(version[2] is None for version in versions) == len(model.rows)


ROWS = {name: {"k": name, "n": "1", "noise": "1"} for name in "abc"}
LATER = NOW + timedelta(days=1)


@pytest.fixture
def put(warehouse, scratch):
    def put(declared, rows, partition=None, **state):
        complete = state.pop("complete", True)
        return warehouse.commit(replace(commit_of(declared, rows, scratch, partition, **state), complete=complete))

    return put


def test_a_snapshot_deletes_across_partitions_what_is_gone(put, warehouse):
    declared = spec("snapshot")
    put(declared, [ROWS["a"], ROWS["b"]], "2026-01-01")
    assert put(declared, [ROWS["b"], ROWS["c"]], "2026-01-02").state.counts.deleted == 1
    assert [row[0] for row in present(warehouse, declared)] == ["b", "c"]


@pytest.mark.parametrize(
    ("rows", "complete", "why"),
    [([], True, "the payload has no rows"), (["a"], False, "a part of the delivery is missing")],
)
def test_an_empty_or_partial_snapshot_deletes_nothing_and_says_why(put, warehouse, rows, complete, why):
    declared = spec("snapshot")
    put(declared, [ROWS["a"], ROWS["b"]])
    merged = put(declared, [ROWS[name] for name in rows], complete=complete, etag='"x"')
    number = 2 - len(rows)
    assert merged.notes == (f"{number} rows of the table are not in the payload and were not deleted: {why}",)
    assert len(present(warehouse, declared)) == 2
    # What was not done is looked at again, also if the same comes whole.
    assert (merged.state.content_hash, merged.state.raw_sha256, merged.state.etag) == ("", "", None)


def test_a_snapshot_of_an_earlier_period_is_refused(put, warehouse):
    declared = spec("snapshot")
    put(declared, [ROWS["a"]], "2026-01-02")
    with pytest.raises(
        ContractViolation, match="the table holds a newer snapshot; expected the snapshot of 2026-01-02"
    ):
        put(declared, [ROWS["b"]], "2026-01-01")
    assert [row[0] for row in present(warehouse, declared)] == ["a"]


def test_a_snapshot_leaves_the_rows_of_other_sources(put, warehouse):
    shared = f"t{next(numbers)}"
    put(spec("merge", table=shared), [ROWS["a"]])
    mine = spec("snapshot", table=shared)
    put(mine, [ROWS["b"]])
    assert put(mine, [ROWS["c"]]).state.counts.deleted == 1
    assert [row[0] for row in present(warehouse, mine)] == ["a", "c"]


def test_append_keeps_known_rows_as_they_are_and_says_that_they_differ(put, warehouse):
    declared = spec("append")
    put(declared, [ROWS["a"]])
    merged = put(declared, [{**ROWS["a"], "n": "2"}, ROWS["b"]])
    assert (merged.state.counts.added, merged.state.counts.unchanged, merged.state.counts.updated) == (1, 1, 0)
    assert merged.notes == ("1 known rows differ in the payload and stay as they were (load.mode: append)",)
    assert [row[1] for row in present(warehouse, declared)] == [1, 1]
    assert put(declared, [{**ROWS["a"], "n": "2"}]).state.outcome == "unchanged"


def test_a_change_of_volatile_columns_alone_is_no_version(put, warehouse):
    declared = spec("merge")
    put(declared, [ROWS["a"]])
    assert put(declared, [{**ROWS["a"], "noise": "2"}], at=LATER).state.counts.unchanged == 1
    assert len(warehouse.query(f"SELECT * FROM history.{declared.raw_table}")[1]) == 1


def test_rows_that_were_there_before_history_are_known_since_their_last_change(put, warehouse):
    declared = spec("replace_partition", history=False)
    put(declared, [ROWS["a"], ROWS["b"]])
    on = declared.model_copy(update={"load": declared.load.model_copy(update={"history": True})})
    put(on, [{**ROWS["a"], "n": "2"}], at=LATER)
    query = f"SELECT k, n FROM raw.{declared.raw_table} ORDER BY 1"
    assert warehouse.query_as_of(query, NOW).rows == [("a", 1), ("b", 1)]
    assert warehouse.query_as_of(query, LATER).notes == []
    (note,) = warehouse.query_as_of(query, NOW).notes
    assert note.startswith(
        f"raw.{declared.raw_table}: all versions are kept since 2026-11-23 12:00:00 UTC; of the time"
    )


def test_history_that_was_off_for_a_time_begins_anew(put, warehouse):
    on = spec("merge")
    off = on.model_copy(update={"load": on.load.model_copy(update={"history": False})})
    put(on, [ROWS["a"]])
    put(off, [{**ROWS["a"], "n": "2"}], at=LATER)
    query = f"SELECT n FROM raw.{on.raw_table}"
    with pytest.raises(ContractViolation, match=f"no versions are kept of raw.{on.raw_table}") as caught:
        warehouse.query_as_of(query, LATER)
    assert caught.value.todo.startswith(f"Write it into the YAML of {on.source}: versions are kept from the next")
    put(on, [{**ROWS["a"], "n": "2"}, ROWS["b"]], at=LATER + timedelta(days=1))
    assert warehouse.query_as_of(query, LATER).notes != []


def test_columns_that_come_later_are_empty_in_earlier_versions(put, warehouse):
    narrow = spec("merge")
    put(narrow, [ROWS["a"]])
    put(narrow, [{**ROWS["a"], "n": "2"}], at=LATER)
    wide = spec_of(narrow.source, columns={**COLUMNS, "extra": {"type": "text"}}, load={"history": True})
    put(wide, [{**ROWS["a"], "n": "3", "extra": "x"}], at=LATER + timedelta(days=1))
    rows = warehouse.query(f"SELECT n, extra, _ended_run_id FROM history.{narrow.raw_table} ORDER BY n")[1]
    assert rows == [(1, None, "run"), (2, None, "run"), (3, "x", None)]
    assert warehouse.query_as_of(f"SELECT n, extra FROM raw.{narrow.raw_table}", LATER).rows == [(2, None)]


def test_a_renamed_source_keeps_its_versions(put, warehouse):
    old = spec("merge")
    put(old, [ROWS["a"]])
    put(old, [{**ROWS["a"], "n": "2"}], at=LATER)
    new = spec("merge", source=f"{old.source}_new", aliases=[old.source])
    assert warehouse.adopt(new)
    assert warehouse.query_as_of(f"SELECT n FROM raw.{new.raw_table}", NOW).rows == [(1,)]
    put(new, [], at=LATER + timedelta(days=1))
    assert warehouse.query(f"SELECT DISTINCT _source FROM history.{new.raw_table}")[1] == [(new.source,)]
    assert warehouse.query_as_of(f"SELECT n FROM raw.{new.raw_table}", NOW).notes == []


def test_a_retired_source_takes_its_versions_with_it(put, warehouse):
    shared = f"t{next(numbers)}"
    one, two = (spec("replace_partition", table=shared) for _ in "12")
    put(one, [ROWS["a"]])
    put(one, [], at=LATER)
    put(two, [ROWS["b"]])
    assert warehouse.remains(one.source).holdings == ()  # its rows are versions by now
    warehouse.retire(one.source)
    assert warehouse.query_as_of(f"SELECT k FROM raw.{shared}", LATER).rows == [("b",)]
    assert warehouse.retire(two.source).holdings[0].rows == 1
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'history'"
    assert not [name for (name,) in by_hand(warehouse, tables) if name.endswith(shared)]


def test_a_table_dropped_by_hand_is_loaded_anew_and_keeps_what_is_known_of_the_past(put, warehouse):
    declared = spec("merge")
    put(declared, [ROWS["a"]])
    put(declared, [{**ROWS["a"], "n": "2"}], at=LATER)
    by_hand(warehouse, f"DROP TABLE raw.{declared.raw_table} CASCADE")
    put(declared, [{**ROWS["a"], "n": "3"}], at=LATER + timedelta(days=1))
    found = warehouse.query_as_of(f"SELECT n FROM raw.{declared.raw_table}", NOW)
    assert (found.rows, len(found.notes)) == ([(1,)], 1)


@pytest.mark.parametrize("statement", ["DELETE FROM raw.{}", "DROP TABLE raw.{}", "SELECT nothing FROM raw.{}"])
def test_a_question_about_the_past_changes_nothing(put, warehouse, statement):
    declared = spec("merge")
    put(declared, [ROWS["a"]])
    with pytest.raises(ContractViolation, match="the statement cannot be run"):
        warehouse.query_as_of(statement.format(declared.raw_table), LATER)
    assert len(present(warehouse, declared)) == 1


def test_what_stops_a_commit_leaves_rows_versions_and_state_as_they_were(put, warehouse, scratch):
    declared = spec("snapshot")
    put(declared, [ROWS["a"], ROWS["b"]])

    def everything():
        versions = warehouse.query(f"SELECT * FROM history.{declared.raw_table} ORDER BY k, _valid_from")[1]
        return held(warehouse, declared.raw_table), versions, warehouse.states(declared.source)[0]

    before = everything()
    commit = commit_of(declared, [{**ROWS["a"], "n": "2"}, ROWS["c"]], scratch, at=LATER)

    def stop(stage):
        raise KeyboardInterrupt(stage)

    with pytest.raises(KeyboardInterrupt):
        warehouse.commit(replace(commit, progress=stop))
    assert everything() == before


def test_in_postgresql_a_question_about_the_past_keeps_no_refresh_waiting(postgres, scratch):
    warehouse = Addressed(postgres)
    declared = spec("merge")
    warehouse.commit(commit_of(declared, [ROWS["a"]], scratch))
    asked = f"SELECT k, pg_advisory_xact_lock(4711)::text FROM raw.{declared.raw_table}"
    with psycopg.connect(postgres) as holding, ThreadPoolExecutor(1) as threads:
        holding.execute("SELECT pg_advisory_xact_lock(4711)")
        answer = threads.submit(warehouse.query_as_of, asked, NOW)
        while not by_hand(warehouse, "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"):
            assert not answer.done(), answer.result()
        warehouse.commit(commit_of(declared, [{**ROWS["a"], "n": "2"}], scratch, at=LATER))
        warehouse.commit(commit_of(spec("merge"), [ROWS["b"]], scratch))  # makes tables and a view
        holding.rollback()
        assert answer.result().rows == [("a", "")]
    assert [row[1] for row in present(warehouse, declared)] == [2]
