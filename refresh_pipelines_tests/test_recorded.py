"""Real recorded payloads through `refresh parse`, against a reading by the standard library alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zipfile
from datetime import date, datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refresh_pipelines.parse import Notes
from refresh_pipelines.stage import stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.make_ndbc_samples import NINES
from refresh_pipelines_tests.recorded import FRED, READ, WORLD_BANK, accepted, packed, recorded
from refresh_pipelines_tests.workbench import builtin

NDBC = {
    "WDIR": "wind_dir_deg", "WSPD": "wind_speed_ms", "GST": "gust_ms", "WVHT": "wave_height_m",
    "DPD": "dominant_period_s", "APD": "average_period_s", "MWD": "mean_wave_dir_deg", "PRES": "pressure_hpa",
    "PTDY": "pressure_tendency_hpa", "ATMP": "air_temp_c", "WTMP": "water_temp_c", "DEWP": "dewpoint_c",
    "VIS": "visibility_nmi", "TIDE": "tide_ft",
}  # fmt: skip
YEARS = {"ogora2023delimit.zip": ("2023-01-01", 74_853), "ogoradelimit-2025-01.zip": ("2025-01-01", 8_005)}
VOLUMES = {"oil_bbl": 5, "gas_mcf": 6, "water_bbl": 7, "injection_vol": 14, "days_on_prod": 3}


@pytest.mark.parametrize("source", FRED)
def test_series_of_fred_hold_every_value_and_no_missing_one(ran, source):
    for path in recorded(READ[source]):
        series = path.stem.split("-")[1]
        item = accepted(source, path, "--param", f"series_id={series}")
        ran(source, "recorded")
        theirs = json.loads(path.read_text())["observations"]
        values = {row["date"]: float(row["value"]) for row in theirs if row["value"] != "."}
        assert (item["fetched"], item["filtered"]) == (len(values), len(theirs) - len(values))
        assert {row["obs_date"]: row["value"] for row in item["rows"]} == values
        assert {row["series_id"] for row in item["rows"]} == {series}


@pytest.mark.parametrize("source", WORLD_BANK)
def test_indicators_of_the_world_bank_hold_every_period_also_without_a_value(ran, source):
    for path in recorded(READ[source]):
        header, theirs = json.loads(path.read_text())
        item = accepted(source, path, "--param", f"indicator={theirs[0]['indicator']['id']}")
        ran(source, "recorded")
        ours = {(row["indicator_id"], row["iso3"], row["date"]): row for row in item["rows"]}
        assert item["fetched"] == len(ours) == len(theirs)
        for row in theirs:
            mine = ours[row["indicator"]["id"], row["countryiso3code"], row["date"]]
            assert (mine["value"], mine["decimals"]) == (row["value"], row["decimal"])
            assert mine["indicator_name"] == row["indicator"]["value"].strip()
            assert (mine["obs_status"], row["obs_status"]) == (None, "")
            assert (mine["source_id"], mine["upstream_last_updated"]) == (
                int(header["sourceid"]), header["lastupdated"],
            )  # fmt: skip


def buoy(path, station, missing):
    """Rows by time; `missing` says for each NDBC name what is no value, MM where it does not."""
    lines = [line.split() for line in path.read_text().splitlines()]
    names = [name.lstrip("#") for name in lines[0]]
    out = {}
    for line in lines[2:]:
        values = dict(zip(names, line, strict=True))
        at = datetime(*(int(values[name]) for name in names[:5]), tzinfo=timezone.utc)
        out[at] = {"station_id": station, **dict.fromkeys(NDBC.values())} | {
            NDBC[name]: None if text == missing.get(name, "MM") else float(text)
            for name, text in values.items()
            if name in NDBC
        }
    return out


def by_time(item):
    return {datetime.fromisoformat(row.pop("obs_time")): row for row in item["rows"]}


def test_a_realtime_file_of_ndbc_holds_every_observation(ran):
    for path in recorded(READ["ndbc_stdmet"]):
        ours = by_time(accepted("ndbc_stdmet", path, "--partition", "44013"))
        ran("ndbc_stdmet", "recorded")
        assert len(ours) == 1198
        assert ours == buoy(path, "44013", {})


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
def test_a_year_of_ndbc_holds_every_observation_packed_or_not(ran, tmp_path, suffix):
    for path in recorded(READ["ndbc_stdmet_history"]):
        body = path.read_bytes()
        copy = tmp_path / f"tplm2h2020{suffix}"
        copy.write_bytes(gzip.compress(body) if suffix.endswith("gz") else body)
        ours = by_time(accepted("ndbc_stdmet_history", copy, "--partition", "2020-01-01|tplm2"))
        ran("ndbc_stdmet_history", "recorded")
        assert len(ours) == 2498
        assert ours == buoy(path, "TPLM2", NINES)
        # 999 is no temperature, but a pressure that was measured; 99 is a direction.
        assert sum(row["pressure_hpa"] == 999.0 for row in ours.values()) == 2
        assert sum(row["wind_dir_deg"] == 99 for row in ours.values()) == 3


def test_the_layer_of_facilities_holds_every_one(ran, tmp_path):
    read = {"int": int, "double": float, "text": str.strip, "date": lambda text: text[:10]}
    for path in recorded(READ["sodir_facilities"]):
        item = accepted("sodir_facilities", packed(path, "fclPoint.csv", tmp_path))
        ran("sodir_facilities", "recorded")
        with path.open(encoding="utf-8-sig", newline="") as file:
            theirs = list(csv.DictReader(file))
        ours = {row["npdid"]: row for row in item["rows"]}
        assert len(ours) == len(theirs) == 1179
        for row in theirs:
            for name, column in builtin("sodir_facilities").columns.items():
                text = row[column.source]
                value = None if text in ("", *column.missing) else read[column.type](text)
                assert ours[int(row["fclNpdidFacility"])][name] == value, name
        assert "Vår Energi ASA" in {row["operator_name"] for row in ours.values()}


def test_a_year_of_the_disaggregated_report_holds_every_position(ran, tmp_path):
    read = {"int": int, "bigint": int, "text": str, "date": str}
    for path in recorded(READ["cftc_cot_history"]):
        item = accepted("cftc_cot_history", packed(path, "f_year.txt", tmp_path), "--partition", "2021-01-01")
        ran("cftc_cot_history", "recorded")
        theirs = list(csv.DictReader(io.StringIO(path.read_text("ascii"))))
        ours = {(row["contract_code"], row["report_date"]): row for row in item["rows"]}
        assert len(ours) == len(theirs) == 529
        for row in theirs:
            mine = ours[row["CFTC_Contract_Market_Code"].strip(), row["Report_Date_as_YYYY-MM-DD"]]
            for name, column in builtin("cftc_cot_history").columns.items():
                text = row[column.source].strip()
                assert mine[name] == (None if text in ("", ".") else read[column.type](text)), name


def lines_of(path):
    with zipfile.ZipFile(path) as archive:
        return list(csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode("ascii"))))


def test_years_of_production_hold_every_row_and_volume(ran, tmp_path):
    # 75,000 rows: read as the command does, and compared without printing them as JSON.
    for path in recorded(READ["bsee_ogora"]):
        spec, (partition, count) = builtin("bsee_ogora"), YEARS[path.name]
        result = stage(spec, [path], window_of(spec, partition), tmp_path / "rows.arrow", Notes())
        ran("bsee_ogora", "recorded")
        table, theirs = result.table(), lines_of(path)
        assert result.fetched == result.rows == len(theirs) == count
        for column, position in VOLUMES.items():
            texts = [row[position].strip() for row in theirs]
            assert pc.sum(table[column]).as_py() == sum(int(text) for text in texts if text)
            assert table[column].null_count == texts.count("")
        for row in [theirs[0], theirs[-1], *random.Random(7).sample(theirs, 20)]:
            assert_well(table, row)


def assert_well(table, row):
    month = date(int(row[2][:4]), int(row[2][4:]), 1)
    key = {"production_month": month, "api_well_number": row[8], "prod_interval_cd": row[15]}
    chosen = [pc.equal(table[name], pa.scalar(value, table[name].type)) for name, value in key.items()]
    (ours,) = table.filter(pc.and_(pc.and_(chosen[0], chosen[1]), chosen[2])).to_pylist()
    assert (ours["lease_number"] or "", ours["operator_name"], ours["area_block"]) == (
        row[0].strip(), row[12].strip(), row[10].strip(),
    )  # fmt: skip
    assert [ours[name] for name in VOLUMES] == [int(row[at]) if row[at].strip() else None for at in VOLUMES.values()]
    assert (ours["first_prod_date"] is None) == (not row[16].strip())
