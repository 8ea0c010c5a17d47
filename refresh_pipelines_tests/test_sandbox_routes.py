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


def declare(folder, source, routes, files):
    """Write a source's samples: text of the routes, and files by name."""
    place = folder / source
    place.mkdir(parents=True)
    head = "modified: {good: 2026-01-01T00:00:00Z, revised: 2026-01-02T00:00:00Z}\n"
    (place / "sandbox.yaml").write_text(f"{head}routes:\n{routes}")
    for name, text in files.items():
        (place / name).write_text(text)
    return folder


@pytest.fixture
def shared(tmp_path):
    """Two sources with one path, and a folder of samples to serve them from."""
    require = "require: {key: {status: 401, file: no-key.txt}}"
    for source, file in (("alpha", "a1.txt"), ("beta", "b1.txt")):
        route = f'  - {{path: /h/p, good: "{{id}}.txt", {require}, otherwise: {{status: 400, file: no-key.txt}}}}\n'
        declare(tmp_path, source, route, {file: source, "no-key.txt": f"{source} refuses"})
    return tmp_path


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("key=k&id=a1", 200, "alpha"),
        ("key=k&id=b1", 200, "beta"),
        ("key=k&id=c1", 400, "alpha refuses"),
        ("id=b1", 401, "alpha refuses"),
    ],
)
def test_of_sources_that_share_a_path_the_one_with_the_sample_answers(shared, query, status, text):
    with Sandbox(shared) as sandbox:
        answer = get(sandbox, f"/h/p?{query}")
    assert (answer.status_code, answer.text) == (status, text)


@pytest.mark.parametrize(("query", "status"), [("id=a1&key=k", 500), ("id=b1&key=k", 200), ("id=c1&key=k", 500)])
def test_a_fault_of_a_shared_path_is_for_the_source_that_answers(shared, query, status):
    with Sandbox(shared) as sandbox:
        sandbox.fault("alpha", "status:500")
        assert get(sandbox, f"/h/p?{query}").status_code == status


@pytest.mark.parametrize(
    ("query", "file"),
    [
        ("", "1.0.txt"),
        ("page=2", "2.0.txt"),
        ("page=", "1.0.txt"),
        ("$offset=500", "1.500.txt"),
        ("offset=500", "1.500.txt"),
        ("Page=2", "1.0.txt"),
    ],
)
def test_a_name_may_have_a_default_and_a_dollar_in_the_query(tmp_path, query, file):
    names = ["1.0.txt", "2.0.txt", "1.500.txt"]
    declare(tmp_path, "x", '  - {path: /h/p, good: "{page:1}.{offset:0}.txt"}\n', {name: name for name in names})
    with Sandbox(tmp_path) as sandbox:
        assert get(sandbox, f"/h/p?{query}").text == file


def test_a_dollar_does_not_lead_out_of_the_folder(tmp_path):
    declare(tmp_path / "samples", "x", '  - {path: /h/p, good: "{offset:0}.txt"}\n', {"0.txt": ""})
    (tmp_path / "samples" / "secret.txt").write_text("")
    with Sandbox(tmp_path / "samples") as sandbox:
        answer = get(sandbox, "/h/p?$offset=../secret")
    assert (answer.status_code, "$offset='../secret' cannot be part" in answer.text) == (400, True)


@pytest.mark.parametrize("part", ["BEN;TGO", "fisken.txt", "a b"])
def test_a_part_of_the_path_that_names_no_file_may_be_anything(tmp_path, part):
    declare(tmp_path, "x", '  - {path: "/h/{place}/{id}", good: "{id}.txt"}\n', {"1.txt": "one"})
    with Sandbox(tmp_path) as sandbox:
        assert get(sandbox, f"/h/{part}/1").text == "one"


@pytest.mark.parametrize(("name", "kind"), [("a.gz", "application/gzip"), ("a.txt", "text/plain; charset=utf-8")])
def test_packed_and_plain_files_have_their_types(tmp_path, name, kind):
    declare(tmp_path, "x", f"  - {{path: /h/p, good: {name}}}\n", {name: "x"})
    with Sandbox(tmp_path) as sandbox:
        assert get(sandbox, "/h/p").headers["Content-Type"] == kind


def test_the_first_folder_with_a_sample_answers_and_the_others_need_not_exist(tmp_path):
    mine = declare(tmp_path / "mine", "fred_fx", f'  - {{path: {FRED}, good: "{{series_id}}.json"}}\n', {})
    (mine / "fred_fx" / "DEXUSEU.json").write_text("{}")
    with Sandbox([tmp_path / "nowhere", mine, SAMPLES]) as sandbox:
        assert get(sandbox, f"{FRED}?series_id=DEXUSEU&api_key=a").text == "{}"
        assert get(sandbox, f"{FRED}?series_id=DEXJPUS&api_key=a").json()["count"] == 25


def test_a_path_without_a_route_says_early_where_to_declare_one(sandbox):
    text = get(sandbox, "/example.org/data.csv").text
    assert "declare one in samples/<source>/sandbox.yaml beside your catalogue folder" in text[:120]


def test_a_missing_sample_is_named(tmp_path):
    declare(tmp_path, "x", '  - {path: /h/p, good: "{id}.txt"}\n', {})
    with Sandbox(tmp_path) as sandbox:
        answer = get(sandbox, "/h/p?id=7")
    assert (answer.status_code, answer.text) == (404, "404 Not Found: the samples of x have no 7.txt\n")
