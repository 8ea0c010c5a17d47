"""FAOSTAT's bulk files: every value of the samples, and which rows of the world are loaded."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.stage import stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.make_faostat_samples import samples
from refresh_pipelines_tests.recorded import READ, accepted, recorded
from refresh_pipelines_tests.workbench import builtin

FAO, FOLDER = builtin("faostat"), SAMPLES / "faostat"
MEMBER = "_E_All_Data_(Normalized).csv"


def theirs(path):
    """The rows of Benin as the standard library reads them, cp1252 as the older editions are."""
    with zipfile.ZipFile(path) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(MEMBER)]
        rows = csv.DictReader(io.StringIO(archive.read(member).decode("cp1252")))
        return [row for row in rows if row["Area Code"] == "53"]


def assert_same(mine, row):
    """One row of ours against one of theirs."""
    text = row["Value"]
    bound = text.startswith("<")
    years = row["Year"].split("-")
    assert (mine["year_start"], mine["year_end"]) == (int(years[0]), int(years[-1]))
    assert mine["value"] == (float(text) if text and not bound else None)
    assert (mine["value_text"], mine["value_qualifier"]) == (text or None, "<" if bound else None)
    for ours, name in (("area", "Area"), ("item", "Item"), ("element", "Element"), ("unit", "Unit"), ("flag", "Flag")):
        assert mine[ours] == (row[name] or None)
    assert mine["m49"] == (row["Area Code (M49)"].lstrip("'") if "Area Code (M49)" in row else None)


def key_of(row):
    return int(row["Area Code"]), row["Item Code"], int(row["Element Code"]), row["Year Code"]


def our_key(row):
    return row["area_code"], row["item_code"], row["element_code"], row["year_code"]


def staged(tmp_path, name, domain):
    notes = Notes()
    result = stage(FAO, [FOLDER / name], window_of(FAO, domain), tmp_path / "rows.arrow", notes)
    return {our_key(row): row for row in result.table().to_pylist()}, notes


@pytest.mark.parametrize(("name", "domain"), [("QCL.zip", "QCL"), ("QCL-11-columns.zip", "QCL"), ("FS.zip", "FS")])
def test_every_value_of_benin_is_loaded_and_nothing_of_others(tmp_path, name, domain):
    ours, _ = staged(tmp_path, name, domain)
    rows = theirs(FOLDER / name)
    assert len(ours) == len(rows)
    for row in rows:
        assert_same(ours[key_of(row)], row)
    assert {row["domain"] for row in ours.values()} == {domain}


def test_a_bound_is_no_value_and_averages_have_two_years(tmp_path):
    ours, _ = staged(tmp_path, "FS.zip", "FS")
    bound = ours[53, "21042", 6121, "2021"]
    assert (bound["value"], bound["value_text"], bound["value_qualifier"]) == (None, "<2.5", "<")
    average = ours[53, "21033", 6121, "20192021"]
    assert (average["year_start"], average["year_end"], average["value"]) == (2019, 2021, 39.2)


def test_a_name_in_windows_1252_is_read_and_counted(tmp_path):
    ours, notes = staged(tmp_path, "QCL.zip", "QCL")
    assert ours[53, "56", 5510, "2023"]["note"] == "Unofficial figure (markets near Côte d'Ivoire)"
    assert notes.fallbacks == 1  # names of other areas are not looked at


def test_other_countries_are_one_param_away(tmp_path):
    window = window_of(FAO.model_copy(update={"params": {"faostat_area": "107"}}), "QCL")
    result = stage(FAO, [FOLDER / "QCL.zip"], window, tmp_path / "rows.arrow", Notes())
    assert set(result.table()["area"].to_pylist()) == {"Côte d'Ivoire"}


def test_the_samples_are_what_the_script_builds():
    built = samples()
    for name, body in built.items():
        if name.endswith(".json"):
            assert (FOLDER / name).read_bytes() == body
        elif name not in ("bad/empty.zip", "bad/truncated.zip"):
            assert members((FOLDER / name).read_bytes()) == members(body)


def members(body):
    """What an archive holds: compressed bytes differ between versions of zlib."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_the_recorded_bundle_gives_every_row_of_benin(ran):
    for path in recorded(READ["faostat"]):
        item = accepted("faostat", path, "--partition", "FS")
        ran("faostat", "recorded")
        rows = theirs(path)
        # Of 42,540 rows of the areas A to L; the lists beside them are not read.
        assert (item["fetched"], len(rows), item["filtered"]) == (333, 333, 42_540 - 333)
        ours = {our_key(row): row for row in item["rows"]}
        assert len(ours) == 333
        for row in rows:
            assert_same(ours[key_of(row)], row)
