"""The World Bank's indicators: pages, refusals under status 200 and withdrawn years."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, rows_of

FARMING, WORK, FIRMS = builtin("worldbank_agriculture"), builtin("worldbank_employment"), builtin("worldbank_business")
PATH = "/api.worldbank.org/v2/country/BEN/indicator/"
YIELD, ARABLE = "AG.YLD.CREL.KG", "AG.LND.ARBL.ZS"


@pytest.fixture
def sandbox():
    with Sandbox([SAMPLES], clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def sample(name, source="worldbank_agriculture"):
    return (SAMPLES / source / name).read_bytes()


def test_a_series_in_two_pages_is_one_load(bench, sandbox):
    outcome = bench.refresh(FARMING, YIELD)
    assert (outcome.outcome, outcome.counts) == ("loaded", Counts(fetched=66, added=66))
    assert [request.query["page"] for request in sandbox.requests] == ["1", "2"]
    assert {request.query["format"] for request in sandbox.requests} == {"json"}
    assert f"{outcome.published_at:%Y-%m-%d}" == "2026-10-14"


def test_a_period_without_a_value_is_a_row(bench):
    bench.refresh(FARMING, YIELD)
    statement = (
        "SELECT date, iso3, decimals, source_id, upstream_last_updated::text, indicator_name"
        " FROM raw.worldbank_observation WHERE value IS NULL ORDER BY date"
    )
    rest = ("BEN", 1, 2, "2026-10-14", "Cereal yield (kg per hectare)")
    assert rows_of(bench.warehouse, statement) == [("1960", *rest), ("2025", *rest)]


def test_a_release_adds_a_year_changes_values_and_drops_a_withdrawn_year(bench, sandbox):
    bench.refresh(FARMING, YIELD)
    sandbox.revision = "revised"
    outcome = bench.refresh(FARMING, YIELD)
    assert outcome.counts == Counts(fetched=66, added=1, updated=2, unchanged=63, deleted=1)


def test_a_value_that_is_withdrawn_becomes_a_row_without_one(bench, sandbox):
    bench.refresh(FIRMS, "IC.BUS.NDNS.ZS")
    sandbox.revision = "revised"
    outcome = bench.refresh(FIRMS, "IC.BUS.NDNS.ZS")
    assert outcome.counts == Counts(fetched=20, added=1, updated=2, unchanged=17, deleted=1)
    assert rows_of(bench.warehouse, "SELECT value FROM raw.worldbank_observation WHERE date = '2022'") == [(None,)]


def test_a_release_of_the_database_alone_is_no_change(bench, sandbox):
    first = bench.refresh(FARMING, ARABLE)
    sandbox.revision = "revised"
    outcome = bench.refresh(FARMING, ARABLE)
    assert (outcome.outcome, outcome.counts) == ("unchanged", Counts(fetched=16, unchanged=16))
    assert outcome.data_version == first.data_version


def test_the_three_sources_share_a_table_and_no_indicator(bench):
    specs = (FARMING, WORK, FIRMS)
    indicators = [key for spec in specs for key in spec.partitions.static["indicator"]]
    assert len(set(indicators)) == len(indicators)
    for spec, key in zip(specs, (ARABLE, "SL.UEM.TOTL.ZS", "IC.BUS.NREG"), strict=True):
        assert bench.refresh(spec, key).success
    statement = "SELECT _source, count(*) FROM raw.worldbank_observation GROUP BY ALL ORDER BY ALL"
    assert rows_of(bench.warehouse, statement) == [
        ("worldbank_agriculture", 16), ("worldbank_business", 20), ("worldbank_employment", 16),
    ]  # fmt: skip


def test_an_indicator_nobody_knows_is_refused_with_the_banks_words(bench):
    with pytest.raises(UpstreamRefused, match="Invalid value"):
        bench.refresh(FARMING, "AG.MADE.UP")


@pytest.mark.parametrize("broken", ["header-only.json", "rows-null.json", "bad/deleted.json", "bad/truncated.json"])
def test_an_answer_without_data_leaves_the_table_as_it_was(bench, sandbox, broken):
    bench.refresh(FARMING, ARABLE)
    before = bench.rows("worldbank_observation")
    sandbox.override(PATH + ARABLE, sample(broken))
    with pytest.raises(RefreshError):
        bench.refresh(FARMING, ARABLE)
    assert bench.rows("worldbank_observation") == before


@pytest.mark.parametrize("header", ["header-only.json", "rows-null.json"])
def test_a_series_that_never_had_a_value_is_empty_and_no_failure(bench, sandbox, header):
    sandbox.override(PATH + ARABLE, sample(header))
    outcome = bench.refresh(FARMING, ARABLE)
    assert (outcome.outcome, outcome.success, outcome.counts) == ("empty", True, Counts())


def test_a_page_of_server_trouble_under_status_200_is_asked_again_slowly(bench, sandbox):
    sandbox.override(PATH + ARABLE, sample("bad/request-error.html"), 200, {"Content-Type": "text/html"})
    with pytest.raises(UpstreamRefused, match="web page"):
        bench.refresh(FARMING, ARABLE)
    assert len([wait for wait in bench.slept if wait > 5]) == 2


def test_pages_that_are_not_all_rows_load_nothing(bench, sandbox):
    bench.refresh(FARMING, YIELD)
    before = bench.rows("worldbank_observation")
    document = json.loads(sample(f"revised/{YIELD}.2.json"))
    document[1].pop()
    sandbox.revision = "revised"
    sandbox.override(f"{PATH}{YIELD}?page=2", json.dumps(document).encode())
    with pytest.raises(UpstreamUnavailable, match="66 rows"):
        bench.refresh(FARMING, YIELD)
    assert bench.rows("worldbank_observation") == before


def test_a_series_cut_short_is_refused(bench, sandbox):
    bench.refresh(FARMING, ARABLE)
    header, rows = json.loads(sample(f"{ARABLE}.1.json"))
    sandbox.override(PATH + ARABLE, json.dumps([{**header, "total": 10}, rows[:10]]).encode())
    with pytest.raises(ContractViolation, match="6 gone: 2010, 2011"):
        bench.refresh(FARMING, ARABLE)


def test_an_answer_about_another_indicator_is_refused_also_at_the_first_load(bench, sandbox):
    sandbox.override(PATH + ARABLE, sample("AG.LND.AGRI.ZS.1.json"))
    with pytest.raises(ContractViolation, match=f"indicator.id='AG.LND.AGRI.ZS' is no text, .*, equal to {ARABLE}"):
        bench.refresh(FARMING, ARABLE)
    assert not bench.warehouse.path.exists()


def test_a_byte_order_mark_changes_nothing(bench, sandbox):
    sandbox.override(PATH + ARABLE, b"\xef\xbb\xbf" + sample(f"{ARABLE}.1.json"))
    assert bench.refresh(FARMING, ARABLE).counts == Counts(fetched=16, added=16)


def test_an_error_page_of_the_server_is_asked_again_slowly(bench, sandbox):
    sandbox.override(PATH + ARABLE, sample("bad/request-error.html"), 400)
    with pytest.raises(UpstreamRefused):
        bench.refresh(FARMING, ARABLE)
    assert len([wait for wait in bench.slept if wait > 5]) == 2


def test_other_countries_come_from_the_environment(tmp_path, sandbox):
    sources = load_catalogue([BUILTIN_CATALOG], {"REFRESH_PARAM_BENIN_COUNTRY": "BEN;TGO"}).sources
    sandbox.override("/api.worldbank.org/v2/country/BEN;TGO/indicator/" + ARABLE, sample(f"{ARABLE}.1.json"))
    assert Bench(tmp_path, sandbox.base).refresh(sources["worldbank_agriculture"], ARABLE).success


def test_the_documented_period_starts_are_first_days(bench, sandbox):
    header, rows = json.loads(sample(f"{ARABLE}.1.json"))
    written = {"2021M11": "2021-11-01", "2020Q3": "2020-07-01", "2019": "2019-01-01"}
    rows = [{**row, "date": period} for row, period in zip(rows, written, strict=False)]
    sandbox.override(PATH + ARABLE, json.dumps([{**header, "total": 3}, rows]).encode())
    bench.refresh(FARMING, ARABLE)
    document = Path(__file__).parent.parent / "docs" / "tables" / "worldbank_observation.md"
    statement = document.read_text().split("```sql\n")[1].split("```")[0]
    found = rows_of(bench.warehouse, f"SELECT date, period_start::text FROM ({statement})")
    assert dict(found) == written
