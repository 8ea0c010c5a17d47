"""Which sample answers which request: years, declarations, and nothing outside the folder."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from datetime import datetime, timezone

import pytest
import requests

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.sandbox_routes import SandboxError
from refresh_pipelines.settings import SAMPLES

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FRED = "/api.stlouisfed.org/fred/series/observations"
BSEE = "/www.data.bsee.gov/Production/Files"


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def get(sandbox: Sandbox, path: str) -> requests.Response:
    return requests.get(sandbox.base + path, timeout=10)


def unzip(body: bytes) -> tuple[str, list[list[str]]]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        (member,) = archive.namelist()
        return member, list(csv.reader(io.StringIO(archive.read(member).decode())))


def test_the_sample_year_is_served_as_it_is(sandbox):
    sample = (SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes()
    assert get(sandbox, f"{BSEE}/ogora2025delimit.zip").content == sample


@pytest.mark.parametrize("year", [1996, 2019])
def test_another_closed_year_has_its_own_months_and_member(sandbox, year):
    member, rows = unzip(get(sandbox, f"{BSEE}/ogora{year}delimit.zip").content)
    _, sample = unzip((SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes())
    assert member == f"ogora{year}delimit.txt"
    assert sorted({row[2] for row in rows}) == [f"{year}{month:02d}" for month in range(1, 13)]
    assert [row[:2] + row[3:] for row in rows] == [row[:2] + row[3:] for row in sample]


def test_the_running_file_holds_the_clocks_year():
    with Sandbox(SAMPLES, clock=lambda: NOW.replace(year=2031)) as sandbox:
        member, rows = unzip(get(sandbox, f"{BSEE}/ogoradelimit.zip").content)
    assert member == "ogoradelimit.txt"
    assert sorted({row[2] for row in rows}) == ["203101", "203102", "203103"]


def test_a_moved_year_gives_the_same_bytes_in_every_sandbox(sandbox):
    first = get(sandbox, f"{BSEE}/ogora2019delimit.zip")
    with Sandbox(SAMPLES, clock=lambda: NOW.replace(month=12)) as other:
        second = get(other, f"{BSEE}/ogora2019delimit.zip")
    assert first.content == second.content
    assert first.headers["ETag"] == second.headers["ETag"]


@pytest.mark.parametrize("year", ["1995", "2026", "2027", "20xx", "02019"])
def test_a_year_without_a_file_is_a_web_page_with_status_200(sandbox, year):
    answer = get(sandbox, f"{BSEE}/ogora{year}delimit.zip")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.content.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("series", ["../bsee_ogora/sandbox", "..%2F..%2Fspec", "/etc/passwd", "a b", "bad\\x"])
def test_a_query_value_cannot_leave_the_folder(sandbox, series):
    answer = get(sandbox, f"{FRED}?api_key=abc&series_id={series}")
    assert answer.status_code == 400
    assert "cannot be part of a file's name" in answer.text


def test_a_path_cannot_leave_the_folder(sandbox):
    answer = get(sandbox, f"{BSEE}/ogora%2e%2e%2f%2e%2e%2fspecdelimit.zip")
    assert answer.status_code == 404


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    shutil.copytree(SAMPLES / "fred_fx", tmp_path / "samples" / "fred_fx")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "samples" / "fred_fx" / "LINK.json").symlink_to(tmp_path / "secret.json")
    with Sandbox(tmp_path / "samples", clock=lambda: NOW) as sandbox:
        assert get(sandbox, f"{FRED}?api_key=abc&series_id=LINK").status_code == 400


def test_a_route_to_a_file_that_is_not_there_is_refused_at_the_start(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "sandbox.yaml").write_text(
        "modified: {good: 2026-01-01T00:00:00Z, revised: 2026-01-02T00:00:00Z}\n"
        "routes: [{path: /h/p, good: ../../secret.json}]\n"
    )
    with pytest.raises(SandboxError, match=r"x/sandbox\.yaml: /h/p names \.\./\.\./secret\.json"):
        Sandbox(tmp_path)


@pytest.mark.parametrize("text", ["routes: [", "routes: []", "modified: 1\nroutes: []\nextra: 1"])
def test_an_unreadable_declaration_is_named(tmp_path, text):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "sandbox.yaml").write_text(text)
    with pytest.raises(SandboxError, match=r"x/sandbox\.yaml"):
        Sandbox(tmp_path)


def test_a_folder_without_routes_is_refused(tmp_path):
    with pytest.raises(SandboxError, match="nothing to serve"):
        Sandbox(tmp_path)
