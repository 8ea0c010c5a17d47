"""The two NDBC sources: samples through parser and contract, and refreshes against the sandbox."""

from __future__ import annotations

import gzip
from datetime import datetime, timezone
from pathlib import Path

import pytest

from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.parse import Notes
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import require_rows, stage
from refresh_pipelines.window import due_keys, window_of
from refresh_pipelines_tests import make_ndbc_samples
from refresh_pipelines_tests.workbench import NOW, Bench, builtin

REALTIME, HISTORY = builtin("ndbc_stdmet"), builtin("ndbc_stdmet_history")
ARCHIVE = "/www.ndbc.noaa.gov/data/historical/stdmet"
BOSTON = "2025-01-01|44013"


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def rows_of(spec, path, partition, folder):
    result = stage(spec, [path], window_of(spec, partition), folder / "rows.arrow", Notes())
    require_rows(spec, result)
    return {row["obs_time"]: row for row in result.table().to_pylist()}


def documented_view():
    document = (Path(__file__).parent.parent / "docs" / "tables" / "ndbc_stdmet.md").read_text(encoding="utf-8")
    return document.split("```sql")[1].split("```")[0]


def test_the_samples_are_what_the_script_builds():
    for source, build in make_ndbc_samples.BUILT.items():
        for name, content in build().items():
            body = (SAMPLES / source / name).read_bytes()
            if "truncated" in name:
                assert body[:4] == content[:4]  # compressed bytes differ between versions of zlib
            else:
                unpacked = [gzip.decompress(b) if b.startswith(b"\x1f\x8b") else b for b in (body, content)]
                assert unpacked[0] == unpacked[1], name


def test_nines_are_missing_where_their_column_says_so_and_values_elsewhere(tmp_path):
    rows = rows_of(HISTORY, SAMPLES / "ndbc_stdmet_history" / "44013h2025.txt.gz", BOSTON, tmp_path)
    row = rows[datetime(2025, 5, 3, 5, 50, tzinfo=timezone.utc)]
    assert (row["pressure_hpa"], row["wind_dir_deg"]) == (999.0, 99)
    assert (row["dewpoint_c"], row["visibility_nmi"], row["tide_ft"]) == (None, None, None)


def test_of_two_rows_of_one_time_each_column_has_the_last_value_that_is_not_missing(tmp_path):
    rows = rows_of(HISTORY, SAMPLES / "ndbc_stdmet_history" / "44013h2025.txt.gz", BOSTON, tmp_path)
    row = rows[datetime(2025, 6, 17, 17, 50, tzinfo=timezone.utc)]
    assert (row["wind_dir_deg"], row["wind_speed_ms"], row["pressure_hpa"]) == (150, 5.4, 1011.2)
    assert (row["air_temp_c"], row["water_temp_c"]) == (18.9, 16.4)


@pytest.mark.parametrize("year", [1996, 2000, 2005])
def test_old_layouts_give_the_columns_of_today(tmp_path, year):
    file = SAMPLES / "ndbc_stdmet_history" / f"44013h{year}.txt.gz"
    rows = rows_of(HISTORY, file, f"{year}-01-01|44013", tmp_path)
    row = rows[datetime(year, 1, 11, tzinfo=timezone.utc)]
    assert (row["wind_dir_deg"], row["wave_height_m"], row["pressure_hpa"], row["air_temp_c"]) == (
        20,
        0.6,
        1004.3,
        -1.2,
    )
    assert (row["tide_ft"], row["dewpoint_c"], row["visibility_nmi"]) == (None, None, None)


def test_stations_are_asked_in_upper_case_and_the_archive_in_lower_case(bench, sandbox):
    bench.refresh(REALTIME, "TPLM2")
    bench.refresh(HISTORY, "2025-01-01|tplm2")
    assert [request.path for request in sandbox.requests] == [
        "/www.ndbc.noaa.gov/data/realtime2/TPLM2.txt", f"{ARCHIVE}/tplm2h2025.txt.gz"
    ]  # fmt: skip
    for table in ("ndbc_stdmet", "ndbc_stdmet_history"):
        assert {row[0] for row in bench.rows(table)} == {"TPLM2"}


