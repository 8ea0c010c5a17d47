"""Every source reads its samples as declared here, and real recorded payloads as the standard library reads them.

Recorded payloads lie beside the repository, if at all, and are not part of it. At the end of a session the
number of payloads that ran is printed for each source.
"""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from datetime import date
from pathlib import Path

import pyarrow.compute as pc
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import RefreshError, UpstreamRefused, WrongPeriod
from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.stage import require_rows, stage
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.workbench import builtin

RECORDED = Path(__file__).resolve().parent.parent.parent / "shared" / "upstream"
FX = builtin("fred_fx")
SERIES = FX.partitions.static["series_id"]
# Of each file: the partition it belongs to, and its counts (fetched, duplicates, filtered) or its error class.
FRED = {
    **{f"{series}.json": (series, (24, 0, 1)) for series in SERIES},
    "revised/DEXUSEU.json": ("DEXUSEU", (29, 0, 1)),
    "revised/DTWEXBGS.json": ("DTWEXBGS", (24, 0, 1)),
    "revised/DEXCHUS.json": ("DEXCHUS", (24, 0, 1)),
    "bad/all-missing.json": ("DEXUSEU", "contract"),
    "bad/api-key-not-registered.json": ("DEXUSEU", "permanent"),
    "bad/api-key-not-set.json": ("DEXUSEU", "permanent"),
    "bad/empty.json": ("DEXUSEU", "transient"),
    "bad/no-observations.json": ("DEXUSEU", "contract"),
    "bad/page.html": ("DEXUSEU", "permanent"),
    "bad/renamed-value.json": ("DEXUSEU", "contract"),
    "bad/series-does-not-exist.json": ("DEXUSEU", "permanent"),
    "bad/series-id-not-set.json": ("DEXUSEU", "permanent"),
    "bad/truncated.json": ("DEXUSEU", "transient"),
    "bad/withdrawn-400.json": ("DEXUSEU", "permanent"),
    "bad/withdrawn-404.json": ("DEXUSEU", "permanent"),
}
BSEE = {
    "ogora2025delimit.zip": ("2025-01-01", (40, 1, 0)),
    "ogoradelimit.zip": ("2026-01-01", (10, 0, 0)),
    "revised/ogora2025delimit.zip": ("2025-01-01", (41, 1, 0)),
    "revised/ogoradelimit.zip": ("2026-01-01", (13, 0, 0)),
    "bad/18-columns.zip": ("2025-01-01", "contract"),
    "bad/conflicting-duplicates.zip": ("2025-01-01", "contract"),
    "bad/empty.zip": ("2025-01-01", "permanent"),
    "bad/html-page.zip": ("2025-01-01", "permanent"),
    "bad/no-member.zip": ("2025-01-01", "permanent"),
    "bad/non-numeric-volume.zip": ("2025-01-01", "contract"),
    "bad/other-year.zip": ("2025-01-01", "contract"),
    "bad/truncated.zip": ("2025-01-01", "transient"),
}
DECLARED = {"fred_fx": FRED, "bsee_ogora": BSEE}
CASES = [(source, name, *declared) for source, files in DECLARED.items() for name, declared in files.items()]


@pytest.fixture
def ran(record_property):
    """Count a payload that ran, for the summary that conftest prints."""
    return lambda source, kind: record_property("conformance", f"{source} {kind}")


def staged(spec, path, window, folder):
    result = stage(spec, [path], window, folder / "rows.arrow", Notes())
    require_rows(spec, result)
    return result


def test_every_source_of_the_catalogue_has_good_revised_and_bad_samples():
    sources = load_catalogue([BUILTIN_CATALOG]).sources
    assert sorted(DECLARED) == sorted(sources)
    for source, files in DECLARED.items():
        folder = SAMPLES / source
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert found - {"README.md", "sandbox.yaml"} == set(files), source
        assert {name.partition("/")[0] for name in files if "/" in name} == {"revised", "bad"}
        assert any("/" not in name for name in files)


