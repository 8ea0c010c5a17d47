"""Retry-After: how it is read, what is waited for, and what is left alone for longer."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.delivery import deliver
from refresh_pipelines.errors import UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.tries import left_alone_until, retry_after
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.upstream import START, Clock, Upstream, answer, fetch, redirect, settings
from refresh_pipelines_tests.workbench import csv_spec

URL = "https://example.org/data.csv"
GOOD = answer(b"k,n,t\na,1,x\n")
EACH = {"url": URL + "?site={site}", "each": {"site": ["a", "b", "c"]}}


def later(seconds, status=429):
    return answer(b"slow down", status, {"Retry-After": str(seconds)})


def request(**more):
    return csv_spec(request={"url": URL, **more})


@pytest.fixture
def clock():
    return Clock()


def fetcher_of(upstream, folder, clock):
    return Fetcher(settings(folder, upstream.base), clock=clock, sleep=clock.sleep, now=clock.now)


def test_a_number_counts_milliseconds_where_the_source_says_so(tmp_path, clock):
    with Upstream(later(17_000), GOOD) as upstream:
        fetch(request(retry_after="ms"), upstream, tmp_path, clock=clock)
    assert clock.slept == [17]


def test_a_date_is_a_date_whatever_a_number_counts():
    assert retry_after("Sun, 22 Nov 2026 12:01:00 GMT", START, "ms") == 60


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [
        ("34560000", "s", 34_560_000), ("34560001", "s", math.inf), ("34560001000", "ms", math.inf),
        ("1795348800", "s", math.inf), ("9" * 400, "ms", math.inf), ("Fri, 31 Dec 9999 23:59:59 GMT", "s", math.inf),
    ],
)  # fmt: skip
def test_nobody_means_more_than_four_hundred_days(text, unit, seconds):
    assert retry_after(text, START, unit) == seconds


@given(st.one_of(st.text(max_size=40), st.integers().map(str), st.datetimes().map(str)), st.sampled_from(["s", "ms"]))
def test_whatever_stands_there_the_instant_is_none_or_ahead(text, unit):
    at = left_alone_until(retry_after(text, START, unit), START)
    assert at is None or START < at <= START + timedelta(days=400, seconds=1)


@pytest.mark.parametrize("status", [403, 429, 500, 501, 503])
def test_a_long_pause_ends_the_tries_at_once_and_the_error_says_until_when(tmp_path, clock, status):
    with Upstream(later(600, status)) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            fetch(request(), upstream, tmp_path, clock=clock)
        assert (len(upstream.seen), clock.slept) == (1, [])
    assert caught.value.retry_at == START + timedelta(seconds=600)
    assert str(caught.value) == (
        f"{URL} is not available now; expected HTTP 200; got HTTP {status}, 'slow down'. "
        "The upstream wants to be left alone until 2026-11-22 12:10:00 UTC. A later try may pass."
    )


def test_a_short_pause_that_comes_with_403_is_waited_for(tmp_path, clock):
    with Upstream(later(20, 403), GOOD) as upstream:
        fetch(request(), upstream, tmp_path, clock=clock)
    assert clock.slept == [20]


@pytest.mark.parametrize("said", ["soon", "-5", "", "9" * 30])
def test_a_403_is_for_ever_where_it_does_not_say_when_in_earnest(tmp_path, clock, said):
    with Upstream(later(said, 403)) as upstream, pytest.raises(UpstreamRefused) as caught:
        fetch(request(), upstream, tmp_path, clock=clock)
    assert caught.value.retry_at is None


def test_of_an_absurd_pause_only_is_believed_that_it_is_long(tmp_path, clock):
    with Upstream(later("9" * 30)) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            fetch(request(), upstream, tmp_path, clock=clock)
        assert len(upstream.seen) == 1
    assert caught.value.retry_at is None


@pytest.mark.parametrize("said", ["Sun, 22 Nov 2026 11:00:00 GMT", "0", "-5", "soon"])
def test_what_names_no_instant_ahead_changes_nothing(tmp_path, clock, said):
    with Upstream(later(said)) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            fetch(request(), upstream, tmp_path, clock=clock)
        assert len(upstream.seen) == 3
    assert caught.value.retry_at is None


def test_the_last_of_several_short_pauses_is_left_to_whoever_asks_next(tmp_path, clock):
    with Upstream(later(5)) as upstream, pytest.raises(UpstreamUnavailable) as caught:
        fetch(request(), upstream, tmp_path, clock=clock)
    assert clock.now() < caught.value.retry_at <= clock.now() + timedelta(seconds=6)


def test_a_host_is_left_alone_by_whatever_else_a_run_wants_of_it(tmp_path, clock):
    spec = request()
    with Upstream(later(600), GOOD) as upstream:
        fetcher = fetcher_of(upstream, tmp_path, clock)
        for _ in range(3):
            with pytest.raises(UpstreamUnavailable) as caught:
                fetcher.fetch(spec, window_of(spec, None), URL, tmp_path)
        assert (len(upstream.seen), clock.slept) == (1, [])
        fetcher.fetch(spec, window_of(spec, None), "https://example.com/other.csv", tmp_path)
        clock.at += 601
        fetcher.fetch(spec, window_of(spec, None), URL, tmp_path)
        assert len(upstream.seen) == 3
    assert caught.value.retry_at == START + timedelta(seconds=600)
    assert f"{URL} was not asked; got HTTP 429, 'slow down' from this host before." in str(caught.value)


def test_where_a_redirect_leads_it_is_that_host_which_is_left_alone(tmp_path, clock):
    spec, there = request(), "https://cdn.example.net/data.csv"
    with Upstream(redirect(there), later(600), redirect(there), GOOD) as upstream:
        fetcher = fetcher_of(upstream, tmp_path, clock)
        for _ in range(2):
            with pytest.raises(UpstreamUnavailable):
                fetcher.fetch(spec, window_of(spec, None), URL, tmp_path)
        asked = [path for _, path, _, _ in upstream.seen]
    assert asked == ["/example.org/data.csv", "/cdn.example.net/data.csv", "/example.org/data.csv"]


def test_a_refusal_under_each_keeps_the_other_values_from_being_asked(tmp_path, clock):
    spec = csv_spec(request=EACH)
    with Upstream(later(600)) as upstream:
        with pytest.raises(UpstreamUnavailable):
            deliver(spec, window_of(spec, None), fetcher_of(upstream, tmp_path, clock), tmp_path, None)
        assert len(upstream.seen) == 1


def test_keep_rest_keeps_what_came_before_and_asks_for_no_more(tmp_path, clock):
    spec = csv_spec(request={**EACH, "each": {**EACH["each"], "on_error": "keep_rest"}})
    with Upstream(GOOD, later(600)) as upstream:
        delivery = deliver(spec, window_of(spec, None), fetcher_of(upstream, tmp_path, clock), tmp_path, None)
        assert len(upstream.seen) == 2
    assert [dict(part.names) for part in delivery.parts] == [{"site": "a"}]
    assert [(value, error.retry_at) for value, error in delivery.missing] == [
        (value, START + timedelta(seconds=600)) for value in "bc"
    ]


def test_the_second_address_is_not_asked_in_place_of_a_host_that_wants_to_be_left_alone(tmp_path, clock):
    spec = csv_spec(request={"urls": [URL, URL + "?old"]})
    with Upstream(later(600)) as upstream:
        with pytest.raises(UpstreamUnavailable):
            deliver(spec, window_of(spec, None), fetcher_of(upstream, tmp_path, clock), tmp_path, None)
        assert len(upstream.seen) == 1
