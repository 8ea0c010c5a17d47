"""How a raw table follows its YAML: types, keys, comments, new and forgotten columns."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import pytest

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines_tests.stores import KINDS, by_hand, held, is_postgres, opened
from refresh_pipelines_tests.workbench import NOW, commit_of, rows_of, spec_of

OLD = {"k": {"type": "text", "nullable": False}, "n": {"type": "int"}}
LOAD = ["_source", "_partition", "_first_seen_at", "_updated_at", "_run_id"]


@pytest.fixture(params=KINDS)
def warehouse(request, tmp_path):
    return opened(request.param, request, tmp_path / "warehouse.duckdb")


@pytest.fixture
def put(warehouse, tmp_path):
    def put(columns, rows, **changes):
        return warehouse.commit(commit_of(spec_of(columns=columns, **changes), rows, tmp_path / "scratch"))

    return put


def names(warehouse):
    return list(warehouse.query("SELECT * FROM raw.mini")[0])


def described(warehouse):
    """Type and nullability of each column."""
    query = (
        "SELECT data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'raw' AND table_name = 'mini' ORDER BY ordinal_position"
    )
    return by_hand(warehouse, query)


def test_each_declared_type_keeps_its_values_exactly(warehouse, put):
    columns = {
        "k": {"type": "text"}, "i": {"type": "int"}, "b": {"type": "bigint"}, "x": {"type": "double"},
        "d": {"type": "decimal(38,10)"}, "f": {"type": "bool"}, "on": {"type": "date"},
        "at": {"type": "timestamp"}, "atz": {"type": "timestamptz"}, "j": {"type": "json"},
    }  # fmt: skip
    row = {
        "k": "π", "i": "-2147483648", "b": "9223372036854775807", "x": "0.1",
        "d": "1234567890123456789012345678.0123456789", "f": "true", "on": "2024-02-29",
        "at": "2026-03-29T02:30:00.000001", "atz": "2026-01-31T23:00:00-05:00", "j": '{"a":[1,null]}',
    }  # fmt: skip
    put(columns, [row])
    kept = list(held(warehouse, "mini")[0][:10])
    kept[9] = kept[9].replace(" ", "")  # jsonb has a layout of its own
    assert tuple(kept) == (
        "π", -(2**31), 2**63 - 1, 0.1, Decimal("1234567890123456789012345678.0123456789"), True, date(2024, 2, 29),
        datetime(2026, 3, 29, 2, 30, 0, 1), datetime(2026, 2, 1, 4, tzinfo=timezone.utc), '{"a":[1,null]}',  # noqa: DTZ001
    )  # fmt: skip
    if is_postgres(warehouse):
        assert [kind for kind, _ in described(warehouse)] == [
            "text", "integer", "bigint", "double precision", "numeric", "boolean", "date",
            "timestamp without time zone", "timestamp with time zone", "jsonb", "text", "text",
            "timestamp with time zone", "timestamp with time zone", "text",
        ]  # fmt: skip
    else:
        assert [kind for kind, _ in described(warehouse)] == [
            "VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL(38,10)", "BOOLEAN", "DATE", "TIMESTAMP",
            "TIMESTAMP WITH TIME ZONE", "JSON", "VARCHAR", "VARCHAR", "TIMESTAMP WITH TIME ZONE",
            "TIMESTAMP WITH TIME ZONE", "VARCHAR",
        ]  # fmt: skip
    assert put(columns, [row]).state.counts.unchanged == 1
    path = "j->'a'->>0" if is_postgres(warehouse) else "j->>'$.a[0]'"
    assert rows_of(warehouse, f"SELECT {path} FROM raw.mini") == [("1",)]


def test_the_merge_key_may_not_be_null_in_the_database_either(warehouse, put):
    put(OLD, [])
    assert [null for _, null in described(warehouse)] == ["NO", *["YES"] * 6]


def test_a_new_column_comes_into_its_place_before_the_load_columns_and_rows_keep_their_story(warehouse, put):
    put(OLD, [{"k": "a", "n": "1"}, {"k": "b", "n": "2"}])
    wider = {"first": {"type": "text"}, "k": OLD["k"], "between": {"type": "decimal(5,1)"}, "n": OLD["n"]}
    merged = put(wider, [{"first": None, "k": "a", "between": None, "n": "1"}])
    assert merged.state.counts.unchanged == 1
    if is_postgres(warehouse):  # which adds a column in no time, at the end, and leaves rights and views as they are
        assert names(warehouse) == ["k", "n", *LOAD, "first", "between"]
    else:
        assert names(warehouse) == ["first", "k", "between", "n", *LOAD]
    assert rows_of(warehouse, f"SELECT first, k, between, n, {', '.join(LOAD)} FROM raw.mini ORDER BY k") == [
        (None, "a", None, 1, "mini", None, NOW, NOW, "run"),
        (None, "b", None, 2, "mini", None, NOW, NOW, "run"),
    ]
    assert put(wider, [{"first": "x", "k": "a", "between": "0.5", "n": "1"}]).state.counts.updated == 1


def test_the_tables_own_leftovers_are_not_left_over(warehouse, put):
    put(OLD, [])
    put({**OLD, "new": {"type": "int"}}, [])
    assert rows_of(warehouse, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'raw'") == [
        ("mini",)
    ]


def test_a_column_that_left_the_yaml_keeps_values_place_and_comment(warehouse, put):
    put({**OLD, "gone": {"type": "text", "description": "what it was"}}, [{"k": "a", "n": "1", "gone": "kept"}])
    put(OLD, [{"k": "a", "n": "2"}, {"k": "b", "n": "1"}])
    put({**OLD, "new": {"type": "int"}}, [{"k": "c", "n": "1", "new": "1"}])
    new, old = (["new"], []) if not is_postgres(warehouse) else ([], ["new"])
    assert names(warehouse) == ["k", "n", *new, "gone", *LOAD, *old]
    assert rows_of(warehouse, "SELECT k, n, new, gone FROM raw.mini ORDER BY k") == [
        ("a", 2, None, "kept"), ("b", 1, None, None), ("c", 1, 1, None),
    ]  # fmt: skip
    assert comments(warehouse)["gone"] == "what it was"


def test_a_persons_own_column_survives_a_load_and_a_new_column(warehouse, put):
    put(OLD, [{"k": "a", "n": "1"}])
    by_hand(warehouse, "ALTER TABLE raw.mini ADD COLUMN remark VARCHAR", "UPDATE raw.mini SET remark = 'mine'")
    put({**OLD, "new": {"type": "int"}}, [{"k": "a", "n": "2", "new": "1"}])
    if is_postgres(warehouse):
        assert names(warehouse) == ["k", "n", *LOAD, "remark", "new"]
    else:
        assert names(warehouse) == ["k", "n", "new", "remark", *LOAD]
    assert rows_of(warehouse, "SELECT n, remark FROM raw.mini") == [(2, "mine")]


@pytest.mark.parametrize(
    ("columns", "changes", "said"),
    [
        ({**OLD, "n": {"type": "bigint"}}, {}, "n is INTEGER in the table and BIGINT in the YAML"),
        ({**OLD, "n": {"type": "decimal(5,2)"}}, {}, "n is INTEGER in the table and DECIMAL(5,2) in the YAML"),
        (OLD, {"merge_key": ["k", "n"]}, "the merge key is (k) in the table and (k, n) in the YAML"),
        ({**OLD, "new": {"type": "int", "nullable": False}}, {}, "new is new and may not be empty"),
        ({**OLD, "new": {"type": "int"}}, {"merge_key": ["new"]}, "new is new and may not be empty"),
    ],
)
def test_a_yaml_the_table_cannot_follow_is_refused_and_nothing_changes(warehouse, put, columns, changes, said):
    put(OLD, [{"k": "a", "n": "1"}])
    before = names(warehouse), held(warehouse, "mini")
    with pytest.raises(SpecChanged) as caught:
        put(columns, [{"k": "a", "n": "2", "new": "1"}], **changes)
    assert (said.replace("DECIMAL", "NUMERIC") if is_postgres(warehouse) else said) in str(caught.value)
    mend = "Run `refresh replay mini --rebuild`, or restore the old YAML."
    assert mend in str(caught.value)
    assert (names(warehouse), held(warehouse, "mini")) == before


def test_a_change_that_a_shared_table_cannot_follow_names_every_source_to_reload(warehouse, put, tmp_path):
    put(OLD, [{"k": "a", "n": "1"}], table="shared")
    other = spec_of("other", columns=OLD, table="shared")
    warehouse.commit(commit_of(other, [{"k": "b", "n": "1"}], tmp_path / "other"))
    with pytest.raises(SpecChanged, match="refresh retire mini other --reload"):
        put({**OLD, "n": {"type": "bigint"}}, [{"k": "a", "n": "1"}], table="shared")


def test_a_changed_table_is_refused_and_not_split(warehouse, put):
    put(OLD, [{"k": "a", "n": "1"}])
    with pytest.raises(SpecChanged) as caught:
        put(OLD, [{"k": "b", "n": "1"}], table="elsewhere")
    assert "expected `table: mini`; got `table: elsewhere`, and 1 rows in raw.mini" in str(caught.value)
    assert "`refresh replay mini --rebuild`" in str(caught.value)
    assert rows_of(warehouse, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'raw'") == [
        ("mini",)
    ]
    assert warehouse.states("mini")[0][""].table == "mini"


def test_a_changed_table_is_refused_also_where_the_new_one_exists(warehouse, put, tmp_path):
    warehouse.commit(commit_of(spec_of("other", columns=OLD), [{"k": "b", "n": "1"}], tmp_path / "other"))
    put(OLD, [{"k": "a", "n": "1"}])
    with pytest.raises(SpecChanged, match=r"lie in raw\.mini"):
        put(OLD, [{"k": "a", "n": "1"}], table="other")


@pytest.mark.parametrize("emptied", ["DROP TABLE raw.mini", "DELETE FROM raw.mini"])
def test_a_table_may_change_once_the_old_one_holds_nothing_of_the_source(warehouse, put, emptied):
    put(OLD, [{"k": "a", "n": "1"}])
    by_hand(warehouse, emptied)
    assert put(OLD, [{"k": "a", "n": "1"}], table="elsewhere").state.table == "elsewhere"
    assert len(held(warehouse, "elsewhere")) == 1


def test_a_warehouse_of_an_earlier_version_learns_where_its_rows_lie(warehouse, put, tmp_path):
    shared = spec_of("other", columns=OLD, table="shared")
    put(OLD, [{"k": "a", "n": "1"}])
    warehouse.commit(commit_of(shared, [{"k": "b", "n": "1"}], tmp_path / "other"))
    by_hand(warehouse, "DROP VIEW refresh.completion", 'ALTER TABLE refresh.load_state DROP COLUMN "table"')
    assert warehouse.states("mini", "mini")[0][""].table == "mini"
    assert put(OLD, [{"k": "a", "n": "1"}]).state.counts.unchanged == 1
    found = rows_of(warehouse, 'SELECT source, "table" FROM refresh.load_state ORDER BY 1')
    assert found == [("mini", "mini"), ("other", "shared")]
    with pytest.raises(SpecChanged, match=r"lie in raw\.shared"):
        warehouse.commit(commit_of(spec_of("other", columns=OLD), [{"k": "b", "n": "1"}], tmp_path / "other"))


def test_the_order_in_which_a_merge_key_is_written_does_not_matter(put):
    columns = {"k": OLD["k"], "n": {"type": "int", "nullable": False}}
    put(columns, [{"k": "a", "n": "1"}], merge_key=["k", "n"])
    assert put(columns, [{"k": "a", "n": "1"}], merge_key=["n", "k"]).state.counts.unchanged == 1


COMMENTS = (
    "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'mini'",
    "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'raw.mini'::regclass",
)


def comments(warehouse):
    found = rows_of(warehouse, COMMENTS[is_postgres(warehouse)])
    return {name: text for name, text in found if text}


def test_descriptions_and_units_are_comments_and_follow_the_yaml(warehouse, put):
    columns = {
        "k": {"type": "text", "description": "it's a key; DROP TABLE raw.mini"},
        "n": {"type": "int", "description": "number", "unit": "Mcf"},
        "u": {"type": "int", "unit": "°C"},
        "plain": {"type": "int"},
    }
    put(columns, [], description="line one\n'line two'")
    assert comments(warehouse) == {"k": "it's a key; DROP TABLE raw.mini", "n": "number [Mcf]", "u": "[°C]"}
    put({**columns, "n": {"type": "int", "unit": "bbl"}, "u": {"type": "int"}}, [], description="other")
    assert comments(warehouse) == {"k": "it's a key; DROP TABLE raw.mini", "n": "[bbl]"}
    asked = "SELECT comment FROM duckdb_tables() WHERE table_name = 'mini'"
    if is_postgres(warehouse):
        asked = "SELECT obj_description('raw.mini'::regclass)"
    assert rows_of(warehouse, asked) == [("other",)]


def test_two_sources_share_a_table_and_the_second_finds_it_made(warehouse, tmp_path):
    for source, key in (("one", "a"), ("two", "b")):
        spec = spec_of(source, columns=OLD, table="shared")
        merged = warehouse.commit(commit_of(spec, [{"k": key, "n": "1"}], tmp_path / source))
    assert (merged.partition_rows, merged.table_rows) == (1, 2)
    assert [row[:3] for row in held(warehouse, "shared")] == [("a", 1, "one"), ("b", 1, "two")]
