"""The hand-made samples have the form of the real payloads, and the archives are what the script builds."""

from __future__ import annotations

import csv
import io
import json
import re
import runpy
import zipfile
from datetime import date
from pathlib import Path

import pytest
import yaml

from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES

FRED, BSEE = SAMPLES / "fred_fx", SAMPLES / "bsee_ogora"
BUILT: dict[str, bytes] = runpy.run_path(str(Path(__file__).with_name("make_samples.py")))["bsee_archives"]()
SERIES = yaml.safe_load((BUILTIN_CATALOG / "commodities" / "fred_fx.yaml").read_text())["partitions"]["static"][
    "series_id"
]
GOOD_ZIPS = sorted(f.relative_to(BSEE).as_posix() for f in [*BSEE.glob("*.zip"), *BSEE.glob("revised/*.zip")])
HEAD = {
    "realtime_start", "realtime_end", "observation_start", "observation_end", "units", "output_type", "file_type",
    "order_by", "sort_order", "count", "offset", "limit", "observations",
}  # fmt: skip


def lines(name: str) -> list[str]:
    with zipfile.ZipFile(BSEE / name) as archive:
        (member,) = archive.namelist()
        text = archive.read(member).decode("ascii")
    assert text.endswith("\r\n")
    return text.removesuffix("\r\n").split("\r\n")


def rows(name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO("\n".join(lines(name)))))


def key(row: list[str]) -> tuple[str, str, str]:
    return row[2], row[8], row[15]


def test_each_declared_series_has_a_sample():
    assert sorted(f.stem for f in FRED.glob("*.json")) == sorted(SERIES)


@pytest.mark.parametrize(
    "file", [*FRED.glob("*.json"), *FRED.glob("revised/*.json")], ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_a_series_has_freds_form(file):
    body = json.loads(file.read_text())
    observations = body["observations"]
    days = [date.fromisoformat(o["date"]) for o in observations]
    assert set(body) == HEAD
    assert body["count"] == len(observations) in range(15, 31)
    assert days == sorted(set(days)) and all(day.weekday() < 5 for day in days)
    assert {(o["realtime_start"], o["realtime_end"]) for o in observations} == {
        (body["realtime_start"], body["realtime_end"])
    }
    assert [o["value"] for o in observations if not re.fullmatch(r"\d+\.\d+|\d+", o["value"])] == ["."]


def test_the_euro_is_revised_in_three_values_and_five_new_days():
    good, revised = (
        {o["date"]: o["value"] for o in json.loads((FRED / folder / "DEXUSEU.json").read_text())["observations"]}
        for folder in (".", "revised")
    )
    assert len(revised.keys() - good.keys()) == 5
    assert sum(revised[day] != good[day] for day in good) == 3


def test_a_series_can_move_its_realtime_dates_alone():
    good, revised = (json.loads((FRED / folder / "DEXCHUS.json").read_text()) for folder in (".", "revised"))
    assert good["realtime_start"] < revised["realtime_start"]
    assert [(o["date"], o["value"]) for o in good["observations"]] == [
        (o["date"], o["value"]) for o in revised["observations"]
    ]


@pytest.mark.parametrize("name", GOOD_ZIPS)
def test_an_archive_has_bsees_form(name):
    for line in lines(name):
        assert re.fullmatch(r'"[^"]*"(,"[^"]*"){18}', line)
    for row in rows(name):
        assert re.fullmatch(r"20\d\d(0[1-9]|1[0-2])", row[2])
        assert all(re.fullmatch(r"\d{9}|", row[i]) for i in (5, 6, 7, 14))
        assert re.fullmatch(r"\d{12}", row[8]) and re.fullmatch(r"[A-Z]{2} {2}[ \d]\d{2,3}", row[10])
        assert re.fullmatch(r"[A-Z]\d\d", row[15]) and re.fullmatch(r"19[5-9]\d{5}|", row[16])


def test_the_good_year_has_the_oddities_the_loader_must_survive():
    good = rows("ogora2025delimit.zip")
    assert len(good) == 40 and len({key(row) for row in good}) == len({tuple(row) for row in good}) == 39
    assert len({row[2] for row in good}) == 12
    assert any(row[0] == "" for row in good) and any(row[0].startswith(" ") for row in good)
    assert any(row[16] == "" for row in good) and any("," in row[12] for row in good)


def test_the_revised_year_changes_adds_and_drops_rows():
    good, revised = (
        {key(row): row for row in rows(name)} for name in ("ogora2025delimit.zip", "revised/ogora2025delimit.zip")
    )
    assert (len(revised.keys() - good.keys()), len(good.keys() - revised.keys())) == (3, 2)
    assert sum(good[k] != revised[k] for k in good.keys() & revised.keys()) == 3


def test_the_running_year_ends_in_march_and_knows_null_from_zero():
    running = rows("ogoradelimit.zip")
    assert sorted({row[2][4:] for row in running}) == ["01", "02", "03"]
    assert [row[7] + row[14] for row in running].count("") == 1


@pytest.mark.parametrize("name", BUILT)
def test_the_archives_are_what_the_script_builds(name):
    def content(body: bytes) -> object:
        if not zipfile.is_zipfile(io.BytesIO(body)):
            return body[:4]  # compressed bytes differ between versions of zlib
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return [(m.filename, m.date_time, archive.read(m)) for m in archive.infolist()]

    assert content((BSEE / name).read_bytes()) == content(BUILT[name])


@pytest.mark.parametrize("name", ["html-page.zip", "empty.zip", "truncated.zip"])
def test_a_bad_archive_is_no_archive(name):
    assert not zipfile.is_zipfile(BSEE / "bad" / name)


def test_each_other_bad_archive_is_bad_in_one_way():
    duplicates = rows("bad/conflicting-duplicates.zip")
    assert len({tuple(row) for row in duplicates}) == len({key(row) for row in duplicates}) + 1
    assert {len(row) for row in rows("bad/18-columns.zip")} == {18}
    assert {row[2][:4] for row in rows("bad/other-year.zip")} == {"2019"}
    assert [row[5] for row in rows("bad/non-numeric-volume.zip") if not row[5].isdigit()] == ["12,5 bbl"]
    with zipfile.ZipFile(BSEE / "bad" / "no-member.zip") as archive:
        assert archive.namelist() == ["readme.txt"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("api-key-not-registered", 400), ("api-key-not-set", 400), ("series-id-not-set", 400),
        ("series-does-not-exist", 400), ("withdrawn-400", 400), ("withdrawn-404", 404),
    ],
)  # fmt: skip
def test_freds_errors_are_compact_with_escaped_slashes_and_double_spaces(name, code):
    text = (FRED / "bad" / f"{name}.json").read_text()
    assert json.loads(text)["error_code"] == code
    assert "  " in text and not re.search(r"(?<!\\)/", text) and '": ' not in text


def test_freds_broken_bodies_are_broken_in_one_way():
    bad = {f.name: f.read_text() for f in (FRED / "bad").iterdir()}
    assert bad["empty.json"] == "" and bad["page.html"].startswith("<!DOCTYPE html>")
    with pytest.raises(json.JSONDecodeError):
        json.loads(bad["truncated.json"])
    assert HEAD - set(json.loads(bad["no-observations.json"])) == {"observations"}
    assert {o["value"] for o in json.loads(bad["all-missing.json"])["observations"]} == {"."}
    assert "val" in json.loads(bad["renamed-value.json"])["observations"][0]
