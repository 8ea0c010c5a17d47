"""`refresh preview`: what a refresh would do, on both warehouses, and that nothing of it happens."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.main import main
from refresh_pipelines.preview import preview
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.stores import both, held, opened
from refresh_pipelines_tests.workbench import HOST, NOW, Bench, commit_of, csv_spec, spec_of

MINI = """
description: A test
request: {url: "https://example.org/data.csv"}
format: csv
columns:
  k: {type: text, nullable: false}
  n: {type: int}
merge_key: [k]
load: {mode: snapshot, history: true}
schedule: {frequency: daily}
"""


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def everything(folder):
    """What lies in a data folder, but for the warehouse's own lock and the log."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".owner")
    }


def look(bench, spec, examples=5, **more):
    return preview(spec, window_of(spec, None), bench.tools(), examples=examples, **more)


def test_it_shows_what_would_be_new_changed_and_gone_and_does_none_of_it(bench, sandbox):
    spec = csv_spec(load={"mode": "snapshot", "history": True})
    sandbox.override(HOST, b"k,n,t\na,1,x\nb,1,y\nc,1,z\n")
    bench.refresh(spec)
    before, known = everything(bench.folder / "data"), bench.warehouse.states("mini")
    sandbox.override(HOST, b"k,n,t\na,2,x\nb,1,y\nd,1,z\n")
    done = look(bench, spec)
    counts = done.outcome.counts
    assert (done.outcome.outcome, counts.added, counts.updated, counts.deleted) == ("loaded", 1, 1, 1)
    item = done.effects.item()
    assert item["updated_rows"] == [{"key": {"k": "a"}, "changes": {"n": ["1", "2"]}}]
    assert item["added_rows"] == [{"k": "d", "n": "1", "t": "z"}]
    assert item["deleted_rows"] == [{"k": "c", "n": "1", "t": "z"}]
    assert (item["changed_columns"], item["new_columns"], item["creates_table"]) == ({"n": 1}, {}, False)
    assert everything(bench.folder / "data") == before
    assert bench.warehouse.states("mini")[0] == known[0]
    assert bench.refresh(spec).counts == counts


