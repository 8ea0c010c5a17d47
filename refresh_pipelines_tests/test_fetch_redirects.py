"""Redirects and credentials: where a request may go, and what it takes along."""

from __future__ import annotations

import io
import logging
import traceback
from urllib.parse import quote

import pytest

from refresh_pipelines.credentials import PLACEHOLDER, missing_key
from refresh_pipelines.errors import RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Payload
from refresh_pipelines.window import Window, window_of
from refresh_pipelines_tests.upstream import Upstream, answer, fetch, redirect, reset, settings
from refresh_pipelines_tests.workbench import builtin, csv_spec

URL = "https://example.org/data.csv"
FX = builtin("fred_fx")
EURO = window_of(FX, "DEXUSEU")
SECRET = "pa+ss/w=rd&42"
BEARER = csv_spec(request={"url": URL, "auth": {"env": "API_KEY", "header": "Authorization", "prefix": "Bearer "}})
QUERY = csv_spec(request={"url": URL, "auth": {"env": "API_KEY", "query": "appid"}, "retry_on": ["try again"]})


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("https://other.example/new.csv?x=1", "/other.example/new.csv?x=1"),
        ("/new.csv", "/example.org/new.csv"),
        ("new.csv", "/example.org/new.csv"),
        ("//other.example/new.csv", "/other.example/new.csv"),
        ("https://other.example/a b.csv", "/other.example/a%20b.csv"),
        ("https://other.example/größe.csv", "/other.example/gr%C3%B6%C3%9Fe.csv"),
    ],
)
def test_a_redirect_is_followed_under_the_stand_in(tmp_path, target, asked):
    with Upstream(
        answer(b"", 302, {}).replace(b"\r\n\r\n", f"\r\nLocation: {target}\r\n\r\n".encode()), answer()
    ) as up:
        payload = fetch(csv_spec(), up, tmp_path)
    assert [path for _, path, *_ in up.seen] == ["/example.org/data.csv", asked]
    assert payload.url == URL


def test_a_redirect_that_names_the_stand_in_itself_keeps_the_logical_host(tmp_path):
    with Upstream(answer()) as upstream:
        upstream.script.insert(0, redirect(f"{upstream.base}/other.example/new.csv"))
        fetch(csv_spec(), upstream, tmp_path)
        assert upstream.seen[1][1] == "/other.example/new.csv"


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1/x", "http://127.1/x", "http://0x7f.1/x", "http://2130706433/", "http://[::1]/", "http://localhost/",
        "http://169.254.169.254/latest/meta-data", "https://metadata.google.internal/", "http://10.0.0.8/",
        "http://[::ffff:127.0.0.1]/", "http://127\u30020\u30020\u30021/",
    ],
)  # fmt: skip
def test_a_redirect_into_a_private_network_is_not_followed(tmp_path, target):
    with Upstream(redirect(target)) as upstream:
        with pytest.raises(UpstreamRefused, match=r"private network|no web address"):
            fetch(csv_spec(), upstream, tmp_path)
        assert len(upstream.seen) == 1


def test_a_private_redirect_is_followed_where_that_is_allowed(tmp_path):
    spec = csv_spec(request={"url": URL, "allow_private": True})
    with Upstream(redirect("http://10.0.0.8/x"), answer()) as upstream:
        fetch(spec, upstream, tmp_path)
    assert upstream.seen[1][1] == "/10.0.0.8/x"


@pytest.mark.parametrize("target", ["ftp://example.org/x", "file:///etc/passwd", "http://[bad", "http://a b:x/"])
def test_a_redirect_to_what_is_no_web_address_is_refused(tmp_path, target):
    with Upstream(redirect(target)) as upstream, pytest.raises(UpstreamRefused, match="no web address"):
        fetch(csv_spec(), upstream, tmp_path)


def test_a_redirect_without_a_location_is_refused(tmp_path):
    with Upstream(answer(b"", 302)) as upstream, pytest.raises(UpstreamRefused, match="HTTP 302"):
        fetch(csv_spec(), upstream, tmp_path)


def test_redirects_in_a_circle_end(tmp_path):
    with Upstream(redirect(URL)) as upstream:
        with pytest.raises(UpstreamRefused, match="redirects over 5 times"):
            fetch(csv_spec(), upstream, tmp_path)
        assert len(upstream.seen) == 6


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://example.org/new.csv", True),
        ("https://other.example/new.csv", False),
        ("http://example.org/new.csv", False),
        ("https://example.org:8443/new.csv", False),
    ],
)
def test_a_credential_in_a_header_stays_with_its_host_and_with_tls(tmp_path, target, kept):
    with Upstream(redirect(target), answer()) as upstream:
        fetch(BEARER, upstream, tmp_path, API_KEY="abc")
    first, second = (headers for _, _, headers, _ in upstream.seen)
    assert first["Authorization"] == "Bearer abc"
    assert ("Authorization" in second) is kept


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirected_post_goes_on_as_browsers_do(tmp_path, status, method):
    spec = csv_spec(request={"url": URL, "method": "POST", "body": "a=1"})
    with Upstream(redirect("/new", status), answer()) as upstream:
        fetch(spec, upstream, tmp_path)
    assert upstream.seen[1][0] == method
    assert upstream.seen[1][3] == (b"a=1" if method == "POST" else b"")


