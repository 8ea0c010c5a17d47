"""What an upstream answers, over real HTTP on loopback: payload, not modified, gone, refused."""

from __future__ import annotations

import hashlib
import json

import pytest

from refresh_pipelines.errors import InternalError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import USER_AGENT, Fetcher, NotHere, NotModified, Payload, Validators
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.upstream import Clock, Upstream, answer, fetch, gzipped, settings
from refresh_pipelines_tests.workbench import BSEE, FRED, HOST, NOW, builtin, csv_spec, spec_of

URL = "https://example.org/data.csv"
FX, OGORA = builtin("fred_fx"), builtin("bsee_ogora")
EURO, YEAR = window_of(FX, "DEXUSEU"), window_of(OGORA, "2025-01-01")


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def ask(sandbox, spec, window, folder, url=None, known=None):
    fetcher = Fetcher(settings(folder, sandbox.base, sandbox=True), clock=Clock(), sleep=Clock().sleep)
    return fetcher.fetch(spec, window, url or spec.request.candidates[0], folder, known)


def test_a_payload_is_the_bytes_served_with_their_hash_size_and_validators(sandbox, tmp_path):
    body = (SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes()
    payload = ask(sandbox, OGORA, YEAR, tmp_path)
    assert payload.path.read_bytes() == body
    assert (payload.bytes, payload.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert payload.url == "https://www.data.bsee.gov/Production/Files/ogora2025delimit.zip"
    assert payload.validators.url == payload.url
    assert payload.validators.last_modified == "Fri, 15 May 2026 10:49:00 GMT"


def test_the_request_carries_params_our_name_and_only_gzip(sandbox, tmp_path):
    ask(sandbox, FX, EURO, tmp_path)
    (seen,) = sandbox.requests
    assert seen.path == FRED
    assert seen.query == {
        "series_id": "DEXUSEU", "file_type": "json", "observation_start": "1971-01-04", "api_key": "sandbox-placeholder"
    }  # fmt: skip
    assert seen.headers["User-Agent"] == USER_AGENT
    assert seen.headers["Accept-Encoding"] == "gzip"


def test_validators_of_the_same_address_are_sent_and_304_is_not_modified(sandbox, tmp_path):
    first = ask(sandbox, FX, EURO, tmp_path)
    again = ask(sandbox, FX, EURO, tmp_path, known=first.validators)
    assert again == NotModified(first.url)
    assert sandbox.requests[1].headers["If-None-Match"] == first.validators.etag
    assert sandbox.requests[1].headers["If-Modified-Since"] == first.validators.last_modified


def test_validators_of_another_address_are_not_sent(sandbox, tmp_path):
    first = ask(sandbox, FX, EURO, tmp_path)
    other = ask(sandbox, FX, window_of(FX, "DEXBZUS"), tmp_path, known=first.validators)
    assert isinstance(other, Payload)
    assert not {"If-None-Match", "If-Modified-Since"} & set(sandbox.requests[1].headers)


def test_an_etag_that_stays_while_the_body_changes_still_gives_the_new_body(sandbox, tmp_path):
    for body in (b'{"observations": [1]}', b'{"observations": [2]}'):
        sandbox.override(FRED, body, headers={"ETag": '"same"'})
        payload = ask(sandbox, FX, EURO, tmp_path, known=Validators("x", '"same"'))
        assert payload.path.read_bytes() == body


def test_a_304_that_nobody_asked_for_is_no_success(tmp_path):
    with Upstream(answer(b"", 304)) as upstream, pytest.raises(UpstreamUnavailable, match="HTTP 304"):
        fetch(csv_spec(), upstream, tmp_path)


def test_an_answer_without_validators_has_none(tmp_path):
    with Upstream(answer()) as upstream:
        assert fetch(csv_spec(), upstream, tmp_path).validators is None


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_not_here_at_once(sandbox, tmp_path, status):
    sandbox.override(f"{BSEE}/ogora2025delimit.zip", b"gone", status=status)
    with pytest.raises(NotHere, match=f"HTTP {status}, 'gone'") as caught:
        ask(sandbox, OGORA, YEAR, tmp_path)
    assert not caught.value.page and len(sandbox.requests) == 1


@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html><p>moved",
        b"\xef\xbb\xbf\r\n\r\n<HTML>",
        b"\r\n" * 4000 + b"<html>",
        b"<!-- cached --><html>",
        "\ufeff<html>moved".encode("utf-16-le"),
        b'<?xml version="1.0"?><error/>',
    ],
)
def test_a_web_page_under_200_is_not_here(sandbox, tmp_path, page):
    sandbox.override(f"{BSEE}/ogora2025delimit.zip", page, headers={"Content-Type": "text/html"})
    with pytest.raises(
        NotHere, match=r"status 200 with a web page; expected a ZIP archive of CSV; got text/html"
    ) as caught:
        ask(sandbox, OGORA, YEAR, tmp_path)
    assert caught.value.page and caught.value.error_class == "permanent"


@pytest.mark.parametrize("body", [b"<ticker>,<date>\nA,2026-01-01\n", b"a < b\n", b""])
def test_data_with_angle_brackets_or_nothing_at_all_is_no_web_page(sandbox, tmp_path, body):
    sandbox.override(HOST, body)
    assert ask(sandbox, csv_spec(), Window(), tmp_path).bytes == len(body)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 422, 204, 206, 300])
def test_any_other_status_is_refused_at_once(tmp_path, status):
    with Upstream(answer(b"", status)) as upstream:
        with pytest.raises(UpstreamRefused, match=f"was refused; expected HTTP 200; got HTTP {status}"):
            fetch(csv_spec(), upstream, tmp_path)
        assert len(upstream.seen) == 1


