"""One value from several sources by priority: against a plain model, in both warehouses, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import dagster as dg
import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.orchestration.checks import own_checks
from refresh_pipelines.orchestration.verdicts import checks_of_run
from refresh_pipelines.parse import Notes
from refresh_pipelines.reconcile import query_of, reconciled
from refresh_pipelines.refresh import refresh
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.spec import Reconcile, SourceSpec
from refresh_pipelines.stage import stage
from refresh_pipelines.warehouse import Commit
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.stores import both, by_hand, opened
from refresh_pipelines_tests.workbench import Bench, builtin, commit_of, rows_of, spec_of, state_of

NAMES = ("first", "second", "third")
PRIORITIES = {"first": 0.5, "second": 0.9, "third": 0.7}
UNITS = {"kg/ha": 1.0, "hg/ha": 0.1, "t/ha": 1000.0}
SELECT = "SELECT k, n AS value, t AS unit FROM raw.{}"
WANTED = Reconcile(key=("k",), units=UNITS, tolerance="2%", sources={name: SELECT.format(name) for name in NAMES})
COLUMNS = {
    "k": {"type": "text", "nullable": False},
    "value": {"type": "double", "nullable": False},
    "source": {"type": "text"},
    "priority": {"type": "double"},
    "alternatives": {"type": "json"},
    "spread": {"type": "double"},
    "disagreement": {"type": "bool"},
}


def model(given_rows):
    """What the table should hold, said in another way: {key: (value, source, priority, others, spread, apart)}."""
    out = {}
    for key in {key for rows in given_rows.values() for key in rows}:
        found = {}
        for name in sorted(NAMES, key=lambda name: -PRIORITIES[name]):
            value, unit = given_rows[name].get(key, (None, None))
            if value is not None:
                found[name] = {"kg/ha": value, "hg/ha": value / 10, "t/ha": value * 1000}[unit]
        if not found:
            continue
        chosen, *others = found
        largest = max(map(abs, found.values()))
        spread = None if not others else (max(found.values()) - min(found.values())) / largest if largest else 0.0
        apart = spread is not None and spread > 0.02
        rest = {name: found[name] for name in others}
        out[key] = (found[chosen], chosen, PRIORITIES[chosen], rest, spread, apart)
    return out


def answer(connection):
    rows = connection.execute(reconciled(WANTED, PRIORITIES)).fetchall()
    return {key: (value, source, rank, json.loads(rest), *ends) for key, value, source, rank, rest, *ends in rows}


VALUES = st.one_of(st.none(), st.integers(-5, 2000).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))
TABLES = st.fixed_dictionaries(
    {
        name: st.dictionaries(st.sampled_from("abcdef"), st.tuples(VALUES, st.sampled_from(list(UNITS))))
        for name in NAMES
    }
)


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1; CREATE SCHEMA raw")
        for name in NAMES:
            connection.execute(f"CREATE TABLE raw.{name} (k TEXT, n DOUBLE, t TEXT)")
        yield connection


@settings(max_examples=30, deadline=None)
@given(given_rows=TABLES)
def test_what_is_chosen_is_what_a_plain_model_chooses(connection, given_rows):
    for name, rows in given_rows.items():
        connection.execute(f"DELETE FROM raw.{name}")
        if rows:
            lines = [(key, value, unit) for key, (value, unit) in rows.items()]
            connection.executemany(f"INSERT INTO raw.{name} VALUES (?, ?, ?)", lines)
    assert answer(connection) == model(given_rows)


def curated(**changes):
    values = {
        "description": "a test",
        "requires": [{"source": name} for name in NAMES],
        "derive": {"reconcile": WANTED.model_dump()},
        "columns": COLUMNS,
        "merge_key": ["k"],
        "expect": {"min_rows": 0},
        "priorities": PRIORITIES,
    }
    return SourceSpec.model_validate({**values, **changes, "group": "curated", "source": "one", "file": "one.yaml"})


def row(k, n, t="kg/ha"):
    return {"k": k, "n": n, "t": t}


def build(bench, spec):
    return refresh(spec, window_of(spec, None), replace(bench.tools(), tables=NAMES), run_id="build-01")


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, "http://127.0.0.1:1")
    load(bench.warehouse, tmp_path, first=[row("a", 100), row("b", 50)], second=[row("a", 1020, "hg/ha")], third=[])
    return bench


def load(warehouse, folder, **rows):
    warehouse.commit_all([commit_of(spec_of(name), given, folder / name) for name, given in rows.items()])


@both
def test_each_warehouse_holds_the_chosen_value_and_what_the_others_say(kind, request, tmp_path):
    bench = Bench(tmp_path, "http://127.0.0.1:1")
    bench.warehouse = opened(kind, request, tmp_path / "warehouse.duckdb")
    load(bench.warehouse, tmp_path, first=[row("a", 100), row("b", 50)], second=[row("a", 1020, "hg/ha")], third=[])
    outcome = build(bench, curated())
    assert (outcome.outcome, outcome.counts.added) == ("loaded", 2)
    query = "SELECT k, value, source, alternatives, disagreement FROM raw.one ORDER BY k"
    found = [(*line[:3], json.loads(line[3]), line[4]) for line in by_hand(bench.warehouse, query)]
    assert found == [("a", 102.0, "second", {"first": 100.0}, False), ("b", 50.0, "first", {}, False)]
    assert build(bench, curated()).outcome == "unchanged"


def test_disagreement_is_in_the_data_and_in_the_notes_and_fails_nothing(bench):
    load(bench.warehouse, bench.folder, third=[row("b", 60), row("a", 102)], first=[row("a", 90)])
    outcome = build(bench, curated())
    said = "1 of 2 values that several sources give lies more than 2% apart: a (second 102, third 102, first 90: 11.8%)"
    assert "b (third 60, first 50: 16.7%)" not in said
    assert outcome.outcome == "loaded"
    [note] = outcome.disagreements
    assert note in outcome.notes
    assert note.startswith(
        "2 of 2 values that several sources give lie more than 2% apart: b (third 60, first 50: 16.7%)"
    )
    # Also while nothing changes: it is true still.
    assert build(bench, curated()).disagreements == (note,)


def test_a_source_without_the_value_leaves_it_to_the_other_and_without_any_there_is_no_row(bench):
    load(bench.warehouse, bench.folder, second=[row("a", None), row("c", None)])
    build(bench, curated())
    assert rows_of(bench.warehouse, "SELECT k, source FROM raw.one ORDER BY k") == [("a", "first"), ("b", "first")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"units": {"kg/ha": 1}}, "second gives a value in hg/ha, which derive.reconcile.units lacks"),
        ({"sources": {**WANTED.sources, "first": "SELECT k, n AS value, t AS unit FROM raw.first UNION ALL "
                      "SELECT 'a', 1, 'kg/ha' FROM raw.first"}}, "first has more than one value for a"),
        ({"sources": {**WANTED.sources, "first": "SELECT k, n AS value FROM raw.first"}}, "unit"),
        ({"sources": {**WANTED.sources, "first": "SELECT k, t AS value, t AS unit FROM raw.first"}}, "kg/ha"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_ends_the_build_and_leaves_the_table(bench, changes, said):
    build(bench, curated())
    before = bench.rows("one")
    spec = curated(derive={"reconcile": {**WANTED.model_dump(), **changes}})
    with pytest.raises(ContractViolation) as caught:
        build(bench, spec)
    assert said in str(caught.value)
    assert bench.rows("one") == before


def test_without_units_values_are_compared_as_they_are(bench):
    plain = {name: f"SELECT k, n AS value FROM raw.{name}" for name in NAMES}
    build(bench, curated(derive={"reconcile": {"key": ["k"], "tolerance": "2%", "sources": plain}}))
    assert rows_of(bench.warehouse, "SELECT value, disagreement FROM raw.one WHERE k = 'a'") == [(1020.0, True)]


def test_a_tenth_is_a_division_so_that_no_digits_appear():
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA raw; CREATE TABLE raw.first (k TEXT, n DOUBLE, t TEXT)")
        connection.execute("INSERT INTO raw.first VALUES ('a', 13573, 'hg/ha')")
        found = connection.execute(reconciled(WANTED, {"first": 0.9})).fetchall()
    assert found[0][1] == 1357.3 != 13573 * 0.1


# The catalogue: priorities come from the sources' own files.

SOURCE = """
description: a test
priority: {priority}
request: {{url: "https://example.org/{name}.json"}}
format: json
columns: {{k: {{type: text}}, n: {{type: double}}, t: {{type: text}}}}
merge_key: [k]
schedule: {{frequency: daily}}
"""
ONE = """
description: a test
requires: [{source: left}, {source: right}]
derive:
  reconcile:
    key: [k]
    tolerance: 2%
    sources:
      left: SELECT k, n AS value FROM raw.left
      right: SELECT k, n AS value FROM raw.right