@pytest.mark.parametrize(("source", "name", "partition", "expected"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_sample_gives_what_is_declared_for_it(ran, tmp_path, source, name, partition, expected):
    spec = builtin(source)
    ran(source, "own")
    if isinstance(expected, str):
        with pytest.raises(RefreshError) as caught:
            staged(spec, SAMPLES / source / name, window_of(spec, partition), tmp_path)
        assert caught.value.error_class == expected
    else:
        result = staged(spec, SAMPLES / source / name, window_of(spec, partition), tmp_path)
        assert (result.fetched, result.duplicates, result.filtered) == expected


def recorded(pattern):
    return sorted(RECORDED.glob(pattern))


def recorded_years():
    return [path for path in recorded("bsee/ogora*.zip") if path.name in YEARS]


def test_recorded_series_hold_the_values_the_standard_library_finds(ran, tmp_path):
    for path in recorded("fred/observations-*.json"):
        series = path.stem.split("-")[1]
        theirs = json.loads(path.read_text())["observations"]
        values = {row["date"]: float(row["value"]) for row in theirs if row["value"] != "."}
        result = staged(FX, path, Window(series, names={"series_id": series}), tmp_path)
        ran("fred_fx", "recorded")
        rows = {row["obs_date"].isoformat(): row for row in result.table().to_pylist()}
        assert (result.fetched, result.filtered) == (len(values), len(theirs) - len(values))
        for day in [min(values), max(values), *random.Random(7).sample(sorted(values), 20)]:
            assert rows[day] == {"series_id": series, "obs_date": date.fromisoformat(day), "value": values[day]}
        assert sum(row["value"] for row in rows.values()) == pytest.approx(sum(values.values()), rel=1e-12)


YEARS = {"ogora2023delimit.zip": ("2023-01-01", 74_853), "ogoradelimit-2025-01.zip": ("2025-01-01", 8_005)}


def lines_of(path):
    with zipfile.ZipFile(path) as archive:
        return list(csv.reader(io.StringIO(archive.read(archive.namelist()[0]).decode("ascii"))))


def test_recorded_years_hold_the_rows_and_volumes_the_standard_library_finds(ran, tmp_path):
    for path in recorded_years():
        spec, (partition, count) = builtin("bsee_ogora"), YEARS[path.name]
        result = staged(spec, path, window_of(spec, partition), tmp_path)
        ran("bsee_ogora", "recorded")
        table, theirs = result.table(), lines_of(path)
        assert result.fetched == result.rows == len(theirs) == count
        for column, position in (
            ("oil_bbl", 5),
            ("gas_mcf", 6),
            ("water_bbl", 7),
            ("injection_vol", 14),
            ("days_on_prod", 3),
        ):
            texts = [row[position].strip() for row in theirs]
            assert pc.sum(table[column]).as_py() == sum(int(text) for text in texts if text)
            assert table[column].null_count == texts.count("")
        rows = {
            (r["production_month"].strftime("%Y%m"), r["api_well_number"], r["prod_interval_cd"]): r
            for r in table.to_pylist()
        }
        for row in [theirs[0], theirs[-1], *random.Random(7).sample(theirs, 20)]:
            ours = rows[row[2], row[8], row[15]]
            assert (ours["lease_number"] or "", ours["operator_name"], ours["area_block"]) == (
                row[0].strip(), row[12].strip(), row[10].strip()
            )  # fmt: skip
            assert (ours["first_prod_date"] is None) == (not row[16].strip())


def test_a_recorded_year_is_the_wrong_period_of_every_other(tmp_path):
    for path in recorded_years():
        spec = builtin("bsee_ogora")
        for key, earlier in (("2026-01-01", True), ("2022-01-01", False)):
            with pytest.raises(WrongPeriod) as caught:
                staged(spec, path, window_of(spec, key), tmp_path)
            assert caught.value.earlier is earlier


def test_recorded_refusals_are_refusals(ran, tmp_path):
    for path in recorded("fred/fault-*.json"):
        ran("fred_fx", "recorded")
        with pytest.raises(UpstreamRefused, match="is not registered"):
            staged(FX, path, window_of(FX, "DEXUSEU"), tmp_path)


@pytest.mark.parametrize("source", sorted(DECLARED))
def test_recorded_payloads_of_other_sources_are_refused_and_never_a_defect(tmp_path, source):
    spec, partition = builtin(source), {"fred_fx": "DEXUSEU", "bsee_ogora": "2023-01-01"}[source]
    own = {"fred_fx": "observations-", "bsee_ogora": tuple(YEARS)}[source]
    for path in (path for path in recorded("*/*") if path.is_file() and not path.name.startswith(own)):
        with pytest.raises(RefreshError):
            staged(spec, path, window_of(spec, partition), tmp_path)