def test_freds_own_words_are_quoted_and_the_key_is_named(sandbox, tmp_path):
    sandbox.override(FRED, (SAMPLES / "fred_fx/bad/series-does-not-exist.json").read_bytes(), status=400)
    with pytest.raises(UpstreamRefused, match=r"HTTP 400, Bad Request\. The series does not exist.*FRED_API_KEY"):
        ask(sandbox, FX, EURO, tmp_path)


@pytest.mark.parametrize("body", [b"[" * 5000, b"{", b"[1]", b"\xff\xfe", b"null", b""])
def test_an_error_body_of_any_shape_leaves_the_status_to_decide(sandbox, tmp_path, body):
    sandbox.override(FRED, body, status=403)
    with pytest.raises(UpstreamRefused, match="HTTP 403"):
        ask(sandbox, FX, EURO, tmp_path)


def test_an_error_body_that_breaks_off_leaves_the_status_to_decide(tmp_path):
    with (
        Upstream(answer(b"not her", 404, {"Content-Length": "400"})) as upstream,
        pytest.raises(NotHere, match="HTTP 404, 'not her'"),
    ):
        fetch(csv_spec(), upstream, tmp_path)


def test_gzip_is_unpacked_before_it_is_counted_and_hashed(tmp_path):
    body = b"a,b\n" + b"1,2\n" * 200_000
    with Upstream(gzipped(body)) as upstream:
        payload = fetch(csv_spec(), upstream, tmp_path)
    assert payload.path.read_bytes() == body
    assert (payload.bytes, payload.sha256) == (len(body), hashlib.sha256(body).hexdigest())


def test_the_largest_body_allowed_passes_and_one_byte_more_does_not(tmp_path):
    spec = csv_spec(request={"url": URL, "max_bytes": 100})
    with Upstream(answer(b"a" * 100), answer(b"a" * 101)) as upstream:
        assert fetch(spec, upstream, tmp_path).bytes == 100
        with pytest.raises(UpstreamRefused, match="too large; expected at most 100 bytes"):
            fetch(spec, upstream, tmp_path)
        assert len(upstream.seen) == 2


def test_a_bomb_under_gzip_is_stopped_while_it_unpacks(tmp_path):
    spec = csv_spec(request={"url": URL, "max_bytes": 1_000_000})
    with Upstream(gzipped(b"\0" * 200_000_000)) as upstream, pytest.raises(UpstreamRefused, match="too large"):
        fetch(spec, upstream, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1_000_000


def test_a_post_sends_its_body(tmp_path):
    spec = spec_of(request={"url": URL, "method": "POST", "body": {"days": 3}})
    with Upstream(answer(b"[]")) as upstream:
        fetch(spec, upstream, tmp_path)
    (method, _, headers, body) = upstream.seen[0]
    assert (method, json.loads(body), headers["Content-Type"]) == ("POST", {"days": 3}, "application/json")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://example.org/größe/a b.csv", "/example.org/gr%C3%B6%C3%9Fe/a%20b.csv"),
        ("https://bücher.example/x?q=ä", "/xn--bcher-kva.example/x?q=%C3%A4"),
        ("https://example.org", "/example.org/"),
        ("https://example.org:8443/x", "/example.org:8443/x"),
    ],
)
def test_addresses_are_encoded_and_rebased_under_the_stand_in(tmp_path, url, path):
    with Upstream(answer()) as upstream:
        fetch(csv_spec(request={"url": url}), upstream, tmp_path)
    assert upstream.seen[0][1] == path


def test_values_cannot_add_parameters_or_headers(tmp_path):
    spec = csv_spec(request={"url": URL, "params": {"q": "{what}"}, "headers": {"X-What": "{what}"}})
    with Upstream(answer()) as upstream:
        fetch(spec, upstream, tmp_path, window=Window(names={"what": "a&admin=1#x"}))
        assert upstream.seen[0][1] == "/example.org/data.csv?q=a%26admin%3D1%23x"
        for value in ("a\r\nX-Admin: 1", "a\nb"):
            with pytest.raises(UpstreamRefused, match="cannot be requested"):
                fetch(spec, upstream, tmp_path, window=Window(names={"what": value}))
        with pytest.raises(UpstreamRefused, match="cannot be requested"):
            fetch(spec, upstream, tmp_path, window=Window(names={"what": "\u0141ódź"}))
        assert len(upstream.seen) == 1


def test_a_field_the_window_has_not_is_a_mistake_of_the_yaml(tmp_path):
    with pytest.raises(UpstreamRefused, match=r"names what this refresh has not \('series_id'\)"):
        fetch(FX, None, tmp_path, sandbox=True)


def test_passwords_of_netrc_are_not_sent(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine example.org login me password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Upstream(answer()) as upstream:
        fetch(csv_spec(), upstream, tmp_path)
    assert "Authorization" not in upstream.seen[0][2]


def test_a_folder_that_cannot_be_written_is_not_the_upstreams_fault(tmp_path):
    with Upstream(answer()) as upstream, pytest.raises(InternalError, match=r"cannot be written.*No such file"):
        fetch(csv_spec(), upstream, tmp_path / "gone")
    assert len(upstream.seen) == 1


def test_two_answers_of_one_refresh_lie_in_two_files(tmp_path):
    with Upstream(answer(b"a\n1\n"), answer(b"a\n2\n")) as upstream:
        first, second = (fetch(csv_spec(), upstream, tmp_path, url=f"{URL}?page={page}") for page in (1, 2))
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"a\n1\n", b"a\n2\n")
