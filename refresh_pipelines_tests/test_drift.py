"""Fields that no column reads: passed over, refused, or made columns that follow the payload from then on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.drift import LONGEST_NAME, MOST_COLUMNS, Drift, column_name
from refresh_pipelines.errors import ContractViolation, SpecChanged
from refresh_pipelines.parse import Notes
from refresh_pipelines.stage import Part, stage
from refresh_pipelines.window import Window
from refresh_pipelines_tests.stores import KINDS, is_postgres, opened
from refresh_pipelines_tests.workbench import commit_of, csv_spec, rows_of, spec_of, staged

ROW = {"k": "a", "n": "1", "t": "x"}
EVOLVE = {"drift": "evolve"}
SPEC = spec_of(load=EVOLVE)


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "warehouse.duckdb", attached=True)


@pytest.fixture
def put(warehouse, tmp_path):
    def put(*rows, spec=SPEC, partition=None):
        return warehouse.commit(commit_of(spec, list(rows), tmp_path / "scratch", partition))

    return put


def table(warehouse, what="*"):
    names, rows = warehouse.query(f"SELECT {what} FROM raw.mini ORDER BY k")
    return list(names), rows


def test_an_undeclared_field_becomes_a_text_column_and_its_values_are_loaded_from_then_on(warehouse, put):
    put(ROW)
    merged = put({**ROW, "Größe (m)": " 5 "}, {**ROW, "k": "b", "Größe (m)": ""})
    assert merged.notes == ("new columns of raw.mini: grosse_m (field 'Größe (m)')",)
    assert (merged.state.counts.updated, merged.state.counts.added) == (1, 1)
    assert table(warehouse, "k, grosse_m")[1] == [("a", "5"), ("b", None)]
    again = put({**ROW, "Größe (m)": "5"}, {**ROW, "k": "b"})
    assert (again.state.counts.unchanged, again.notes) == (2, ())


def test_the_load_columns_stay_last_where_tables_are_written_anew(warehouse, put):
    put(ROW)
    put({**ROW, "more": "1"})
    load = ["_source", "_partition", "_first_seen_at", "_updated_at", "_run_id"]
    columns = ["k", "n", "t", *load, "more"] if is_postgres(warehouse) else ["k", "n", "t", "more", *load]
    assert table(warehouse)[0] == columns


def test_a_column_whose_field_is_gone_stays_and_is_null(warehouse, put):
    put({**ROW, "more": "1"})
    assert put(ROW).state.counts.updated == 1
    assert table(warehouse, "k, more")[1] == [("a", None)]
    put({**ROW, "more": "2"})
    assert table(warehouse, "k, more")[1] == [("a", "2")]


def test_a_nested_field_is_loaded_as_its_json(warehouse, put):
    put({**ROW, "deep": {"a": [1, None]}})
    assert json.loads(table(warehouse, "deep")[1][0][0]) == {"a": [1, None]}


def test_a_column_that_the_yaml_declares_later_is_taken_over_if_it_is_text(warehouse, put):
    put({**ROW, "more": "1"})
    columns = {**SPEC.model_dump()["columns"], "more": {"type": "text"}}
    merged = put({**ROW, "more": "1"}, spec=spec_of(columns=columns, load=EVOLVE))
    assert merged.state.counts.unchanged == 1
    assert rows_of(warehouse, "SELECT * FROM refresh.evolved_columns") == []
    with pytest.raises(SpecChanged, match=r"no longer fits table raw\.mini"):
        put({**ROW, "more": "1"}, spec=spec_of(columns={**columns, "more": {"type": "int"}}, load=EVOLVE))


def test_what_is_remembered_of_columns_follows_a_renamed_source_and_goes_with_a_retired_one(warehouse, put):
    put({**ROW, "more": "1"})
    assert warehouse.adopt(spec_of("newer", aliases=["mini"], load=EVOLVE))
    known = 'SELECT source, "table", "column", field FROM refresh.evolved_columns'
    assert rows_of(warehouse, known) == [("newer", "newer", "more", "more")]
    warehouse.retire("newer")
    assert rows_of(warehouse, known) == []


def test_sources_that_share_a_table_do_not_touch_each_others_columns(warehouse, put):
    put({**ROW, "more": "1"}, spec=spec_of("one", table="mini", load=EVOLVE))
    put({**ROW, "k": "b", "other": "2"}, spec=spec_of("two", table="mini", load=EVOLVE))
    put({**ROW, "more": "1"}, spec=spec_of("one", table="mini", load=EVOLVE))
    assert table(warehouse, "k, more, other")[1] == [("a", "1", None), ("b", None, "2")]


def test_two_fields_never_share_a_column(warehouse, put):
    put({**ROW, "a b": "1"})
    with pytest.raises(
        ContractViolation, match="field 'a-b' would be loaded into column a_b, which field 'a b' has made"
    ):
        put({**ROW, "a-b": "1"})


def test_a_field_does_not_take_a_column_of_another_type(warehouse, put):
    put({**ROW, "old": "1"}, spec=spec_of(columns={**SPEC.model_dump()["columns"], "old": {"type": "int"}}))
    with pytest.raises(SpecChanged, match=r"field 'old' cannot become column old of raw\.mini"):
        put({**ROW, "old": "1"})


def test_undeclared_columns_do_not_grow_without_end(warehouse, put, tmp_path):
    many = {f"2024-{number}": "1" for number in range(MOST_COLUMNS)}
    put({**ROW, **many})
    with pytest.raises(ContractViolation, match="too many fields that are not declared"):
        put({**ROW, "another": "1"})
    with pytest.raises(ContractViolation, match="too many fields that are not declared"):
        staged(SPEC, [{**ROW, **many, "another": "1"}], tmp_path)


def test_a_field_that_comes_with_a_later_payload_is_null_in_the_rows_before(tmp_path):
    parts = []
    for number, more in enumerate(({}, {"more": "1"}, {"less": "2"})):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps([{**ROW, "k": str(number), **more}]))
        parts.append(Part(path, {"page": str(number)}))
    ready = stage(SPEC, parts, Window(None), tmp_path / "rows.arrow", Notes())
    assert [(row["k"], row["more"], row["less"]) for row in ready.table().to_pylist()] == [
        ("0", None, None), ("1", "1", None), ("2", None, "2"),
    ]  # fmt: skip
    assert ready.evolved == {"more": "more", "less": "less"}


def test_a_field_without_rows_makes_a_column_too(tmp_path):
    payload = tmp_path / "payload.csv"
    payload.write_text("k,n,t,more\n")
    ready = stage(csv_spec(load=EVOLVE), [payload], Window(None), tmp_path / "rows.arrow", Notes())
    assert ready.rows == 0 and "more" in ready.table().column_names


def test_an_undeclared_value_is_part_of_what_a_payload_is(tmp_path):
    hashes = {staged(SPEC, [{**ROW, **more}], tmp_path).content_hash for more in ({}, {"more": "1"}, {"more": "2"})}
    assert len(hashes) == 3
    assert staged(spec_of(), [{**ROW, "more": "1"}], tmp_path).content_hash == (
        staged(spec_of(), [ROW], tmp_path).content_hash
    )


def test_freeze_stops_before_a_field_that_is_neither_declared_nor_to_be_ignored(tmp_path):
    frozen = spec_of(load={"drift": "freeze", "ignore": ["noise"]})
    assert staged(frozen, [{**ROW, "noise": "1"}], tmp_path).rows == 1
    with pytest.raises(ContractViolation, match="the payload has fields that are not declared") as caught:
        staged(frozen, [{**ROW, "noise": "1", "more": "1", "less": "2"}], tmp_path)
    assert caught.value.came == "more, less"


def test_fields_to_be_ignored_are_neither_named_nor_made_columns(tmp_path):
    payload, notes = tmp_path / "payload.json", Notes()
    payload.write_text(json.dumps([{**ROW, "noise": "1", "more": "1"}]))
    spec = spec_of(load={"drift": "evolve", "ignore": ["noise"]})
    assert stage(spec, [payload], Window(None), tmp_path / "rows.arrow", notes).evolved == {"more": "more"}
    assert notes.texts() == ["fields that are not declared: more"]


def test_the_fields_that_a_csv_without_header_is_read_by_are_no_drift(tmp_path):
    payload = tmp_path / "payload.csv"
    payload.write_text("a,1,x,0\n")
    fields = {"kind": "csv", "fields": ["k", "n", "t", "spare"]}
    for drift in ("freeze", "evolve"):
        spec = csv_spec(format=fields, load={"drift": drift})
        assert stage(spec, [payload], Window(None), tmp_path / "rows.arrow", Notes()).evolved == {}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("Größe (m)", "grosse_m"), ("_source", "source"), ("2024", "field_2024"), ("日本", "field"), ("a.b", "a_b"),
        ("x" * 50, "x" * 40), ("K", "k_2"), ("", "field"),
    ],
)  # fmt: skip
def test_a_column_is_named_after_its_field(field, name):
    assert column_name(field, {"k"}) == name


@given(st.lists(st.text(max_size=60), max_size=12, unique=True))
def test_columns_have_plain_names_of_their_own(fields):
    drift = Drift(SPEC)
    drift.meet(fields)
    assert len(drift.fields) == len(fields) and not set(drift.fields) & set(SPEC.columns)
    assert all(name.isidentifier() and name.isascii() and name == name.lower() for name in drift.fields)
    assert all(len(name) <= LONGEST_NAME and name[0].isalpha() for name in drift.fields)
