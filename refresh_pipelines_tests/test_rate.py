"""The rate of a host: turns that any number of processes share, and what happens where they cannot."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.ops import ops_file
from refresh_pipelines.rate import Buckets, Pace, host_rates
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.upstream import START, Clock, Upstream, answer, redirect, settings
from refresh_pipelines_tests.workbench import csv_spec

HOST = "example.org"
URL = f"https://{HOST}/data.csv"


@pytest.fixture
def clock():
    return Clock()


def buckets_of(folder, clock):
    return Buckets(ops_file(folder), clock.now)


def pace_of(folder, clock, **more):
    return Pace(folder, now=clock.now, clock=clock, sleep=clock.sleep, **more)


def times(pace, clock, count, own=None, host=HOST):
    """Return when each of so many requests goes."""
    found = []
    for _ in range(count):
        pace.wait(host, own)
        found.append(clock.at)
    return found


@hypothesis_settings(max_examples=15)
@given(
    rate=st.sampled_from([0.3, 1.0, 3.0, 7.0, 1000 / 3600]),
    asking=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 5), st.floats(0, 2)), min_size=2, max_size=14),
)
def test_no_window_of_time_has_more_requests_than_the_rate_and_one_whoever_asks(rate, asking):
    """Each of three processes asks when it likes, but only after its own turn, and may be late to send."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        processes = [buckets_of(Path(folder), clock) for _ in range(3)]
        free, turns = [0.0, 0.0, 0.0], []
        for who, pause, late in asking:
            clock.at = max(clock.at, free[who]) + pause
            turn = clock.at + processes[who].take(HOST, rate)
            turns.append(turn)
            free[who] = turn + late
    turns.sort()
    for first, start in enumerate(turns):
        for count, end in enumerate(turns[first:], 1):
            assert count <= rate * (end - start) + 1 + 1e-3


def test_turns_taken_by_threads_at_once_are_an_interval_apart(tmp_path):
    turns, together = [], Barrier(4)

    def work():
        looked = []

        def now():
            looked.append(datetime.now(timezone.utc))
            return looked[-1]

        buckets = Buckets(ops_file(tmp_path), now)
        together.wait()
        for _ in range(5):
            left = buckets.take(HOST, 2.0)
            turns.append(looked[-1] + timedelta(seconds=left))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns.sort()
    assert len(turns) == 20
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(turns)]
    assert gaps == pytest.approx([0.5] * 19, abs=1e-5)


def test_each_goes_as_far_behind_the_one_before_as_its_own_rate_says(tmp_path, clock):
    buckets = buckets_of(tmp_path, clock)
    assert [buckets.take(HOST, rate) for rate in (10, 1, 10, 1)] == [0, 1, 1.1, 2.1]


def test_hosts_do_not_wait_for_each_other(tmp_path, clock):
    buckets = buckets_of(tmp_path, clock)
    assert [buckets.take(host, 1) for host in ("a.example", "b.example")] == [0, 0]


@pytest.mark.parametrize("back", [timedelta(minutes=5), timedelta(days=4000)])
def test_a_clock_that_was_set_back_makes_nobody_wait_longer(tmp_path, clock, back):
    buckets = buckets_of(tmp_path, clock)
    assert [buckets.take(HOST, 1) for _ in range(3)] == [0, 1, 2]
    buckets.now = lambda: clock.now() - back
    assert [buckets.take(HOST, 1) for _ in range(2)] == [3, 4]
    buckets.close(HOST, 30)
    buckets.now = lambda: clock.now() - 2 * back
    assert buckets.take(HOST, 1) == 30


def test_a_host_nobody_asked_for_days_is_forgotten(tmp_path, clock):
    buckets = buckets_of(tmp_path, clock)
    buckets.take("old.example", 1)
    clock.at += timedelta(days=3).total_seconds()
    buckets.take(HOST, 1)
    with closing(sqlite3.connect(ops_file(tmp_path))) as store:
        assert store.execute("SELECT host FROM buckets").fetchall() == [(HOST,)]


def test_two_processes_keep_one_rate_together(tmp_path, clock):
    one, other = pace_of(tmp_path, clock), pace_of(tmp_path, clock)
    found = [times(pace, clock, 1, 2.0)[0] for pace in (one, other, one, other)]
    assert found == [0, 0.5, 1, 1.5]


def test_the_lowest_rate_of_enabled_sources_holds_for_all_that_ask_the_host():
    def source(name, url, rate, **more):
        return csv_spec(name, request={"url": url, "rate": rate} if rate else {"url": url}, **more)

    specs = [
        source("a", URL, "5/s"), source("b", "https://Example.org:8443/b", "2/s"), source("c", URL, None),
        source("d", URL, "1/h", enabled=False), source("e", "https://example.com/e", "1/s"),
        csv_spec("f", request={"urls": ["https://one.example/f", "https://example.com/f"], "rate": "30/m"}),
    ]  # fmt: skip
    assert host_rates(specs) == {HOST: 2, "example.com": 0.5, "one.example": 0.5}


