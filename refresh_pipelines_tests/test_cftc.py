"""The Commitments of Traders, from the API and from the yearly files."""

from __future__ import annotations

import io
import json
import runpy
import zipfile
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, rows_of

BUILT: dict[str, bytes] = runpy.run_path(str(Path(__file__).with_name("make_cftc_samples.py")))["cftc_archives"]()
COT, HISTORY = builtin("cftc_cot"), builtin("cftc_cot_history")
API = "/publicreporting.cftc.gov/resource/72hh-3qpy.json"
OIL, WHEAT, OATS = "007601", "001602", "004603"


@pytest.fixture
def sandbox():
    with Sandbox([SAMPLES], clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def test_a_contract_is_asked_for_by_its_code_in_order_and_in_pages(bench, sandbox):
    bench.refresh(COT, OIL)
    assert dict(sandbox.requests[0].query) == {
        "cftc_contract_market_code": OIL,
        "$where": "report_date_as_yyyy_mm_dd >= '2006-06-13T00:00:00.000'",
        "$order": "report_date_as_yyyy_mm_dd",
        "$limit": "1000",
        "$offset": "0",
    }


def test_a_week_published_late_is_found_and_a_corrected_one_updated(bench, sandbox):
    assert bench.refresh(COT, OIL).counts == Counts(fetched=3, added=3)
    sandbox.revision = "revised"
    assert bench.refresh(COT, OIL).counts == Counts(fetched=5, added=2, updated=1, unchanged=2)
    # 26 weeks before 2026-10-20.
    assert "2026-04-21T00:00:00.000" in sandbox.requests[-1].query["$where"]


def test_a_contract_that_changes_its_name_stays_the_same(bench, sandbox):
    bench.refresh(COT, WHEAT)
    sandbox.revision = "revised"
    assert bench.refresh(COT, WHEAT).counts == Counts(fetched=4, updated=4)
    assert rows_of(bench.warehouse, "SELECT DISTINCT contract_code, market_name FROM raw.cftc_cot") == [
        (WHEAT, "WHEAT-SRW - CHICAGO BOARD OF TRADE")
    ]


def test_texts_become_whole_numbers_and_members_left_out_no_value(bench):
    bench.refresh(COT, OATS)
    statement = (
        "SELECT report_date::text, open_interest, prod_merc_long + swap_long + mm_long + other_long + nonrept_long"
        " + swap_spread + mm_spread + other_spread, traders_total FROM raw.cftc_cot ORDER BY 1"
    )
    rows = rows_of(bench.warehouse, statement)
    assert [row[0] for row in rows] == ["2026-09-29", "2026-10-06", "2026-10-13", "2026-10-20"]
    assert all(isinstance(row[1], int) and row[3] is None for row in rows)
    assert [row[1] == row[2] for row in rows] == [True, True, False, True]
    assert rows[2][2] is None


def test_a_long_series_is_read_page_by_page(bench, sandbox):
    paging = COT.request.paging.model_copy(update={"size": 2})
    spec = COT.model_copy(update={"request": COT.request.model_copy(update={"paging": paging})})
    rows = json.loads((SAMPLES / "cftc_cot" / "002602.json").read_bytes())
    for offset in (0, 2, 4):
        sandbox.override(f"{API}?$offset={offset}", json.dumps(rows[offset : offset + 2]).encode())
    assert bench.refresh(spec, "002602").counts == Counts(fetched=4, added=4)
    assert [request.query["$offset"] for request in sandbox.requests] == ["0", "2", "4"]


@pytest.mark.parametrize("broken", ["no-rows.json", "renamed-swap.json", "financial-futures.json", "plain-dates.json"])
def test_an_answer_that_is_something_else_leaves_the_table_as_it_was(bench, sandbox, broken):
    bench.refresh(COT, "002602")
    before = bench.rows("cftc_cot")
    sandbox.override(API, (SAMPLES / "cftc_cot" / "bad" / broken).read_bytes())
    with pytest.raises(ContractViolation):
        bench.refresh(COT, "002602")
    assert bench.rows("cftc_cot") == before


def test_an_error_of_the_query_is_told_in_its_own_words(bench, sandbox):
    sandbox.override(API, (SAMPLES / "cftc_cot" / "bad" / "soql-error.json").read_bytes(), 400)
    with pytest.raises(UpstreamRefused, match="No such column: report_date"):
        bench.refresh(COT, OIL)


def test_a_year_is_replaced_as_a_whole(bench, sandbox):
    assert bench.refresh(HISTORY, "2026-01-01").counts == Counts(fetched=28, added=28)
    assert bench.refresh(HISTORY, "2025-01-01").counts == Counts(fetched=35, added=35)
    sandbox.revision = "revised"
    changed = bench.refresh(HISTORY, "2026-01-01")
    assert changed.counts == Counts(fetched=34, added=7, updated=2, unchanged=25, deleted=1)
    corrected = bench.refresh(HISTORY, "2025-01-01")
    assert corrected.counts == Counts(fetched=34, updated=1, unchanged=33, deleted=1)


def test_padding_goes_and_a_full_stop_is_no_value(bench):
    bench.refresh(HISTORY, "2025-01-01")
    statement = (
        "SELECT contract_code, report_date, contract_units, open_interest FROM raw.cftc_cot_history"
        " WHERE traders_total IS NULL"
    )
    found = rows_of(bench.warehouse, statement)
    assert [row[:3] for row in found] == [("06490X", date(2025, 12, 2), "(CONTRACTS OF 1 MWh)")]
    assert isinstance(found[0][3], int)


def test_a_file_that_has_lost_a_week_or_markets_is_refused(bench, sandbox):
    bench.refresh(HISTORY, "2026-01-01")
    lines = zipped(SAMPLES / "cftc_cot_history" / "fut_disagg_txt_2026.zip").splitlines(keepends=True)
    path = "/www.cftc.gov/files/dea/history/fut_disagg_txt_2026.zip"
    fewer = {"contract_code": lines[:-4], "report_date": [line for line in lines if b",2026-10-06," not in line]}
    for lost, kept in fewer.items():
        sandbox.override(path, archive(b"".join(kept)))
        with pytest.raises(ContractViolation, match=f"different {lost}"):
            bench.refresh(HISTORY, "2026-01-01")


def test_a_new_year_is_not_there_before_its_first_release(bench):
    bench.now = datetime(2027, 1, 8, tzinfo=timezone.utc)
    assert bench.refresh(HISTORY, "2027-01-01").outcome == "not_yet"
    bench.now = datetime(2027, 1, 29, tzinfo=timezone.utc)
    with pytest.raises(UpstreamRefused):
        bench.refresh(HISTORY, "2027-01-01")


def test_the_two_tables_can_be_united(bench):
    assert list(COT.columns) == list(HISTORY.columns)
    assert [column.type for column in COT.columns.values()] == [column.type for column in HISTORY.columns.values()]
    bench.refresh(COT, OIL)
    bench.refresh(HISTORY, "2026-01-01")
    document = Path(__file__).parent.parent / "docs" / "tables" / "cftc_cot_history.md"
    statement = document.read_text().split("```sql\n")[1].split("```")[0]
    rows = rows_of(bench.warehouse, f"SELECT count(*), count(DISTINCT contract_code) FROM ({statement})")
    # Seven markets of four weeks; the three weeks of soybean oil from the API stand in for those of the file.
    assert rows == [(28, 7)]


def test_the_sandbox_has_every_year_up_to_the_running_one(bench, sandbox):
    sandbox.clock = lambda: datetime(2028, 11, 22, tzinfo=timezone.utc)
    for year, rows in ((2010, 35), (2027, 35), (2028, 28)):
        assert bench.refresh(HISTORY, f"{year}-01-01").counts == Counts(fetched=rows, added=rows)
    assert [request.status for request in sandbox.requests] == [200, 200, 200]
    bench.refresh(HISTORY, "2029-01-01")
    assert sandbox.requests[-1].status == 404


@pytest.mark.parametrize("name", BUILT)
def test_the_archives_are_what_the_script_builds(name):
    stored, built = (SAMPLES / "cftc_cot_history" / name).read_bytes(), BUILT[name]
    if not zipfile.is_zipfile(io.BytesIO(built)):
        assert stored[:4] == built[:4]  # compressed bytes differ between versions of zlib
        return
    with zipfile.ZipFile(io.BytesIO(stored)) as ours, zipfile.ZipFile(io.BytesIO(built)) as theirs:
        assert [(m.filename, m.date_time, ours.read(m)) for m in ours.infolist()] == [
            (m.filename, m.date_time, theirs.read(m)) for m in theirs.infolist()
        ]


@pytest.mark.parametrize("code", COT.partitions.static["contract_code"])
def test_a_sample_of_the_api_adds_up(code):
    rows = json.loads((SAMPLES / "cftc_cot" / f"{code}.json").read_bytes())
    assert {row["cftc_contract_market_code"] for row in rows} == {code}
    for row in rows:
        assert all(isinstance(value, str) for value in row.values())
        reported = int(row["tot_rept_positions_short"]) + int(row["nonrept_positions_short_all"])
        assert reported == int(row["open_interest_all"])


def zipped(path):
    with zipfile.ZipFile(path) as archived:
        return archived.read("f_year.txt")


def archive(body):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archived:
        archived.writestr("f_year.txt", body)
    return out.getvalue()


def test_an_index_that_lags_is_asked_again_and_loads_nothing(bench, sandbox):
    body = (SAMPLES / "cftc_cot" / "007601.json").read_bytes()
    sandbox.override(API, body, 200, {"X-SODA2-Data-Out-Of-Date": "true"})
    with pytest.raises(UpstreamUnavailable, match=r"not current; .* got X-SODA2-Data-Out-Of-Date: true"):
        bench.refresh(COT, OIL)
    assert len(sandbox.requests) == 3
    assert not bench.warehouse.path.exists()