def test_what_has_left_the_realtime_window_stays_in_the_table(bench, sandbox):
    first = bench.refresh(REALTIME, "44013")
    assert (first.outcome, first.counts.added) == ("loaded", 25)
    sandbox.revision = "revised"
    second = bench.refresh(REALTIME, "44013")
    counts = second.counts
    assert (counts.fetched, counts.added, counts.updated, counts.unchanged, counts.deleted) == (25, 6, 1, 18, 0)
    assert len(bench.rows("ndbc_stdmet")) == 31
    assert bench.refresh(REALTIME, "44013").outcome == "unchanged"


def test_a_corrected_year_is_replaced_and_its_repeated_time_counted(bench, sandbox):
    first = bench.refresh(HISTORY, BOSTON)
    assert (first.counts.fetched, first.counts.added, first.counts.duplicates, first.counts.filtered) == (25, 24, 1, 1)
    sandbox.revision = "revised"
    counts = bench.refresh(HISTORY, BOSTON).counts
    assert (counts.added, counts.updated, counts.deleted, counts.unchanged, counts.duplicates) == (1, 1, 1, 22, 1)


def test_a_year_that_is_not_in_the_archive_yet_is_not_yet_and_later_a_failure(bench, sandbox):
    sandbox.override(f"{ARCHIVE}/44013h2025.txt.gz", b"<html>404</html>", status=404)
    bench.now = datetime(2026, 2, 3, tzinfo=timezone.utc)
    outcome = bench.refresh(HISTORY, BOSTON)
    assert outcome.outcome == "not_yet"
    bench.now = datetime(2026, 6, 1, tzinfo=timezone.utc)
    with pytest.raises(UpstreamRefused, match="44013h2025"):
        bench.refresh(HISTORY, BOSTON)


def test_a_station_without_such_a_file_fails_alone(bench, sandbox):
    sandbox.override("/www.ndbc.noaa.gov/data/realtime2/44025.txt", b"<html>404</html>", status=404)
    with pytest.raises(UpstreamRefused, match="44025"):
        bench.refresh(REALTIME, "44025")
    assert bench.refresh(REALTIME, "46042").outcome == "loaded"


def test_the_sandbox_has_every_closed_year_and_no_other(bench, sandbox):
    for year in (1999, 2024):
        outcome = bench.refresh(HISTORY, f"{year}-01-01|44013")
        assert (outcome.counts.fetched, outcome.counts.duplicates, outcome.counts.filtered) == (25, 1, 1)
    assert bench.refresh(HISTORY, f"{NOW.year}-01-01|44013").outcome == "not_yet"


def test_the_two_newest_closed_years_of_every_station_are_due():
    keys = due_keys(HISTORY, NOW)
    assert len(keys) == 2 * len(HISTORY.partitions.static["station"])
    assert {key.split("|")[0] for key in keys} == {"2024-01-01", "2025-01-01"}


def test_both_sources_have_the_same_columns_and_the_same_stations():
    assert {name: column.type for name, column in REALTIME.columns.items()} == {
        name: column.type for name, column in HISTORY.columns.items()
    }
    stations = REALTIME.partitions.static["station"]
    assert [name.lower() for name in stations] == list(HISTORY.partitions.static["station"])


def test_the_documented_view_prefers_the_archive(bench):
    bench.refresh(HISTORY, BOSTON)
    bench.refresh(REALTIME, "44013")
    columns, rows = bench.warehouse.query(documented_view())
    assert columns == ["tier", *REALTIME.columns]
    assert {row[0] for row in rows} == {"archive", "realtime"}
    assert len(rows) == len({row[1:3] for row in rows}) == 49


def test_a_realtime_row_is_hidden_by_the_archives_row_of_its_time(bench, sandbox):
    bench.refresh(HISTORY, BOSTON)
    names = "\n".join(make_ndbc_samples.REALTIME_HEAD)
    row = "2025 03 03 05 50 111  1.0  2.0    MM    MM    MM  MM 1000.0    MM    MM    MM   MM   MM    MM"
    sandbox.override("/www.ndbc.noaa.gov/data/realtime2/44013.txt", f"{names}\n{row}\n".encode())
    bench.refresh(REALTIME, "44013")
    _, rows = bench.warehouse.query(documented_view())
    at = datetime(2025, 3, 3, 5, 50, tzinfo=timezone.utc)
    (found,) = [row for row in rows if row[2] == at]
    assert (found[0], found[3]) == ("archive", 168)