def test_a_key_goes_where_it_is_declared_without_white_space_around_it(tmp_path):
    with Upstream(answer()) as upstream:
        fetch(BEARER, upstream, tmp_path, API_KEY=" abc\r\n")
        fetch(QUERY, upstream, tmp_path, API_KEY="a b&c")
    assert upstream.seen[0][2]["Authorization"] == "Bearer abc"
    assert upstream.seen[1][1] == "/example.org/data.csv?appid=a+b%26c"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_key_is_named_and_nothing_is_asked(tmp_path, value):
    environ = {} if value is None else {"API_KEY": value}
    with Upstream(answer()) as upstream:
        with pytest.raises(UpstreamRefused, match=r"API_KEY is not set.*\.env"):
            fetch(QUERY, upstream, tmp_path, **environ)
        assert upstream.seen == []
    assert missing_key(QUERY, settings(tmp_path, None, **environ)) == "API_KEY"


def test_the_sandbox_needs_no_key(tmp_path):
    with Upstream(answer()) as upstream:
        fetch(QUERY, upstream, tmp_path, sandbox=True)
    assert upstream.seen[0][1].endswith(f"?appid={PLACEHOLDER}")
    assert missing_key(QUERY, settings(tmp_path, upstream="x", sandbox=True)) is None
    assert missing_key(csv_spec(), settings(tmp_path, None)) is None


@pytest.mark.parametrize("value", ["k\u00e9y-1", "line\nbreak", "tab\tbed"])
def test_a_key_that_no_request_can_carry_is_refused_without_showing_it(tmp_path, value):
    with pytest.raises(UpstreamRefused, match="the value of API_KEY cannot be sent") as caught:
        fetch(BEARER, None, tmp_path, API_KEY=value)
    assert value not in str(caught.value)


def echo(status=200, headers=None):
    """An answer that repeats the request, as some upstreams do."""

    def act(handler):
        said = f"<html>{handler.path} {SECRET} {quote(SECRET)} try again".encode()
        handler.wfile.write(answer(said, status, headers))

    return act


@pytest.mark.parametrize(
    "act",
    [
        reset, b"", echo(400), echo(401), echo(403), echo(404), echo(429), echo(500), echo(200), answer(b"", 304),
        echo(302, {"Location": f"ftp://example.org/?appid={quote(SECRET)}"}),
        echo(302, {"Location": f"http://[bad/?appid={SECRET}"}),
        echo(302, {"Location": f"http://127.0.0.1/?appid={SECRET}"}), echo(302, {"Location": URL}),
        answer(b"x", headers={"Content-Length": "9"}), answer(b"x" * 2000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spec", [QUERY, BEARER], ids=["query", "header"])
def test_a_planted_secret_is_in_no_error_whatever_goes_wrong(tmp_path, spec, act):
    limited = spec.model_copy(update={"request": spec.request.model_copy(update={"max_bytes": 1000})})
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with Upstream(act) as upstream, pytest.raises(RefreshError) as caught:
            fetch(limited, upstream, tmp_path, API_KEY=SECRET)
    finally:
        logging.getLogger().removeHandler(handler)
    error = caught.value
    shown = [str(error), repr(error), "".join(traceback.format_exception(error)), log.getvalue()]
    for behind in (error.__cause__, error.__context__):
        shown += [str(behind), repr(behind)]
    for text in shown:
        assert SECRET not in text and quote(SECRET, safe="") not in text and quote(SECRET) not in text


def test_a_planted_secret_is_not_in_the_payloads_address(tmp_path):
    with Upstream(answer(headers={"ETag": '"1"'})) as upstream:
        payload = fetch(QUERY, upstream, tmp_path, API_KEY=SECRET)
        again = fetch(QUERY, upstream, tmp_path, API_KEY="another-key", known=payload.validators)
    assert isinstance(payload, Payload) and payload.url == payload.validators.url == f"{URL}?appid=***"
    # A new key asks the same question: the validators still hold.
    assert isinstance(again, Payload) and upstream.seen[1][2]["If-None-Match"] == '"1"'


def test_an_unreachable_host_is_told_without_the_key(tmp_path):
    with Upstream(answer()) as upstream:
        base = upstream.base
    with pytest.raises(UpstreamUnavailable) as caught:
        fetch(FX, base, tmp_path, window=EURO, FRED_API_KEY=SECRET)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "api_key=***" in str(caught.value)


def test_the_address_itself_must_be_public(tmp_path):
    spec = csv_spec(request={"url": "http://{host}/x"})
    with pytest.raises(UpstreamRefused, match=r"10\.0\.0\.1 lies inside a private network.*allow_private"):
        fetch(spec, None, tmp_path, window=Window(names={"host": "10.0.0.1"}))