def test_a_source_without_a_rate_keeps_that_of_the_others_and_a_slower_one_its_own(tmp_path, clock):
    pace = pace_of(tmp_path, clock)
    pace.join({HOST: 2.0}, lambda _: None)
    assert times(pace, clock, 2, None) + times(pace, clock, 2, 1.0) == [0, 0.5, 1.5, 2.5]


def test_without_a_rate_nothing_is_written(tmp_path, clock):
    pace = pace_of(tmp_path, clock)
    assert times(pace, clock, 3) == [0, 0, 0]
    pace.close(HOST, None, 30)
    assert list(tmp_path.iterdir()) == []


def test_without_a_data_folder_a_process_keeps_the_rate_by_itself_and_makes_none(tmp_path, clock):
    said = []
    pace = pace_of(tmp_path / "none", clock)
    pace.join({}, said.append)
    assert times(pace, clock, 3, 1.0) == [0, 1, 2]
    assert (said, list(tmp_path.iterdir())) == ([], [])


@contextmanager
def no_database(file):
    file.write_bytes(b"no database " * 100)
    yield


@contextmanager
def a_folder(file):
    file.mkdir()
    yield


@contextmanager
def somebody_holds_it(file):
    with closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(file):
    with closing(sqlite3.connect(file)) as store:
        # What another program made: our table is there, and nothing can be written into it.
        store.execute("CREATE VIEW buckets AS SELECT '' AS host, 0 AS last_at, 0 AS closed_until, 0 AS written_at")
    yield


@pytest.mark.parametrize("trouble", [no_database, a_folder, somebody_holds_it, read_only])
def test_trouble_with_the_store_is_told_once_and_the_process_keeps_the_rate_by_itself(tmp_path, clock, trouble):
    said = []
    with trouble(ops_file(tmp_path)):
        pace = pace_of(tmp_path, clock, patience=0.01)
        pace.join({}, said.append)
        assert times(pace, clock, 3, 1.0) == [0, 1, 2]
        pace.close(HOST, 1.0, 30)
    [text] = said
    assert "ops.sqlite cannot be used" in text
    assert "other processes may ask the same host" in text


def test_a_wall_clock_that_runs_ahead_does_not_make_one_process_faster(tmp_path, clock):
    pace = Pace(tmp_path, now=lambda: START + timedelta(hours=clock.at), clock=clock, sleep=clock.sleep)
    assert times(pace, clock, 3, 1.0) == [0, 1, 2]


def test_a_short_pause_that_one_process_is_asked_for_holds_for_all(tmp_path, clock):
    spec = csv_spec(request={"url": URL, "rate": "2/s"})
    with Upstream(answer(b"", 429, {"Retry-After": "17"}), answer()) as upstream:
        tools = {"now": clock.now, "clock": clock}
        asked = []

        def other_asks(seconds):
            """While the first one waits, the other one comes."""
            if not asked:
                asked.append(clock.at)
                other.fetch(spec, window_of(spec, None), URL, tmp_path)
                asked.append(clock.at)
            clock.sleep(seconds)

        first = Fetcher(settings(tmp_path, upstream.base), sleep=other_asks, **tools)
        other = Fetcher(settings(tmp_path, upstream.base), sleep=clock.sleep, **tools)
        first.fetch(spec, window_of(spec, None), URL, tmp_path)
    assert asked == [0, 17]


def test_who_holds_a_turn_already_takes_another_one_when_the_host_is_closed_meanwhile(tmp_path, clock):
    one, other = buckets_of(tmp_path, clock), pace_of(tmp_path, clock)
    one.take(HOST, 1)

    def sleep(seconds):
        if not clock.slept:
            one.close(HOST, 10)
        clock.sleep(seconds)

    other.sleep = sleep
    assert times(other, clock, 1, 1.0) == [10]
    assert clock.slept == [1, 9]


def rows(folder):
    with closing(sqlite3.connect(ops_file(folder))) as store:
        return [host for (host,) in store.execute("SELECT host FROM buckets ORDER BY host")]


def test_it_is_the_host_of_the_address_that_counts_also_of_a_redirect_and_never_its_password(tmp_path, clock):
    url = "https://user:secret@Example.org/data.csv"
    spec = csv_spec(request={"url": url, "rate": "2/s"})
    with Upstream(redirect("https://cdn.example.net/x"), answer()) as upstream:
        tools = {"now": clock.now, "clock": clock, "sleep": clock.sleep}
        Fetcher(settings(tmp_path, upstream.base), **tools).fetch(spec, window_of(spec, None), url, tmp_path)
    assert rows(tmp_path) == ["cdn.example.net", HOST]
    assert b"secret" not in ops_file(tmp_path).read_bytes()


def test_the_bundled_sandbox_is_asked_as_fast_as_it_goes(tmp_path, clock):
    spec = csv_spec(request={"url": URL, "rate": "1/h"})
    with Upstream(answer()) as upstream:
        fetcher = Fetcher(settings(tmp_path, upstream.base, sandbox=True), clock=clock, sleep=clock.sleep)
        for _ in range(3):
            fetcher.fetch(spec, window_of(spec, None), URL, tmp_path)
    assert clock.slept == []
    assert not ops_file(tmp_path).exists()
