"""`refresh copy`: a whole warehouse into another one, compared before it counts."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from refresh_pipelines.cli.main import main
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.warehouse.copy import TargetNotEmpty, copy_warehouse
from refresh_pipelines_tests.stores import Addressed, by_hand, held, opened
from refresh_pipelines_tests.workbench import NOW, commit_of, spec_of

COLUMNS = {
    "k": {"type": "text", "nullable": False, "strip": False, "description": "it's a key"}, "x": {"type": "double"},
    "d": {"type": "decimal(20,4)"}, "b": {"type": "bigint"}, "f": {"type": "bool"}, "on": {"type": "date"},
    "at": {"type": "timestamp"}, "atz": {"type": "timestamptz"}, "j": {"type": "json"},
}  # fmt: skip
ROWS = [
    {"k": "a", "x": "0.1", "d": "-0.0100", "b": "9223372036854775807", "f": "true", "on": "0001-01-01",
     "at": "9999-12-31T23:59:59.999999", "atz": "1899-12-31T00:00:00Z", "j": '{"z": [1.50, null], "a": "ü"}'},
    {"k": "b\n\\.\n\"", "x": "5e-324", "d": None, "b": None, "f": "false", "on": None, "at": None, "atz": None,
     "j": "[]"},
    {"k": "NULL", "x": "-0.0", "d": "9999999999999999.9999", "b": "0", "f": None, "on": "9999-12-31", "at": None,
     "atz": None, "j": None},
]  # fmt: skip
ENTRY = FileEntry("mini", "a.csv", "1", 3, "ab", NOW, None, NOW, "loaded", 1, 1, 0, None, "2026-01-01", "run", "spec")


@pytest.fixture
def other(request, tmp_path):
    return opened("duckdb", request, tmp_path / "other.duckdb")


def fill(warehouse, folder):
    spec = spec_of(columns=COLUMNS, table="shared")
    for partition, rows in (("p", ROWS[:2]), ("q", ROWS[2:])):
        warehouse.commit(commit_of(spec, rows, folder / "scratch", partition, etag='"x"'))
    shared = spec_of("other", columns=COLUMNS, table="shared")
    warehouse.commit(commit_of(shared, [{**ROWS[0], "k": "c"}], folder / "scratch"))
    warehouse.commit(commit_of(spec_of("empty"), [], folder / "scratch"))
    warehouse.record_files([ENTRY])


def everything(warehouse):
    tables = {table: held(warehouse, table) for table in ("shared", "empty")}
    for row_list in tables.values():
        for number, row in enumerate(row_list):
            row_list[number] = tuple(
                json.dumps(json.loads(v), sort_keys=True) if isinstance(v, str) and v[:1] in "[{" else v for v in row
            )
    return tables, {name: warehouse.states(name)[0] for name in ("mini", "other", "empty")}, warehouse.files(
        "mini", "shared", ["a.csv"]
    )[0]  # fmt: skip


def test_there_and_back_again_everything_is_as_it_was(other, postgres, tmp_path):
    middle, back = Addressed(postgres), type(other)(tmp_path / "back.duckdb", 5)
    fill(other, tmp_path)
    steps = []
    there = copy_warehouse(other, middle, tmp_path, replace=False, step=steps.append)
    assert ([one.table for one in there], [one.rows for one in there]) == (["empty", "shared"], [0, 4])
    assert steps == ["empty", "shared"]
    assert everything(middle) == everything(other)
    assert copy_warehouse(middle, back, tmp_path, replace=False, step=steps.append) == there
    assert everything(back) == everything(other)


def test_the_copy_goes_on_where_the_original_stopped(other, postgres, tmp_path):
    target = Addressed(postgres)
    fill(other, tmp_path)
    copy_warehouse(other, target, tmp_path, replace=False, step=lambda _: None)
    spec = spec_of(columns=COLUMNS, table="shared")
    merged = target.commit(commit_of(spec, ROWS[:2], tmp_path / "scratch", "p"))
    assert (merged.state.counts.unchanged, merged.state.counts.added) == (2, 0)
    assert target.adopt(spec_of("renamed", columns=COLUMNS, table="shared", aliases=["mini"]))


def test_a_target_that_holds_something_is_left_alone_unless_it_may_be_replaced(other, postgres, tmp_path):
    target = Addressed(postgres)
    target.commit(commit_of(spec_of("older"), [{"k": "a", "n": "1", "t": None}], tmp_path / "scratch"))
    by_hand(target, "CREATE TABLE raw.mine AS SELECT 1 AS n")
    fill(other, tmp_path)
    with pytest.raises(TargetNotEmpty):
        copy_warehouse(other, target, tmp_path, replace=False, step=lambda _: None)
    assert target.sources() == {"older"}
    copy_warehouse(other, target, tmp_path, replace=True, step=lambda _: None)
    assert (target.sources(), by_hand(target, "SELECT * FROM raw.mine")) == ({"mini", "other", "empty"}, [(1,)])


def test_a_copy_that_breaks_off_leaves_the_target_as_it_was(other, postgres, tmp_path):
    target = Addressed(postgres)
    fill(other, tmp_path)

    def stop(table):
        if table == "shared":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_warehouse(other, target, tmp_path, replace=False, step=stop)
    assert target.sources() == set()
    assert by_hand(target, "SELECT count(*) FROM pg_tables WHERE schemaname = 'raw'") == [(0,)]


@pytest.fixture
def command(tmp_path, monkeypatch, other):
    (tmp_path / "dagster.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFRESH_WAREHOUSE", f"duckdb:///{other.path.name}")
    from click.testing import CliRunner  # noqa: PLC0415

    return lambda *words: CliRunner().invoke(main, ["copy", *words])


def test_the_command_prints_what_it_copied_and_never_a_password(other, command, postgres, tmp_path):
    fill(other, tmp_path)
    url = postgres.replace("refresh@", "refresh:hunter2hunter2@")
    said = command("--to", url)
    assert said.exit_code == 0, said.output
    assert "raw.shared" in said.output and "Copied and compared." in said.output
    assert "hunter2" not in said.output
    again = command("--to", url)
    assert again.exit_code == 2 and "--replace removes them first" in again.output and "hunter2" not in again.output
    replaced = json.loads(command("--to", url, "--replace", "--json").stdout)
    assert [(item["table"], item["rows"]) for item in replaced["items"]] == [("empty", 0), ("shared", 4)]


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("duckdb:///other.duckdb", "--to is the warehouse in use"),
        ("mysql://u:secretsecret@h/d", "--to='mysql://***@h/d'"),
    ],
)
def test_an_address_that_cannot_be_copied_to_is_a_usage_error(command, to, said):
    result = command("--to", to)
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_versions_and_since_when_they_are_kept_go_along(other, postgres, tmp_path):
    middle, back = Addressed(postgres), type(other)(tmp_path / "back.duckdb", 5)
    spec = spec_of(load={"mode": "snapshot", "history": True})
    for hours, keys in enumerate(("ab", "bc")):
        rows = [{"k": key, "n": str(hours), "t": None} for key in keys]
        other.commit(commit_of(spec, rows, tmp_path / "scratch", at=NOW + timedelta(hours=hours)))
    copy_warehouse(other, middle, tmp_path, replace=False, step=lambda _: None)
    copy_warehouse(middle, back, tmp_path, replace=False, step=lambda _: None)
    for query in ("SELECT * FROM history.mini ORDER BY k, n", "SELECT * FROM refresh.histories"):
        assert middle.query(query)[1] == back.query(query)[1] == other.query(query)[1]
    for warehouse in (middle, back):
        assert sorted(warehouse.query_as_of("SELECT k, n FROM raw.mini", NOW).rows) == [("a", 0), ("b", 0)]
    copy_warehouse(other, middle, tmp_path, replace=True, step=lambda _: None)
    assert len(middle.query("SELECT * FROM history.mini")[1]) == 4
