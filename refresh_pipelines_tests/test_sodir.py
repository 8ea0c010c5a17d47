"""The two Sodir sources: samples through parser and contract, and refreshes against the sandbox."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from decimal import Decimal

import pytest

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse import Notes
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import require_rows, stage
from refresh_pipelines.window import Window
from refresh_pipelines_tests import make_sodir_samples
from refresh_pipelines_tests.make_sodir_samples import layer, production, production_rows
from refresh_pipelines_tests.upstream import Upstream, answer, fetch
from refresh_pipelines_tests.workbench import NOW, Bench, builtin

FACILITIES, PRODUCTION = builtin("sodir_facilities"), builtin("sodir_field_production")
REPORT = "/factpages.sodir.no/public"
GOOD = production_rows(range(1, 7))


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


@pytest.fixture
def staged(tmp_path):
    def rows(spec, body):
        payload = tmp_path / "payload"
        payload.write_bytes(body)
        result = stage(spec, [payload], Window(), tmp_path / "rows.arrow", Notes())
        require_rows(spec, result)
        return result.table().to_pylist()

    return rows


def test_the_samples_are_what_the_script_builds():
    def content(body):
        if not zipfile.is_zipfile(io.BytesIO(body)):
            return body[:4] if body.startswith(b"PK") else body  # compressed bytes differ between versions of zlib
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return [(m.filename, m.date_time, archive.read(m)) for m in archive.infolist()]

    for source, build in make_sodir_samples.BUILT.items():
        for name, built in build().items():
            assert content((SAMPLES / source / name).read_bytes()) == content(built), name


def test_a_layer_of_one_row_of_commas_is_an_empty_layer(staged):
    for rows in ([], [[""] * 43]):
        with pytest.raises(ContractViolation, match="too few rows"):
            staged(FACILITIES, layer(rows))


def test_a_facility_without_a_place_has_no_geometry_and_no_datum(staged):
    rows = {row["name"]: row for row in staged(FACILITIES, layer(make_sodir_samples.facilities()))}
    ship, removed = rows["SAMPLE PIONEER"], rows["SAMPLE 22"]
    assert (ship["geometry_wkt"], ship["geodetic_datum"], ship["startup_date"]) == (None, None, None)
    assert ship["responsible_name"] == 'Made Up Shipping, "Sample" AS'
    assert rows["SAMPLE 01"]["geometry_wkt"] == "POINT (2.1112345 61.1154321)"
    assert (removed["slots_gross"], removed["slots_net"], removed["functions"]) == (None, 4, None)


def test_a_layer_is_replaced_as_a_whole(bench, sandbox):
    assert bench.refresh(FACILITIES).counts.added == 24
    sandbox.revision = "revised"
    counts = bench.refresh(FACILITIES).counts
    assert (counts.added, counts.updated, counts.deleted, counts.unchanged) == (1, 1, 1, 22)


def test_a_layer_that_lost_many_facilities_is_refused_and_the_table_kept(bench, sandbox):
    bench.refresh(FACILITIES)
    half = layer(make_sodir_samples.facilities()[:12])
    sandbox.override("/factpages.sodir.no/downloads/csv/fclPoint.zip", half)
    with pytest.raises(ContractViolation, match="npdid"):
        bench.refresh(FACILITIES)
    assert len(bench.rows("sodir_facilities")) == 24


def test_the_report_is_asked_for_with_exactly_the_declared_query(tmp_path):
    body = (SAMPLES / "sodir_field_production" / "field_production_monthly.csv").read_bytes()
    with Upstream(answer(body)) as upstream:
        fetch(PRODUCTION, upstream, tmp_path)
    (method, target, _, _) = upstream.seen[0]
    assert (method, target) == ("GET", "/factpages.sodir.no/public?" + PRODUCTION.request.url.partition("?")[2])


def test_the_sandbox_answers_this_report_and_no_other(bench, sandbox):
    bench.refresh(PRODUCTION)
    query = sandbox.requests[0].query
    assert query["/Factpages/external/tableview/field_production_monthly"] == ""
    assert (query["rs:Format"], query["Top100"], query["CultureCode"]) == ("CSV", "false", "en")
    other, _ = sandbox.answer("GET", f"{REPORT}?/Factpages/external/tableview/field&rs:Format=CSV&Top100=false", {})
    assert other.status == 404


def test_volumes_are_exact_and_months_are_dates(staged):
    rows = {(row["carrier_name"], row["production_month"]): row for row in staged(PRODUCTION, production(GOOD))}
    troll = rows["TROLL", date(2026, 1, 1)]
    theirs = next(row for row in GOOD if row[:3] == ["TROLL", "2026", "1"])
    names = ("oil_msm3", "gas_bsm3", "ngl_msm3", "condensate_msm3", "oe_msm3", "water_msm3")
    assert [troll[name] for name in names] == [Decimal(text) for text in theirs[3:9]]
    assert rows["BRYNHILD", date(2018, 8, 1)]["oil_msm3"] == Decimal("-0.001")
    assert ("SAMPLE DISCOVERY, NORTH", date(2026, 6, 1)) in rows


def test_corrected_late_and_withdrawn_months_are_followed(bench, sandbox):
    assert bench.refresh(PRODUCTION).counts.added == 44
    sandbox.revision = "revised"
    counts = bench.refresh(PRODUCTION).counts
    assert (counts.added, counts.updated, counts.deleted, counts.unchanged) == (7, 1, 1, 42)


def test_an_export_that_stops_in_the_alphabet_is_refused_on_the_first_load_too(bench, sandbox):
    half = (SAMPLES / "sodir_field_production" / "bad" / "half-alphabet.csv").read_bytes()
    sandbox.override(REPORT, half)
    with pytest.raises(ContractViolation, match="STATFJORD, TROLL, VALHALL, ÅSGARD"):
        bench.refresh(PRODUCTION)
    sandbox.clear()
    assert bench.refresh(PRODUCTION).outcome == "loaded"


def test_an_export_without_one_carrier_the_table_has_is_refused(bench, sandbox):
    bench.refresh(PRODUCTION)
    sandbox.override(REPORT, production(row for row in GOOD if row[0] != "EKOFISK"))
    with pytest.raises(ContractViolation, match="990003"):
        bench.refresh(PRODUCTION)
    assert len(bench.rows("sodir_field_production")) == 44


def test_another_culture_is_refused(staged):
    bad = SAMPLES / "sodir_field_production" / "bad"
    for name in ("brackets.csv", "norwegian.csv", "year-total.csv"):
        with pytest.raises(ContractViolation):
            staged(PRODUCTION, (bad / name).read_bytes())


def test_the_report_servers_page_is_refused_or_tried_again_by_its_status(bench, sandbox):
    page = (SAMPLES / "sodir_field_production" / "bad" / "error-500.html").read_bytes()
    sandbox.override(REPORT, page)
    with pytest.raises(UpstreamRefused, match="with a web page"):
        bench.refresh(PRODUCTION)
    sandbox.override(REPORT, page, status=500)
    with pytest.raises(UpstreamUnavailable, match="500"):
        bench.refresh(PRODUCTION)
