"""The sandbox over real HTTP on the loopback interface, with a fixed clock."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest
import requests

from refresh_pipelines.sandbox import Sandbox, SandboxPortInUse
from refresh_pipelines.settings import SAMPLES

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FRED = "/api.stlouisfed.org/fred/series/observations"
EURO = f"{FRED}?series_id=DEXUSEU&api_key=abc&file_type=json"
BSEE = "/www.data.bsee.gov/Production/Files"


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def get(sandbox: Sandbox, path: str, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(sandbox.base + path, headers=named, timeout=10)


def test_a_sample_is_served_with_its_length_type_and_validators(sandbox):
    answer = get(sandbox, EURO)
    assert answer.content == (SAMPLES / "fred_fx" / "DEXUSEU.json").read_bytes()
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Last-Modified"] == "Mon, 26 Oct 2026 20:20:00 GMT"
    assert answer.headers["ETag"].startswith('"')
    assert answer.headers["Date"] == "Sun, 22 Nov 2026 12:00:00 GMT"


def test_head_has_the_headers_of_get_and_no_body(sandbox):
    head = requests.head(sandbox.base + EURO, timeout=10)
    assert head.content == b""
    assert dict(head.headers) == dict(get(sandbox, EURO).headers)


def test_an_unknown_path_names_the_known_ones(sandbox):
    answer = get(sandbox, "/example.org/data.csv")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert FRED in answer.text
    assert f"{BSEE}/ogora{{year}}delimit.zip" in answer.text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("series_id=DEXUSEU", "Variable api_key is not set."),
        ("series_id=DEXUSEU&api_key=", "Variable api_key is not set."),
        ("api_key=abc", "Variable series_id is not set."),
        ("api_key=abc&series_id=NOSUCH", "The series does not exist."),
    ],
)
def test_fred_refuses_in_its_own_words(sandbox, query, message):
    answer = get(sandbox, f"{FRED}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == 400
    assert message in answer.json()["error_message"]


def test_the_etag_is_answered_304_until_the_content_changes(sandbox):
    etag = get(sandbox, EURO).headers["ETag"]
    again = get(sandbox, EURO, If_None_Match=f'"other", W/{etag}')
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    sandbox.revision = "revised"
    assert get(sandbox, EURO, If_None_Match=etag).status_code == 200


@pytest.mark.parametrize(
    ("since", "status"),
    [
        ("Mon, 26 Oct 2026 20:20:00 GMT", 304),
        ("Mon, 26 Oct 2026 20:19:59 GMT", 200),
        ("last Monday", 200),
    ],
)
def test_the_date_of_change_decides_without_an_etag(sandbox, since, status):
    assert get(sandbox, EURO, If_Modified_Since=since).status_code == status


def test_a_different_etag_outweighs_a_date(sandbox):
    answer = get(sandbox, EURO, If_None_Match='"other"', If_Modified_Since="Sun, 22 Nov 2026 12:00:00 GMT")
    assert answer.status_code == 200


def test_revised_serves_the_later_version_with_a_later_date(sandbox):
    good = get(sandbox, EURO)
    sandbox.revision = "revised"
    revised = get(sandbox, EURO)
    assert revised.json()["count"] == good.json()["count"] + 5
    assert revised.headers["Last-Modified"] == "Mon, 02 Nov 2026 21:20:00 GMT"


def test_revised_falls_back_to_the_good_file_and_its_date(sandbox):
    path = f"{FRED}?series_id=DEXJPUS&api_key=abc"
    good = get(sandbox, path)
    sandbox.revision = "revised"
    assert dict(get(sandbox, path).headers) == dict(good.headers)


def test_an_override_answers_as_it_stands_until_cleared(sandbox):
    sandbox.override(FRED, b"slow down", status=429, headers={"Retry-After": "7"})
    answer = get(sandbox, EURO)
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (429, b"slow down", "7")
    assert "ETag" not in answer.headers
    sandbox.clear()
    assert get(sandbox, EURO).status_code == 200


def test_an_override_with_a_query_answers_only_that_one(sandbox):
    sandbox.override(f"{FRED}?series_id=DEXUSEU", b"", status=500)
    sandbox.override(FRED, b"{}")
    assert get(sandbox, EURO).status_code == 500
    assert get(sandbox, f"{FRED}?series_id=DEXCAUS&api_key=abc").content == b"{}"


def test_the_latest_of_two_equal_overrides_answers(sandbox):
    sandbox.override(FRED, b"first")
    sandbox.override(FRED, b"second")
    assert get(sandbox, EURO).content == b"second"


def test_an_override_may_invent_a_path_or_cut_a_body_short(sandbox):
    sandbox.override("/example.org/new.csv", b"a,b\n", headers={"content-length": "400"})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(sandbox, "/example.org/new.csv")


def test_a_port_in_use_is_named_with_the_way_out(sandbox):
    port = int(sandbox.base.rpartition(":")[2])
    with (
        pytest.raises(SandboxPortInUse, match=f"port {port} is in use: .*; set REFRESH_SANDBOX_PORT"),
        Sandbox(SAMPLES, port),
    ):
        pass


def test_the_log_keeps_what_was_asked(sandbox):
    get(sandbox, EURO, If_None_Match="*")
    (seen,) = sandbox.requests
    assert (seen.method, seen.path, seen.status) == ("GET", FRED, 304)
    assert seen.query == {"series_id": "DEXUSEU", "api_key": "abc", "file_type": "json"}
    assert seen.headers["if-none-match"] == "*"


def test_a_closed_sandbox_has_no_address_and_no_listener():
    with Sandbox(SAMPLES, clock=lambda: NOW) as sandbox:
        base = sandbox.base
    with pytest.raises(RuntimeError, match="not serving"):
        _ = sandbox.base
    with pytest.raises(requests.ConnectionError):
        requests.get(base + EURO, timeout=10)


def test_a_defect_while_answering_is_raised_at_the_end(capsys):
    def broken() -> datetime:
        raise LookupError("no clock")

    def ask() -> None:
        with Sandbox(SAMPLES, clock=broken) as sandbox, pytest.raises(requests.ConnectionError):
            get(sandbox, EURO)

    with pytest.raises(LookupError, match="no clock"):
        ask()
    assert "LookupError: no clock" in capsys.readouterr().err


def test_nothing_heavy_is_imported():
    code = "import sys, refresh_pipelines.sandbox; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dagster", "duckdb", "pandas", "pyarrow"} & set(loaded)
