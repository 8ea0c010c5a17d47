"""A source that is made in the warehouse from others: its query, its counts, and what it may not do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.outcome import Counts
from refresh_pipelines.parse import Notes
from refresh_pipelines.refresh import refresh
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import stage
from refresh_pipelines.warehouse import Commit
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.workbench import Bench, builtin, commit_of, rows_of, spec_of, state_of

INPUT = spec_of("input")
DOUBLED = "SELECT input.k AS k, 2 * input.n AS n, input.t AS t FROM raw.input input"


def derived(query=DOUBLED, **changes):
    values = {
        "description": "a test",
        "requires": [{"source": "input"}],
        "derive": {"query": query},
        "columns": {"k": {"type": "text", "nullable": False}, "n": {"type": "int"}, "t": {"type": "text"}},
        "merge_key": ["k"],
        "expect": {"min_rows": 0},
    }
    return SourceSpec.model_validate({**values, **changes, "group": "benin", "source": "twice", "file": "twice.yaml"})


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, "http://127.0.0.1:1")


def load(bench, rows, spec=INPUT, **state):
    bench.warehouse.commit(commit_of(spec, rows, bench.folder / "given", **state))


def build(bench, spec, tables=("input",), **options):
    tools = replace(bench.tools(), tables=tables)
    return refresh(spec, window_of(spec, None), tools, run_id="build-01", **options)


def values(bench):
    return rows_of(bench.warehouse, "SELECT k, n, t FROM raw.twice ORDER BY k")


def row(k, n, t="x"):
    return {"k": k, "n": n, "t": t}


def test_a_build_loads_what_the_query_gives_with_exact_counts(bench):
    load(bench, [row("a", 1), row("b", None)])
    outcome = build(bench, derived())
    assert (outcome.outcome, outcome.counts) == ("loaded", Counts(fetched=2, added=2))
    assert values(bench) == [("a", 2, "x"), ("b", None, "x")]
    assert (outcome.partition_rows, outcome.trigger) == (2, "manual")
    assert bench.stages == ["fetched", "staged", "merged", "committed"]


def test_rows_that_are_gone_from_the_result_are_deleted(bench):
    load(bench, [row("a", 1), row("b", 1), row("c", 1)])
    build(bench, derived())
    spec = derived(f"{DOUBLED} WHERE input.k <> 'b'")
    bench.warehouse.commit(commit_of(INPUT, [row("a", 5), row("d", 1)], bench.folder / "given"))
    outcome = build(bench, spec)
    assert outcome.counts == Counts(fetched=3, added=1, updated=1, unchanged=1, deleted=1)
    assert [key for key, _, _ in values(bench)] == ["a", "c", "d"]


def test_the_same_result_is_unchanged_and_keeps_its_data_version(bench):
    load(bench, [row("a", 1), row("b", 2)])
    first = build(bench, derived())
    second = build(bench, derived())
    assert (second.outcome, second.data_version) == ("unchanged", first.data_version)
    assert second.counts == Counts(fetched=2, unchanged=2)


def test_the_same_rows_in_another_order_are_unchanged(bench):
    load(bench, [row("a", 1), row("b", 2)])
    first = build(bench, derived(f"{DOUBLED} ORDER BY k"))
    second = build(bench, derived(f"{DOUBLED} ORDER BY k DESC"))
    assert (second.outcome, second.data_version) == ("unchanged", first.data_version)


def test_numbers_come_out_of_the_text_as_they_went_in(bench):
    load(bench, [row("a", 3)])
    spec = derived(
        "SELECT input.k AS k, 1.0::DOUBLE / input.n AS third, DATE '2026-01-31' AS day, true AS yes,"
        " TIMESTAMPTZ '2026-01-31 12:00:00.25+02' AS moment, 0.1::DECIMAL(9, 4) AS exact, 9007199254740993 AS big"
        " FROM raw.input input",
        columns={
            "k": {"type": "text"},
            "third": {"type": "double"},
            "day": {"type": "date"},
            "yes": {"type": "bool"},
            "moment": {"type": "timestamptz"},
            "exact": {"type": "decimal(9,4)"},
            "big": {"type": "bigint"},
        },
    )
    build(bench, spec)
    query = "SELECT third = 1.0::DOUBLE / 3, day::TEXT, yes, moment::TEXT, exact::TEXT, big FROM raw.twice"
    assert rows_of(bench.warehouse, query) == [
        (True, "2026-01-31", True, "2026-01-31 10:00:00.25+00", "0.1000", 9007199254740993)
    ]


def refused(bench, query, tables=("input",), **changes):
    with pytest.raises(ContractViolation) as caught:
        build(bench, derived(query, **changes), tables)
    assert rows_of(bench.warehouse, "SELECT count(*) FROM refresh.load_state WHERE source = 'twice'") == [(0,)]
    return str(caught.value)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT input.nope AS k FROM raw.input input", 'does not have a column named "nope"'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT t.k, t.n, t.t FROM raw.gone t", "the query reads a table that no required source loads"),
        ("SELECT k, n, t FROM input", "tables are named with their schema"),
        ("SELECT 1; SELECT 2", "derive.query is not one SELECT"),
        ("DROP TABLE raw.input", "derive.query is not one SELECT"),
        ("SELECT k, n AS k FROM raw.input", "the query gives k more than once"),
        ("SELECT k, n FROM raw.input", "column 't' (read from 't') is missing from the payload"),
        ("SELECT k, 'many' AS n, t FROM raw.input", "n='many' is no int"),
        ("SELECT k, n, error('no') AS t FROM raw.input", "no"),
    ],
)
def test_a_query_that_cannot_give_the_table_is_told_and_loads_nothing(bench, query, said):
    load(bench, [row("a", 1)])
    assert said in refused(bench, query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT content AS k, 1 AS n, '' AS t FROM read_text('{file}')",
        "SELECT k, n, t FROM raw.input UNION ALL SELECT content, 1, '' FROM read_text('{file}')",
        "SELECT k, n, t FROM '{file}'",
    ],
)
def test_a_query_reads_no_files(bench, tmp_path, query):
    load(bench, [row("a", 1)])
    (tmp_path / "secret.csv").write_text("k,n,t\nplanted,1,x\n")
    assert "planted" not in refused(bench, query.format(file=tmp_path / "secret.csv"))


def test_a_query_may_read_only_tables_of_required_sources(bench):
    load(bench, [row("a", 1)])
    load(bench, [row("a", 1)], spec_of("other"), run_id="run2")
    said = refused(bench, "SELECT i.k, i.n, o.t FROM raw.input i JOIN raw.other o ON o.k = i.k")
    assert "expected raw.input; got raw.other" in said


def test_names_of_a_with_clause_are_no_tables_and_asof_joins_pass(bench):
    load(bench, [row("a", 1), row("b", 2)])
    query = (
        "WITH first AS (SELECT k, n, t FROM raw.input), second AS (SELECT k, n FROM first)"
        " SELECT first.k, second.n, first.t FROM first ASOF JOIN second ON first.n >= second.n"
    )
    build(bench, derived(query))
    assert values(bench) == [("a", 1, "x"), ("b", 2, "x")]


def test_a_build_that_dies_in_the_commit_leaves_the_table_as_it_was(bench):
    load(bench, [row("a", 1)])
    build(bench, derived())
    load(bench, [row("a", 2)])

    def die(stage):
        if stage == "merged":
            raise KeyboardInterrupt

    tools = replace(bench.tools(), tables=("input",), progress=die)
    with pytest.raises(KeyboardInterrupt):
        refresh(derived(), window_of(derived(), None), tools, run_id="build-02")
    assert values(bench) == [("a", 2, "x")]
    assert build(bench, derived()).counts == Counts(fetched=1, updated=1)


# The first derived source, against values worked out by hand from the samples.

FX, CONDITIONS, DAILY = builtin("fred_fx"), builtin("fred_conditions"), builtin("fx_daily")


def load_samples(bench, revised=()):
    for spec in (FX, CONDITIONS):
        folder, commits = SAMPLES / spec.source, []
        for key in spec.partitions.static["series_id"]:
            path = folder / "revised" / f"{key}.json" if key in revised else folder / f"{key}.json"
            ready = stage(spec, [path], window_of(spec, key), bench.folder / f"{key}.arrow", Notes())
            commits.append(Commit(spec, key, ready, state_of(spec, key, content_hash=ready.content_hash)))
        bench.warehouse.commit_all(commits)


def fx(bench, day, currency):
    names = (
        "usd_per_unit, units_per_usd, staleness_days, units_per_eur, staleness_days_eur, usd_index,"
        " staleness_days_usd_index, nfci, staleness_days_nfci"
    )
    [found] = rows_of(
        bench.warehouse, f"SELECT {names} FROM raw.fx_daily WHERE obs_date = '{day}' AND currency = '{currency}'"
    )
    return found


@pytest.fixture
def rates(bench):
    load_samples(bench)
    outcome = build(bench, DAILY, {"fred_economic"})
    # 25 weekdays from 2026-09-21 to 2026-10-23 and seven currencies.
    assert outcome.counts == Counts(fetched=175, added=175)
    return bench


def test_rates_are_quoted_both_ways_and_cross_by_way_of_the_dollar(rates):
    # DEXUSEU 1.1624 (dollars per euro), DEXBZUS 5.404 (reais per dollar), DTWEXBGS 121.2857, NFCI of Friday the 9th.
    assert fx(rates, "2026-10-13", "EUR") == pytest.approx((1.1624, 0.860289057, 0, 1.0, 0, 121.2857, 0, -0.54037, 4))
    assert fx(rates, "2026-10-13", "BRL") == pytest.approx(
        (0.185048113, 5.404, 0, 6.2816096, 0, 121.2857, 0, -0.54037, 4)
    )
    # DEXUSUK 1.3463 dollars per pound: 1.1624 / 1.3463 pounds per euro.
    assert fx(rates, "2026-10-13", "GBP")[:4] == pytest.approx((1.3463, 0.742776499, 0, 0.863403402))
    # DEXJPUS 150.29 yen per dollar.
    assert fx(rates, "2026-10-13", "JPY")[:4] == pytest.approx((0.00665380265, 150.29, 0, 174.697096))


def test_a_holiday_repeats_friday_and_says_so(rates):
    # 2026-10-12 is a holiday: DEXUSEU 1.1587 and DEXBZUS 5.4214 of Friday the 9th.
    assert fx(rates, "2026-10-12", "BRL") == pytest.approx(
        (0.184454200, 5.4214, 3, 6.28177618, 3, 121.1156, 3, -0.54037, 3)
    )


def test_weekends_are_left_out(rates):
    query = "SELECT count(*) FILTER (isodow(obs_date) > 5), min(obs_date)::TEXT, max(obs_date)::TEXT FROM raw.fx_daily"
    assert rows_of(rates.warehouse, query) == [(0, "2026-09-21", "2026-10-23")]


def test_a_rate_is_repeated_for_ten_days_and_then_left_out(bench):
    load_samples(bench)
    with_gap = json.loads((SAMPLES / "fred_fx" / "DEXBZUS.json").read_text())
    for one in with_gap["observations"]:
        if "2026-10-01" < one["date"] < "2026-10-20":
            one["value"] = "."
    bench.warehouse.retire("fred_fx")
    path = bench.folder / "gap.json"
    path.write_text(json.dumps(with_gap))
    ready = stage(FX, [path], window_of(FX, "DEXBZUS"), bench.folder / "gap.arrow", Notes())
    bench.warehouse.commit(Commit(FX, "DEXBZUS", ready, state_of(FX, "DEXBZUS", content_hash=ready.content_hash)))
    build(bench, DAILY, {"fred_economic"})
    query = "SELECT max(obs_date)::TEXT, max(staleness_days) FROM raw.fx_daily WHERE obs_date < '2026-10-20'"
    # Thursday the 1st is repeated until Friday the 9th; Monday the 12th would be eleven days.
    assert rows_of(bench.warehouse, query) == [("2026-10-09", 8)]


def test_every_rate_has_a_cross_and_indices_stay_within_their_limits(rates):
    query = (
        "SELECT count(*) FILTER (units_per_eur IS NULL), max(staleness_days_usd_index), max(staleness_days_nfci)"
        " FROM raw.fx_daily"
    )
    assert rows_of(rates.warehouse, query) == [(0, 3, 6)]


def test_a_revised_rate_changes_its_days_and_every_cross_of_them(bench):
    load_samples(bench)
    build(bench, DAILY, {"fred_economic"})
    load_samples(bench, revised=("DEXUSEU",))
    outcome = build(bench, DAILY, {"fred_economic"})
    # Three revised days of seven currencies; a week of five new days, for which only the euro has observations.
    assert (outcome.counts.updated, outcome.counts.added, outcome.counts.deleted) == (21, 35, 0)
    assert fx(bench, "2026-10-30", "BRL")[2] == 7