def test_where_there_is_no_warehouse_yet_none_is_made(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    done = look(bench, csv_spec())
    assert (done.outcome.outcome, done.effects.creates, done.effects.new_columns["n"]) == ("loaded", True, "INTEGER")
    assert not bench.file.exists()


def test_columns_that_the_table_would_get_are_named(bench, sandbox):
    sandbox.override(HOST, b"k,n,t,u\na,1,x,1\n")
    bench.refresh(csv_spec())
    wide = csv_spec(columns={**{n: {"type": "text"} for n in "kt"}, "n": {"type": "int"}, "u": {"type": "int"}})
    done = look(bench, wide)
    assert (done.effects.new_columns, done.effects.columns) == ({"u": "INTEGER"}, {"u": 1})
    assert len(bench.rows("mini")[0]) == 3 + 5


def test_it_asks_without_conditions_and_says_what_would_fail(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    bench.refresh(csv_spec())
    assert look(bench, csv_spec()).outcome.counts.unchanged == 1
    sandbox.override(HOST, b"k,n,t\na,what,x\n")
    done = look(bench, csv_spec())
    assert (done.outcome.outcome, done.outcome.error_class, done.effects) == ("failed", "contract", None)


def test_a_payload_that_would_wait_in_quarantine_is_shown_with_its_reasons_and_leaves_no_record(bench, sandbox):
    rows = b"".join(b"k%03d,1,x\n" % number for number in range(200))
    for number in range(4):
        sandbox.override(HOST, b"k,n,t\n" + rows + b"more%d,1,x\n" % number)
        bench.refresh(csv_spec())
    sandbox.override(HOST, b"k,n,t\n" + rows[: len(rows) // 4 // 8 * 8].rsplit(b"\n", 1)[0] + b"\n")
    before = everything(bench.folder / "data")
    done = look(bench, csv_spec())
    assert done.outcome.outcome == "quarantined", done.outcome.message
    assert "would wait in quarantine, because" in done.outcome.message and done.effects.reasons
    assert everything(bench.folder / "data") == before


def test_a_payload_on_disk_is_read_in_place_of_asking(bench, sandbox, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("k,n,t\nz,9,x\n")
    done = look(bench, csv_spec(), file=file)
    assert (done.outcome.outcome, done.effects.added) == ("loaded", [{"k": "z", "n": "9", "t": "x"}])


@both
def test_both_warehouses_say_the_same_and_stay_as_they_are(kind, request, tmp_path):
    warehouse = opened(kind, request, tmp_path / "warehouse.duckdb")
    spec = spec_of(load={"mode": "replace_partition", "history": True}, aliases=["older"])
    rows = [{"k": k, "n": "1", "t": None} for k in "abc"]
    warehouse.commit(commit_of(spec_of("older", load=spec.load.model_dump(), table="mini"), rows, tmp_path / "s", "p"))
    before = held(warehouse, "mini")
    merged, effects = warehouse.preview(
        commit_of(spec, [{**rows[0], "n": "2", "t": "x"}, {**rows[0], "k": "d"}, rows[1]], tmp_path / "s", "p"), 5
    )
    counts = merged.state.counts
    assert (counts.added, counts.updated, counts.unchanged, counts.deleted) == (1, 1, 1, 1)
    assert (effects.columns, [row["k"] for row in effects.deleted]) == ({"n": 1, "t": 1}, ["c"])
    assert effects.updated[0].changes == {"n": ("1", "2"), "t": ("(empty)", "x")}
    assert (held(warehouse, "mini"), set(warehouse.states("older")[0])) == (before, {"p"})


def test_append_would_change_nothing_that_is_known(bench, sandbox):
    spec = csv_spec(load={"mode": "append"})
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    bench.refresh(spec)
    sandbox.override(HOST, b"k,n,t\na,2,x\nb,1,y\n")
    done = look(bench, spec)
    assert (done.outcome.counts.added, done.effects.columns, done.effects.updated) == (1, {}, ())
    assert done.outcome.notes == ["1 known rows differ in the payload and stay as they were (load.mode: append)"]


@pytest.fixture
def command(tmp_path, monkeypatch, sandbox):
    (tmp_path / "dagster.yaml").write_text("")
    write(tmp_path / "catalog", {"own/mini.yaml": MINI})
    monkeypatch.chdir(tmp_path)
    environ = {"REFRESH_CATALOG": "catalog", "REFRESH_UPSTREAM": sandbox.base}
    return lambda *words: CliRunner().invoke(main, words, env=environ)


def test_the_command_prints_counts_and_rows_and_ends_as_the_refresh_would(command, sandbox, tmp_path):
    sandbox.override(HOST, b"k,n\na,1\n")
    done = command("preview", "mini")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("own/mini would be loaded\n")
    assert "The table would be made, raw.mini: k VARCHAR, n INTEGER" in done.output
    assert "Nothing was loaded. `refresh run` does it." in done.output
    (item,) = json.loads(command("preview", "mini", "--json", "--rows", "0").stdout)["items"]
    assert (item["outcome"], item["added"], item["added_rows"], item["surprises"]) == ("loaded", 1, [], [])
    sandbox.override(HOST, b"k,n\na,x\n")
    refused = command("preview", "mini")
    assert refused.exit_code == 1 and "own/mini would be failed: own/mini: 1 of 1 rows" in refused.output
    assert not (tmp_path / "data/warehouse.duckdb").exists() and not (tmp_path / "data/dagster").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--partition", "2026"], "has no partitions"),
        (["--file", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_previewed_is_a_usage_error(command, words, said):
    done = command("preview", "mini", *words)
    assert (done.exit_code, said in done.output) == (2, True), done.output


def test_the_past_is_asked_for_by_day_or_time_and_what_is_shown_is_said(command, sandbox, tmp_path):
    asked = ["sql", "SELECT k FROM raw.mini", "--as-of"]
    spec = spec_of(columns={"k": {"type": "text"}}, load={"history": True})
    (tmp_path / "data").mkdir()
    warehouse = opened("duckdb", None, tmp_path / "data/warehouse.duckdb")
    warehouse.commit(commit_of(spec, [{"k": "a"}], tmp_path / "s"))
    then = command(*asked, NOW.date().isoformat())
    assert then.stdout.split() == ["k", "a"]
    assert then.stderr == "raw tables as they were at 2026-11-22 23:59:59.999999 UTC\n"
    document = json.loads(command(*asked, "2026-11-22T12:59:59+01:00", "--json").stdout)
    assert (document["items"], document["as_of"], document["notes"]) == ([], "2026-11-22T11:59:59+00:00", [])
    assert "--as-of yesterday: expected a day" in command(*asked, "yesterday").output
    assert command(*asked, "2999-01-01").exit_code == 2
