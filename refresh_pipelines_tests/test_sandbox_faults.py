"""The sandbox misbehaves as it is told, for whom it is told, and can always be stopped."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from datetime import datetime, timezone

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.sandbox_faults import Fault, FaultError, parse_assignment
from refresh_pipelines.sandbox_kinds import KINDS
from refresh_pipelines.settings import SAMPLES

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FRED = "/api.stlouisfed.org/fred/series/observations"
EURO = f"{FRED}?series_id=DEXUSEU&api_key=abc&file_type=json"
YEAR = "/www.data.bsee.gov/Production/Files/ogora2025delimit.zip"
BODY = (SAMPLES / "fred_fx" / "DEXUSEU.json").read_bytes()
HALF = len(BODY) // 2


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def get(sandbox: Sandbox, path: str = EURO, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(sandbox.base + path, headers=named, timeout=10, allow_redirects=False)


def connect(sandbox: Sandbox, path: str = EURO) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(sandbox.base.rpartition(":")[2])), timeout=10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def raw(sandbox: Sandbox, path: str = EURO) -> tuple[dict[str, str], bytes]:
    """The headers and the body exactly as they come over the wire, until the connection ends."""
    with connect(sandbox, path) as connection:
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body


def faulty(sandbox, fault, path=EURO):
    sandbox.fault("*", fault)
    return raw(sandbox, path)


@pytest.mark.parametrize(
    ("fault", "status", "after"),
    [
        ("status", 503, None),
        ("status:429,7", 429, "7"),
        ("status:503,+120", 503, "Sun, 22 Nov 2026 12:02:00 GMT"),
        ("status:500,in a while", 500, "in a while"),
        ("status:599", 599, None),
    ],
)
def test_any_status_may_come_with_any_retry_after(sandbox, fault, status, after):
    sandbox.fault("fred_fx", fault)
    answer = get(sandbox)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, after)


@pytest.mark.parametrize(
    ("fault", "target"),
    [
        ("redirect", "http://169.254.169.254/latest/meta-data/"),
        ("redirect:http://10.0.0.1/", "http://10.0.0.1/"),
        ("redirect:http://[::1]:1/", "http://[::1]:1/"),
    ],
)
def test_a_redirect_goes_where_it_is_told(sandbox, fault, target):
    sandbox.fault("*", fault)
    answer = get(sandbox)
    assert (answer.status_code, answer.headers["Location"]) == (302, target)


def test_a_redirect_loop_leads_back_to_the_same_address(sandbox):
    sandbox.fault("*", "redirect_loop")
    with pytest.raises(requests.TooManyRedirects):
        requests.get(sandbox.base + EURO, timeout=10)
    assert {request.path for request in sandbox.requests} == {FRED}


def test_unmodified_is_said_whether_it_was_asked_or_not(sandbox):
    sandbox.fault("*", "unmodified")
    assert get(sandbox).status_code == 304
    sandbox.revision = "revised"
    assert get(sandbox, If_None_Match='"other"').status_code == 304


def test_a_new_etag_comes_with_the_same_bytes(sandbox):
    sandbox.fault("*", "new_etag")
    first = get(sandbox)
    second = get(sandbox, If_None_Match=first.headers["ETag"])
    assert (first.content, second.content) == (BODY, BODY)
    assert first.headers["ETag"] != second.headers["ETag"]


def test_the_same_etag_comes_with_other_bytes(sandbox):
    sandbox.fault("*", "same_etag")
    first = get(sandbox)
    sandbox.revision = "revised"
    second = get(sandbox, If_None_Match=first.headers["ETag"])
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.content != second.content


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("html", "text/html; charset=utf-8"), ("html:data", "application/json; charset=utf-8"), ("html:a/b", "a/b")],
)
def test_a_page_has_the_right_type_or_a_wrong_one(sandbox, fault, kind):
    sandbox.fault("*", fault)
    answer = get(sandbox)
    assert answer.content.startswith(b"<!DOCTYPE html>")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)


@pytest.mark.parametrize(
    ("fault", "status", "begins"),
    [
        ("echo", 400, "Bad Request: GET"),
        ("echo:403", 403, "Forbidden: GET"),
        ("echo:200", 200, "<!DOCTYPE"),
        ("echo:data", 200, "GET"),
    ],
)
def test_an_echo_repeats_address_headers_and_key(sandbox, fault, status, begins):
    sandbox.fault("*", fault)
    answer = get(sandbox, X_Api_Key="header-key")
    assert answer.status_code == status
    assert "api_key=abc" in answer.text
    assert "header-key" in answer.text
    assert answer.text.startswith(begins)


def test_an_empty_answer_has_no_bytes(sandbox):
    sandbox.fault("*", "empty")
    assert (get(sandbox).status_code, get(sandbox).content) == (200, b"")


def test_an_error_object_comes_with_status_200(sandbox):
    sandbox.fault("*", "json_error")
    answer = get(sandbox)
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == 500


@pytest.mark.parametrize(("fault", "sent"), [("truncate", HALF), ("truncate:10%", len(BODY) // 10), ("truncate:7B", 7)])
def test_a_truncated_body_says_the_whole_length(sandbox, fault, sent):
    headers, body = faulty(sandbox, fault)
    assert headers["Content-Length"] == str(len(BODY))
    assert body == BODY[:sent]


@pytest.mark.parametrize(
    ("fault", "length"), [("wrong_length", len(BODY) * 150 // 100), ("wrong_length:50%", HALF), ("wrong_length:3B", 3)]
)
def test_a_wrong_length_is_said_of_the_whole_body(sandbox, fault, length):
    headers, body = faulty(sandbox, fault)
    assert headers["Content-Length"] == str(length)
    assert body == BODY


def test_cut_chunks_lack_the_last_one(sandbox):
    headers, body = faulty(sandbox, "cut_chunks")
    assert headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in headers
    assert body == b"%x\r\n%s\r\n" % (HALF, BODY[:HALF])


def test_cut_gzip_is_whole_to_http_and_cut_to_gzip(sandbox):
    headers, body = faulty(sandbox, "cut_gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Content-Length"] == str(len(body))
    member = zlib.decompressobj(31)
    assert BODY.startswith(member.decompress(body))
    assert not member.eof


def test_bad_gzip_cannot_be_unpacked(sandbox):
    headers, body = faulty(sandbox, "bad_gzip")
    assert headers["Content-Encoding"] == "gzip"
    with pytest.raises((zlib.error, OSError, EOFError)):
        gzip.decompress(body)


def test_an_encoding_that_was_not_asked_for_is_named(sandbox):
    headers, body = faulty(sandbox, "unknown_encoding:zstd")
    assert (headers["Content-Encoding"], body) == ("zstd", BODY)


def test_a_delayed_answer_is_late_and_otherwise_true(sandbox):
    etag = get(sandbox).headers["ETag"]
    sandbox.fault("*", "delay:0.1s")
    begun = time.monotonic()
    assert get(sandbox, If_None_Match=etag).status_code == 304
    assert time.monotonic() - begun >= 0.1


def test_a_drip_gives_little_at_a_time(sandbox):
    sandbox.override("/h/p", b"0123456789abcdef")
    sandbox.fault("/h/p", "drip:0.05s")
    begun = time.monotonic()
    headers, body = raw(sandbox, "/h/p")
    assert (headers["Content-Length"], body) == ("16", b"0123456789abcdef")
    assert time.monotonic() - begun >= 0.1


def test_a_stalled_body_begins_and_does_not_end(sandbox):
    sandbox.fault("*", "stall")
    with connect(sandbox) as connection:
        connection.settimeout(0.3)
        received = b""
        with pytest.raises(TimeoutError):
            while True:
                received += connection.recv(1 << 16)
    assert received.partition(b"\r\n\r\n")[2] == BODY[:HALF]


@pytest.mark.parametrize("fault", ["reset", "reset:0%"])
def test_a_reset_breaks_the_connection_off(sandbox, fault):
    with pytest.raises(ConnectionResetError):
        faulty(sandbox, fault)


def test_hanging_up_says_nothing(sandbox):
    assert faulty(sandbox, "hang_up") == ({}, b"")


def test_what_is_no_http_is_noticed(sandbox):
    sandbox.fault("*", "no_http")
    with pytest.raises(requests.ConnectionError):
        get(sandbox)


@pytest.mark.parametrize(("fault", "encoding"), [("huge", None), ("bomb", "gzip")])
def test_a_body_without_end_is_sent_for_as_long_as_it_is_taken(sandbox, fault, encoding):
    sandbox.fault("*", fault)
    answer = requests.get(sandbox.base + EURO, timeout=10, stream=True)
    unpacked = 0
    while unpacked < 20_000_000:
        unpacked += len(answer.raw.read1(1 << 20, decode_content=True))
    answer.close()
    assert answer.headers.get("Content-Encoding") == encoding
    assert "Content-Length" not in answer.headers


def test_a_fault_happens_as_often_as_it_is_told(sandbox):
    sandbox.fault("*", "status:500", times=2)
    assert [get(sandbox).status_code for _ in range(4)] == [500, 500, 200, 200]


def test_a_fault_is_for_one_source_with_or_without_its_group(sandbox):
    sandbox.fault("fred_fx", "status:500")
    sandbox.fault("worldenergy/bsee_ogora", "status:501")
    assert (get(sandbox).status_code, get(sandbox, YEAR).status_code) == (500, 501)


def test_the_nearest_fault_is_met_and_of_two_equal_ones_the_latest(sandbox):
    for target, status in [
        (f"{FRED}?series_id=DEXUSEU", 501), (FRED, 502), ("fred_fx", 503), ("*", 504), ("fred_fx", 505), ("*", 507)
    ]:  # fmt: skip
        sandbox.fault(target, f"status:{status}", times=1)
    assert [get(sandbox).status_code for _ in range(7)] == [501, 502, 505, 503, 507, 504, 200]


def test_a_fault_is_done_to_an_override(sandbox):
    sandbox.override(FRED, b"0123456789")
    sandbox.fault("fred_fx", "truncate")
    headers, body = raw(sandbox)
    assert (headers["Content-Length"], body) == ("10", b"01234")


def test_a_fault_that_changes_the_body_needs_one_and_so_looks_at_no_condition(sandbox):
    etag = get(sandbox).headers["ETag"]
    sandbox.fault("*", "html")
    assert get(sandbox, If_None_Match=etag).status_code == 200


def test_clearing_ends_all_faults(sandbox):
    sandbox.fault("*", "status:500")
    sandbox.clear()
    assert get(sandbox).status_code == 200


def test_the_log_names_the_fault_and_the_status_that_was_sent(sandbox):
    sandbox.fault("*", "status:429,7", times=1)
    get(sandbox)
    get(sandbox)
    assert [(request.status, request.fault) for request in sandbox.requests] == [(429, "status:429,7"), (200, "")]


def test_commands_find_a_sandbox_whatever_it_does_to_sources(sandbox):
    sandbox.fault("*", "hang_up")
    assert requests.head(sandbox.base + "/", timeout=10).headers["Server"] == "refresh-sandbox"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_answers_head_and_a_sample_without_a_defect(name):
    with Sandbox(SAMPLES, clock=lambda: NOW) as sandbox:
        sandbox.fault("*", f"{name}:0.01s" if name in ("delay", "drip") else name)
        for method in ("HEAD", "GET"):
            try:
                answer = requests.request(method, sandbox.base + EURO, timeout=0.3, stream=True, allow_redirects=False)
                answer.close()
            except requests.RequestException:
                continue
    # Leaving the context raises what went wrong while answering.


@pytest.mark.parametrize("fault", ["delay:1h", "stall", "drip:1h", "huge", "bomb"])
def test_a_sandbox_stops_in_the_midst_of_an_answer(fault):
    before = set(threading.enumerate())
    with Sandbox(SAMPLES, clock=lambda: NOW) as sandbox:
        sandbox.fault("*", fault)
        # Neither read nor closed: a thread that sends for ever is blocked by now.
        connection = connect(sandbox)
        while not sandbox.requests:
            pass
        answering = [thread for thread in threading.enumerate() if thread not in before]
    for thread in answering:
        thread.join(5)
    assert [thread for thread in answering if thread.is_alive()] == []
    connection.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statsu", r"unknown fault 'statsu' \(did you mean status\?\); the kinds are status, redirect"),
        ("status:99", r"status\[:CODE\[,RETRY_AFTER\]\]: '99' is wrong: expected an HTTP status"),
        ("empty:1", "empty takes no argument"),
        ("truncate:half", "expected a share or a number of bytes, as 50% or 120B"),
        ("drip:soon", "not a duration: 'soon'"),
        ("redirect:nowhere", "expected an address"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused(sandbox, text, said):
    with pytest.raises(FaultError, match=said):
        sandbox.fault("*", text)


def test_a_source_without_samples_is_refused(sandbox):
    with pytest.raises(FaultError, match=r"'fred_fy' is no source with samples; there are .*fred_fx"):
        sandbox.fault("fred_fy", "empty")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fred_fx=status:503,120", ("fred_fx", "status:503,120", None)),
        ("*=delay:2s", ("*", "delay:2s", None)),
        ("bsee_ogora=truncate:50%*2", ("bsee_ogora", "truncate:50%", 2)),
        ("/h/p?a=b&c=d=empty*3", ("/h/p?a=b&c=d", "empty", 3)),
        ("x=redirect:http://10.0.0.1/?a=b*1", ("x", "redirect:http://10.0.0.1/?a=b", 1)),
    ],
)
def test_an_assignment_names_target_fault_and_times(text, expected):
    target, fault, times = parse_assignment(text)
    assert (target, fault.text, times) == expected


@pytest.mark.parametrize("text", ["fred_fx", "=empty", "fred_fx=", "fred_fx=empty*0", "fred_fx=empty*x"])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(FaultError):
        parse_assignment(text)


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=12))
def test_a_fault_is_read_or_refused_in_words(name, argument):
    try:
        assert Fault.parse(f"{name}:{argument}").kind is KINDS[name]
    except FaultError as error:
        assert name in str(error)
