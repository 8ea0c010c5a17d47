"""Checked, changed and published after every way in which a refresh can end: the second table of docs/clocks.md."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from refresh_pipelines.clocks import Clocks, Savings, clocks_of, remarks, savings_of, size_text
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.report import metadata_of, recovered_outcome
from refresh_pipelines.outcome import Outcome, failed
from refresh_pipelines_tests.moody import Moody, http
from refresh_pipelines_tests.workbench import NOW, Bench, csv_spec

URL = "https://example.org/data.csv"
MAY, JUNE = (datetime(2026, month, 1, tzinfo=timezone.utc) for month in (5, 6))
HOUR = timedelta(hours=1)
SPEC = csv_spec(request={"url": URL}, load={"mode": "replace_partition"}, expect={"min_rows": 0})


@pytest.fixture
def moody():
    moody = Moody()
    moody.etag, moody.modified = '"1"', http(MAY)
    return moody


@pytest.fixture
def bench(moody, tmp_path):
    with moody.serve() as upstream:
        yield Bench(tmp_path, upstream.base)


@pytest.fixture
def outcomes(bench):
    return [bench.refresh(SPEC)]


def later(bench, outcomes, spec=SPEC, **kwargs):
    """Refresh an hour later, and return the clocks of all outcomes so far."""
    bench.now += HOUR
    outcomes.insert(0, bench.refresh(spec, **kwargs))
    return clocks_of(outcomes)


def test_a_load_moves_checked_and_changed(bench, moody, outcomes):
    assert clocks_of(outcomes) == Clocks(NOW, NOW, MAY)
    moody.etag, moody.modified = '"2"', http(JUNE)
    moody.rows(("a", 2))
    assert later(bench, outcomes) == Clocks(NOW + HOUR, NOW + HOUR, JUNE)


def test_304_moves_checked_alone(bench, outcomes):
    assert later(bench, outcomes) == Clocks(NOW + HOUR, NOW, MAY)
    assert outcomes[0].bytes_saved


@pytest.mark.parametrize("body", [b"k,n,t\na,1,x\n", b"k,n,t\r\na,1,x\r\n"])
def test_the_same_bytes_or_rows_move_checked_and_take_over_what_is_said_of_publication(bench, moody, outcomes, body):
    moody.etag, moody.modified, moody.body = '"2"', http(JUNE), body
    assert later(bench, outcomes) == Clocks(NOW + HOUR, NOW, JUNE)
    assert outcomes[0].outcome == "unchanged"


def test_empty_moves_checked_and_changed_only_where_rows_went(bench, moody, outcomes):
    moody.etag, moody.body = '"2"', b"k,n,t\n"
    assert later(bench, outcomes) == Clocks(NOW + HOUR, NOW + HOUR, MAY)
    assert outcomes[0].outcome == "empty"
    moody.etag, moody.body = '"3"', b"k,n,t\r\n"
    assert later(bench, outcomes) == Clocks(NOW + 2 * HOUR, NOW + HOUR, MAY)


def test_a_failure_moves_nothing(bench, moody, outcomes):
    moody.etag, moody.modified, moody.body = '"2"', http(JUNE), b"k,n,t\na,bad,x\n"
    bench.now += HOUR
    with pytest.raises(RefreshError) as caught:
        bench.refresh(SPEC)
    outcomes.insert(0, failed(SPEC, None, caught.value))
    assert clocks_of(outcomes) == Clocks(NOW, NOW, MAY)


@pytest.mark.parametrize("kind", ["not_yet", "quarantined", "blocked"])
def test_what_is_no_success_moves_nothing(outcomes, kind):
    at = (NOW + HOUR).isoformat()
    other = Outcome("mini", "benin", None, kind, started_at=at, changed_at=NOW + HOUR, published_at=JUNE)
    assert clocks_of([other, *outcomes]) == Clocks(NOW, NOW, MAY)


def test_partial_moves_as_a_load(outcomes):
    partial = replace(outcomes[0], outcome="partial", started_at=(NOW + HOUR).isoformat(), changed_at=NOW + HOUR)
    assert clocks_of([partial, *outcomes]) == Clocks(NOW + HOUR, NOW + HOUR, MAY)


def test_a_replay_asks_nobody_and_may_change_rows(outcomes):
    at = NOW + HOUR
    replayed = replace(outcomes[0], trigger="replay", started_at=at.isoformat(), changed_at=at)
    assert clocks_of([replayed, *outcomes]) == Clocks(NOW, at, MAY)
    assert "refresh/checked_at" not in metadata_of(replayed)


def test_a_recovered_event_is_of_the_time_of_its_commit_although_it_is_logged_later(bench, outcomes):
    state = bench.warehouse.states("mini")[0][""]
    recovered = recovered_outcome(SPEC, state, "schedule")
    newer = replace(outcomes[0], partition="other", started_at=(NOW + HOUR).isoformat(), published_at=None)
    assert clocks_of([recovered]) == Clocks(NOW, NOW, MAY)
    assert clocks_of([recovered, newer]).checked == NOW + HOUR


def test_published_is_the_newest_of_what_partitions_say_now_and_not_what_one_said_once():
    def said(partition, at):
        return Outcome("mini", "benin", partition, "loaded", started_at=NOW.isoformat(), published_at=at)

    assert clocks_of([said("a", MAY), said("a", JUNE), said("b", MAY)]).published == MAY


def test_a_publication_that_goes_back_or_lies_in_the_future_is_said(bench, moody, outcomes):
    moody.etag, moody.modified = '"2"', http(MAY - timedelta(days=30))
    moody.rows(("a", 2))
    later(bench, outcomes)
    back = "the upstream says it published this on 2026-04-01 00:00 UTC, before 2026-05-01 00:00 UTC that it said last"
    assert back in outcomes[0].notes
    moody.etag, moody.modified = '"3"', http(NOW + timedelta(days=400))
    moody.rows(("a", 3))
    later(bench, outcomes)
    assert any(note.endswith("which is in the future") for note in outcomes[0].notes)


def test_a_day_that_begins_earlier_elsewhere_is_no_future():
    assert remarks(None, NOW + timedelta(hours=14), NOW) == []
    assert remarks(MAY, MAY, NOW) == []


def test_the_event_names_the_three_clocks(outcomes):
    found = {name: value for name, value in metadata_of(outcomes[0]).items() if name.endswith("ed_at")}
    at = NOW.isoformat()
    assert found == {
        "refresh/checked_at": at, "refresh/started_at": at, "refresh/changed_at": at,
        "refresh/published_at": MAY.isoformat(),
    }  # fmt: skip


def test_savings_are_added_up_in_one_sentence(bench, outcomes):
    for _ in range(3):
        later(bench, outcomes)
    size = len(b"k,n,t\na,1,x\n")
    assert savings_of(outcomes) == Savings(4, size, 3 * size, NOW.isoformat(timespec="seconds"))
    text = "36 B saved (75 %), 12 B transferred by 4 refreshes since 2026-11-22"
    assert savings_of(outcomes).sentence() == text
    assert savings_of([]).sentence() == ""
    assert [size_text(size) for size in (999, 1000, 33_000_000, 2 * 10**9)] == ["999 B", "1.0 KB", "33.0 MB", "2.0 GB"]