columns: {k: {type: text}, value: {type: double}, source: {type: text}}
merge_key: [k]
"""


def catalogue(folder, one=ONE, left="0.9", right="0.8"):
    for group, name, text in (
        ("raw_ones", "left", SOURCE.format(name="left", priority=left)),
        ("raw_ones", "right", SOURCE.format(name="right", priority=right)),
        ("curated", "one", one),
    ):
        (folder / group).mkdir(exist_ok=True)
        (folder / group / f"{name}.yaml").write_text(text.replace("priority: -\n", ""))
    return load_catalogue([folder])


def test_priorities_are_read_from_the_sources_files_and_another_one_builds_anew(tmp_path):
    before = catalogue(tmp_path).find("one")
    assert before.priorities == {"left": 0.9, "right": 0.8}
    after = catalogue(tmp_path, right="0.95").find("one")
    assert after.priorities == {"left": 0.9, "right": 0.95}
    assert before.spec_hash != after.spec_hash
    assert "0.95" in query_of(after)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"right": "0.9"}, "raw_ones/right has the priority 0.9, as raw_ones/left has"),
        ({"right": "-"}, "raw_ones/right has no priority (say priority: in "),
        ({"one": ONE.replace("FROM raw.right", "FROM raw.left")}, "no required source loads raw.left"),
        ({"one": ONE.replace("SELECT k, n AS value FROM raw.right", "SELECT * FROM raw.right")}, "without *"),
        ({"one": ONE.replace(", {source: right}", "")}, "right is not among the required sources"),
        ({"one": ONE.replace("source: {type: text}", "sources: {type: text}")}, "sources is not what reconcile gives"),
        ({"one": ONE.replace("merge_key: [k]", "merge_key: [source]")}, "the merge key is that of reconcile (k)"),
        ({"one": ONE.replace("2%", "two")}, r"derive.reconcile.tolerance must match \d{1,3}(\.\d+)?%"),
        (
            {"one": ONE.replace("    key: [k]", "    key: [k]\n    units: {kg: 0}")},
            "the factor of kg must be a number above 0",
        ),
        ({"one": ONE.replace("key: [k]", "key: [value]")}, "key: value must match"),
        ({"one": ONE.replace("  reconcile:", "  query: SELECT 1\n  reconcile:")}, "exactly one of query and reconcile"),
    ],
)
def test_what_cannot_be_chosen_by_is_said_before_anything_runs(tmp_path, changes, said):
    found = catalogue(tmp_path, **changes)
    assert said in "\n".join(map(str, found.problems))
    assert "one" not in found.sources


# The first curated table, against values worked out by hand from the samples.

YIELD = builtin("cereal_yield")


def test_the_builtin_table_takes_faostat_first_and_says_where_it_disagrees(tmp_path):
    bench = Bench(tmp_path, "http://127.0.0.1:1")
    for source, key, pages in (
        ("faostat", "QCL", ["QCL.zip"]),
        ("worldbank_agriculture", "AG.YLD.CREL.KG", ["AG.YLD.CREL.KG.1.json", "AG.YLD.CREL.KG.2.json"]),
    ):
        spec, folder = builtin(source), SAMPLES / source
        paths = [folder / page for page in pages]
        ready = stage(spec, paths, window_of(spec, key), tmp_path / f"{source}.arrow", Notes())
        bench.warehouse.commit(Commit(spec, key, ready, state_of(spec, key, content_hash=ready.content_hash)))
    tools = replace(bench.tools(), tables=("faostat_observation", "worldbank_observation"))
    outcome = refresh(YIELD, window_of(YIELD, None), tools, run_id="build-01")
    assert outcome.counts.added == 65  # 1961 to 2025
    query = "SELECT year, kg_per_ha, source, alternatives, disagreement FROM raw.cereal_yield WHERE year > 2016"
    found = {line[0]: line[1:] for line in rows_of(bench.warehouse, query)}
    assert found[2017] == (1369.4, "worldbank_agriculture", "{}", False)  # FAOSTAT: flag M, no value
    assert found[2020] == (1425.0, "faostat", '{"worldbank_agriculture": 1379.3}', True)  # 3.2 % apart
    assert found[2023] == (1372.0, "faostat", '{"worldbank_agriculture": 1369.7}', False)
    assert found[2025] == (1448.0, "faostat", "{}", False)  # the Bank has none yet
    assert "BEN 2020 (faostat 1425, worldbank_agriculture 1379.3: 3.2%)" in outcome.disagreements[0]


def test_the_builtin_catalogue_chooses_by_the_priorities_that_were_asked_for():
    assert YIELD.priorities == {"faostat": 0.9, "worldbank_agriculture": 0.8}
    assert not load_catalogue([BUILTIN_CATALOG]).problems


@pytest.mark.parametrize(("apart", "passed"), [((), True), (("1 of 7 values lies apart",), False)])
def test_the_check_agree_warns_and_is_asked_of_each_run(tmp_path, apart, passed):
    assert [key.name for key in own_checks(YIELD)] == ["agree"]
    [result] = checks_of_run(YIELD, Bench(tmp_path, "http://127.0.0.1:1").settings, [], [], apart)
    assert (result.check_name, result.passed, result.severity) == ("agree", passed, dg.AssetCheckSeverity.WARN)
    assert passed or result.description == apart[0]
    assert own_checks(builtin("fx_daily")) == []
