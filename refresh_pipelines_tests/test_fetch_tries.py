"""Trouble on the way in: which failures are tried again, when, for how long, and what is said of them."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from refresh_pipelines.errors import UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.tries import retry_after
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.upstream import Clock, Upstream, answer, chunked, fetch, gzipped, reset, settings
from refresh_pipelines_tests.workbench import builtin, csv_spec

URL = "https://example.org/data.csv"
NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
SHORT = csv_spec(request={"url": URL, "timeout": timedelta(milliseconds=60)})
FX = builtin("fred_fx")
EURO = window_of(FX, "DEXUSEU")
THROTTLED = (
    b'{"error_code":400,"error_message":"Bad Request.  The value for variable api_key is not registered.  Read '
    b'https:\\/\\/fred.stlouisfed.org\\/docs\\/api\\/api_key.html for more information."}'
)
THROTTLED_XML = (
    b'<?xml version="1.0" encoding="utf-8"  ?>\n<error code="400" message="Bad Request.  The value for variable '
    b'api_key is not  registered.  Read https://fred.stlouisfed.org/docs/api/api_key.html for more information." />'
)


def within(slept, *expected):
    """Whether the waits are the expected ones, give or take the fifth that spreads callers."""
    return len(slept) == len(expected) and all(0.8 * e <= s <= 1.2 * e for s, e in zip(slept, expected, strict=True))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_status_that_may_pass_is_tried_three_times_after_short_waits(tmp_path, status):
    clock = Clock()
    with Upstream(answer(b"busy", status)) as upstream:
        with pytest.raises(
            UpstreamUnavailable, match=f"not available now; expected HTTP 200; got HTTP {status}, 'busy'"
        ):
            fetch(csv_spec(), upstream, tmp_path, clock=clock)
        assert len(upstream.seen) == 3
    assert within(clock.slept, 1, 4)


def test_what_passes_on_the_third_try_is_a_payload(tmp_path):
    with Upstream(answer(b"", 503), reset, answer(b"a\n1\n")) as upstream:
        assert fetch(csv_spec(), upstream, tmp_path).path.read_bytes() == b"a\n1\n"


def test_a_shorter_body_of_a_later_try_replaces_the_cut_one(tmp_path):
    with Upstream(answer(b"a\n1\n2\n3\n", headers={"Content-Length": "99"}), answer(b"a\n1\n")) as upstream:
        payload = fetch(csv_spec(), upstream, tmp_path)
    assert (payload.path.read_bytes(), payload.bytes) == (b"a\n1\n", 4)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (answer(b"a,b\n1", headers={"Content-Length": "400"}), "IncompleteRead"),
        (chunked(b"a,b\n1", end=b""), "IncompleteRead|InvalidChunkLength|ProtocolError"),
        (chunked(b"a,b\n1", end=b"zz\r\n"), "IncompleteRead|InvalidChunkLength|ProtocolError"),
        (gzipped(b"a,b\n1,2\n" * 100, keep=-9), "the gzip stream breaks off"),
        (gzipped(b"a,b\n1,2\n" * 100, keep=12), "the gzip stream breaks off"),
        (answer(b"a,b\n", headers={"Content-Encoding": "gzip"}), "damaged gzip stream"),
        (answer(b"a,b\n", headers={"Content-Encoding": "br"}), "Content-Encoding 'br', where gzip was asked for"),
        (reset, "Connection"),
        (b"", "RemoteDisconnected"),
        (b"HTTP/9.9 nonsense\r\n\r\n", "BadStatusLine|UnknownProtocol|ProtocolError"),
    ],
)
def test_a_transfer_that_breaks_is_transient_and_says_how(tmp_path, act, said):
    with Upstream(act) as upstream:
        with pytest.raises(UpstreamUnavailable, match=f"data.csv could not be read; got .*({said})") as caught:
            fetch(csv_spec(), upstream, tmp_path)
        assert len(upstream.seen) == 3
    assert caught.value.retryable and "0x" not in str(caught.value)


@pytest.mark.parametrize(
    "act",
    [chunked(b"a,b\n", b"1,2\n"), gzipped(b"a,b\n1,2\n"), answer(b"a,b\n1,2\n", headers={"Content-Length": None})],
)
def test_whole_bodies_come_in_every_framing(tmp_path, act):
    with Upstream(act) as upstream:
        assert fetch(csv_spec(), upstream, tmp_path).path.read_bytes() == b"a,b\n1,2\n"


def test_gzip_of_several_members_with_padding_is_read_to_the_end(tmp_path):
    body = gzipped(b"a,b\n").partition(b"\r\n\r\n")[2] + gzipped(b"1,2\n").partition(b"\r\n\r\n")[2] + b"\0" * 512
    with Upstream(answer(body, headers={"Content-Encoding": "gzip"})) as upstream:
        assert fetch(csv_spec(), upstream, tmp_path).path.read_bytes() == b"a,b\n1,2\n"


def test_an_empty_body_under_gzip_is_empty(tmp_path):
    with Upstream(answer(b"", headers={"Content-Encoding": "gzip"})) as upstream:
        assert fetch(csv_spec(), upstream, tmp_path).bytes == 0


def test_an_upstream_that_says_nothing_runs_into_the_timeout(tmp_path):
    with Upstream(answer()) as upstream:
        upstream.script = [upstream.hang]
        with pytest.raises(UpstreamUnavailable, match=r"TimeoutError|ReadTimeout"):
            fetch(SHORT, upstream, tmp_path)
        assert len(upstream.seen) == 3


def test_a_body_that_drips_is_given_up_after_ten_timeouts(tmp_path):
    spec = csv_spec(request={"url": URL, "timeout": "10s"})
    with Upstream(answer()) as upstream:
        upstream.script = [upstream.drip]
        with pytest.raises(UpstreamUnavailable, match="the body is not complete after 100 s"):
            fetch(spec, upstream, tmp_path, clock=Clock(step=101))
        assert len(upstream.seen) == 1  # the budget of a minute is gone


def test_a_host_that_refuses_connections_is_transient(tmp_path):
    with Upstream(answer()) as upstream:
        base = upstream.base
    with pytest.raises(UpstreamUnavailable, match=r"could not be read; got .*[Rr]efused"):
        fetch(csv_spec(), base, tmp_path)


def test_tls_that_breaks_off_is_transient(tmp_path):
    with Upstream(b"no tls here") as upstream:
        base = upstream.base.replace("http:", "https:")
        with pytest.raises(UpstreamUnavailable, match="could not be read; got SSL"):
            fetch(csv_spec(), base, tmp_path)


class Raising(BaseAdapter):
    """An adapter for a host whose certificate is not accepted."""

    def send(self, request, **_):
        inner = ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")
        raise requests.exceptions.SSLError(inner, request=request)

    def close(self):
        pass


def test_a_bad_certificate_is_permanent_and_never_passed_over(tmp_path):
    session, clock = requests.Session(), Clock()
    session.mount("https://", Raising())
    with pytest.raises(UpstreamRefused, match=r"certificate of https://example.org/data.csv.*REQUESTS_CA_BUNDLE"):
        fetch(csv_spec(), None, tmp_path, session=session, clock=clock)
    assert clock.slept == []


def test_retry_after_in_seconds_is_waited_for(tmp_path):
    clock = Clock()
    with Upstream(answer(b"", 429, {"Retry-After": "17"}), answer()) as upstream:
        fetch(csv_spec(), upstream, tmp_path, clock=clock)
    assert clock.slept == [17]


def test_retry_after_as_a_date_is_waited_for(tmp_path):
    clock = Clock()
    headers = {"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}
    with Upstream(answer(b"", 503, headers), answer()) as upstream:
        fetch(csv_spec(), upstream, tmp_path, clock=clock, now=lambda: NOW)
    assert clock.slept == [30]


@pytest.mark.parametrize("later", ["61", "3600", "9" * 400, "Sun, 22 Nov 2026 18:00:00 GMT"])
def test_a_wait_past_the_minute_is_left_to_a_later_run(tmp_path, later):
    clock = Clock()
    with Upstream(answer(b"", 429, {"Retry-After": later})) as upstream:
        with pytest.raises(UpstreamUnavailable, match="HTTP 429"):
            fetch(csv_spec(), upstream, tmp_path, clock=clock, now=lambda: NOW)
        assert len(upstream.seen) == 1
    assert clock.slept == []


def test_tries_that_each_take_long_end_with_the_minute(tmp_path):
    clock = Clock(step=20)
    with Upstream(answer(b"", 500)) as upstream:
        with pytest.raises(UpstreamUnavailable):
            fetch(csv_spec(), upstream, tmp_path, clock=clock)
        assert len(upstream.seen) < 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("", None), ("0", 0), (" 12 ", 12), ("-5", None), ("soon", None), ("\u00b2", None), ("1.5", None),
        ("Sun, 22 Nov 2026 12:01:00 GMT", 60), ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("Sunday, 22-Nov-26 12:01:00 GMT", 60), ("Sun, 22 Nov 99999999999999 12:01:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(text, seconds):
    assert retry_after(text, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_is_a_defect(text):
    assert retry_after(text, NOW) is None or retry_after(text, NOW) >= 0


@pytest.mark.parametrize("body", [THROTTLED, THROTTLED_XML])
def test_freds_word_for_throttling_is_waited_out_slowly_and_then_permanent(tmp_path, body):
    clock = Clock()
    with Upstream(answer(body, 400)) as upstream:
        with pytest.raises(UpstreamRefused, match=r"is not registered|HTTP 400, '<") as caught:
            fetch(FX, upstream, tmp_path, window=EURO, clock=clock, FRED_API_KEY="0123456789abcdef")
        assert len(upstream.seen) == 3
    assert within(clock.slept, 10, 20)
    assert caught.value.error_class == "permanent" and "Check the value of FRED_API_KEY." in str(caught.value)


def test_a_valid_key_that_was_throttled_passes_on_the_second_try(tmp_path):
    with Upstream(answer(THROTTLED, 400), answer(b'{"observations":[]}')) as upstream:
        assert fetch(FX, upstream, tmp_path, window=EURO, FRED_API_KEY="0123456789abcdef").bytes == 19


def test_requests_to_one_host_keep_the_declared_rate(tmp_path):
    clock = Clock()
    spec = csv_spec(request={"url": URL, "rate": "2/s"})
    with Upstream(answer()) as upstream:
        fetcher = Fetcher(settings(tmp_path, upstream.base), clock=clock, sleep=clock.sleep, now=clock.now)
        for url in (URL, URL, "https://example.com/other.csv", URL):
            fetcher.fetch(spec, window_of(spec, None), url, tmp_path)
    assert clock.slept == [0.5, 0.5]
