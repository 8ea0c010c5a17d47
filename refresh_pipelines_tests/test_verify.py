"""Validators are believed as long as they tell the truth: what a lying, restless or odd upstream leads to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from refresh_pipelines.ops import ops_file
from refresh_pipelines_tests.moody import Moody, http
from refresh_pipelines_tests.workbench import NOW, Bench, csv_spec

URL = "https://example.org/data.csv"
MAY = NOW - timedelta(days=200)


def spec(every: object = 3, **changes):
    return csv_spec(request={"url": URL, "verify_every": every}, **changes)


@pytest.fixture
def moody():
    return Moody()


@pytest.fixture
def bench(moody, tmp_path):
    with moody.serve() as upstream:
        yield Bench(tmp_path, upstream.base)


def loads(bench, times, spec):
    return [bench.refresh(spec) for _ in range(times)]


def values(bench):
    return [row[:2] for row in bench.rows("mini")]


def test_304_is_believed_for_so_many_refreshes_and_then_verified(bench, moody):
    moody.etag = '"1"'
    outcomes = loads(bench, 7, spec(3))
    assert [one.outcome for one in outcomes] == ["loaded", *["unchanged"] * 6]
    body, believed, asked_again = (False, 200), (True, 304), [(True, 304), (False, 200)]
    assert moody.statuses == [body, believed, believed, *asked_again, believed, believed, *asked_again]
    size = len(moody.body)
    assert [one.bytes_saved for one in outcomes] == [0, size, size, 0, size, size, 0]
    assert outcomes[1].validators == "304 believed (ETag); 1 believed since it was verified"
    assert outcomes[3].validators == "304 verified: the body is the same"


def test_a_body_counts_as_verification(bench, moody):
    moody.etag = '"1"'
    loads(bench, 3, spec(3))
    moody.etag = '"2"'
    moody.rows(("a", 2))
    loads(bench, 3, spec(3))
    assert moody.statuses[3:] == [(True, 200), (True, 304), (True, 304)]


def test_a_duration_counts_from_the_last_body(bench, moody):
    moody.etag = '"1"'
    daily = spec("7d")
    bench.refresh(daily)
    for _ in range(15):
        bench.now += timedelta(days=1)
        bench.refresh(daily)
    assert [number for number, (conditional, _) in enumerate(moody.statuses) if not conditional] == [0, 8, 16]


def test_verify_every_refresh_asks_unconditionally(bench, moody):
    moody.etag = '"1"'
    loads(bench, 3, spec(1))
    assert moody.statuses == [(False, 200)] * 3


@pytest.mark.parametrize("obeys", ["honest", "always"])
def test_an_etag_that_stays_while_the_content_changes_is_found_out_and_not_believed_again(bench, moody, obeys):
    moody.etag, moody.obeys = '"stuck"', obeys
    loads(bench, 2, spec(3))
    moody.rows(("a", 2), ("b", 1))
    believed, found = loads(bench, 2, spec(3))
    assert (believed.outcome, believed.bytes_saved) == ("unchanged", len(b"k,n,t\na,1,x\n"))
    assert (found.outcome, found.counts.updated, found.counts.added) == ("loaded", 1, 1)
    assert values(bench) == [("a", 2), ("b", 1)]
    told = "the upstream's ETag stayed the same while the content changed: it is not believed any more"
    assert told in found.notes
    assert "ETag distrusted since 2026-11-22 12:00 UTC" in found.validators
    moody.asked.clear()
    moody.rows(("a", 3))
    after = bench.refresh(spec(3))
    assert (moody.statuses, after.outcome, after.bytes_saved) == ([(False, 200)], "loaded", 0)


def test_304_to_everything_is_found_out_although_the_etag_moves(bench, moody):
    moody.etag, moody.obeys, moody.bare = '"1"', "always", True
    loads(bench, 3, spec(2))  # the third is verified
    moody.etag = '"2"'
    moody.rows(("a", 2))
    assert bench.refresh(spec(2)).outcome == "unchanged"
    found = bench.refresh(spec(2))
    assert found.outcome == "loaded"
    assert "the upstream's ETag was answered with 304 although the content had changed" in found.notes[0]


def test_a_stuck_validator_is_found_out_at_the_first_body_where_conditions_are_ignored(bench, moody):
    moody.etag, moody.obeys = '"stuck"', "deaf"
    bench.refresh(spec(100))
    moody.rows(("a", 2))
    assert "ETag distrusted" in bench.refresh(spec(100)).validators


def test_distrust_is_of_the_source_and_its_other_partitions_need_not_learn_it(bench, moody):
    both = spec(2, partitions={"static": {"site": ["x", "y"]}})
    both = both.model_copy(update={"request": both.request.model_copy(update={"url": URL + "?{site}"})})
    moody.etag = '"stuck"'
    for key in ("x", "y"):
        moody.rows((key, 1))
        bench.refresh(both, key)
    moody.rows(("x", 2))
    bench.refresh(both, "x")
    assert "ETag distrusted" in bench.refresh(both, "x").validators
    moody.asked.clear()
    moody.rows(("y", 1))
    bench.refresh(both, "y")
    assert not any("If-None-Match" in one and one["status"] == "304" for one in moody.asked) or len(moody.asked) == 2


def test_trust_returns_after_three_changes_that_were_told_when_it_was_examined(bench, moody):
    moody.etag, every = '"stuck"', spec(2)
    bench.refresh(every)
    moody.rows(("a", 2))
    loads(bench, 2, every)  # found out by the second
    returned = None
    for number in range(3, 12):
        moody.etag = f'"{number}"'
        moody.rows(("a", number))
        outcome = bench.refresh(every)
        if any("believed again" in note for note in outcome.notes):
            returned = number
    assert returned is not None
    moody.asked.clear()
    assert bench.refresh(every).bytes_saved or moody.statuses == [(True, 304), (False, 200)]


def test_last_modified_alone_is_believed_where_the_etag_lied(bench, moody):
    moody.etag, moody.modified = '"stuck"', http(MAY)
    moody.obeys = "deaf"
    bench.refresh(spec(100))
    moody.rows(("a", 2))
    moody.modified = http(MAY + timedelta(days=1))
    assert "ETag distrusted" in bench.refresh(spec(100)).validators
    moody.obeys = "honest"
    outcome = bench.refresh(spec(100))
    assert (outcome.outcome, outcome.bytes_saved) == ("unchanged", len(moody.body))
    assert set(moody.asked[-1]) == {"If-Modified-Since", "conditional", "status"}


def test_an_etag_that_moves_with_every_answer_is_no_saving_and_is_not_sent_any_more(bench, moody):
    moody.modified = http(MAY)
    outcomes = []
    for number in range(6):
        moody.etag = f'"{number}"'
        outcomes.append(bench.refresh(spec(100)))
    assert [one.bytes_saved for one in outcomes[:4]] == [0] * 4
    assert "changes although the bytes do not" in outcomes[3].notes[-1]
    assert [one.bytes_saved for one in outcomes[4:]] == [len(moody.body)] * 2
    assert "If-None-Match" in moody.asked[3] and "If-None-Match" not in moody.asked[4]


def test_a_weak_etag_promises_the_same_rows_and_not_the_same_bytes(bench, moody):
    moody.etag, moody.obeys = 'W/"1"', "deaf"
    bench.refresh(spec(100))
    moody.body = b"k,n,t\r\na,1,x\r\n"
    same = bench.refresh(spec(100))
    assert (same.outcome, same.validators) == ("unchanged", "")
    moody.rows(("a", 2))
    assert "ETag distrusted" in bench.refresh(spec(100)).validators


def test_the_etag_of_a_packed_file_is_sent_with_and_without_its_suffix(bench, moody):
    moody.etag = '"abc-gzip"'
    bench.refresh(spec())
    moody.etag = '"abc"'  # as Apache compares it
    assert bench.refresh(spec()).bytes_saved
    assert moody.asked[1]["If-None-Match"] == '"abc-gzip", "abc"'


def test_a_304_that_names_another_version_is_asked_anew(bench, moody):
    moody.etag, moody.obeys = '"1"', "always"
    bench.refresh(spec(100))
    moody.etag = '"2"'
    moody.rows(("a", 2))
    # Its answers carry the ETag of what it serves: not the one that was asked about.
    outcome = bench.refresh(spec(100))
    assert (moody.statuses[1:], outcome.outcome) == ([(True, 304), (False, 200)], "loaded")


@pytest.mark.parametrize("moved", [timedelta(0), timedelta(days=3650)])
def test_a_last_modified_of_now_or_of_the_future_is_not_sent(bench, moody, moved):
    moody.more = {"Date": http(NOW)}
    moody.modified = http(NOW + moved)
    first, second = loads(bench, 2, spec())
    assert moody.statuses == [(False, 200)] * 2
    assert (second.outcome, second.bytes_saved) == ("unchanged", 0)
    assert (first.published_at is None) == (not moved)


def test_a_last_modified_that_goes_back_while_the_content_changes_is_not_believed(bench, moody):
    moody.modified = http(MAY)
    bench.refresh(spec(100))
    moody.rows(("a", 2))
    moody.modified = http(MAY - timedelta(days=30))
    outcome = bench.refresh(spec(100))
    assert "Last-Modified distrusted" in outcome.validators
    assert any("published" in note and "before" in note for note in outcome.notes)


def test_what_was_learned_outlives_the_process_and_may_be_lost_at_the_price_of_learning_again(bench, moody):
    moody.etag, moody.obeys = '"stuck"', "deaf"
    bench.refresh(spec(100))
    moody.rows(("a", 2))
    bench.refresh(spec(100))
    moody.asked.clear()
    bench.refresh(spec(100))
    assert moody.statuses == [(False, 200)]
    ops_file(bench.settings.data_dir).unlink()
    bench.refresh(spec(100))
    assert moody.statuses[1:] == [(True, 200)]


def test_a_store_that_cannot_be_used_asks_unconditionally_and_fails_nothing(bench, moody):
    moody.etag = '"1"'
    bench.refresh(spec())
    path = ops_file(bench.settings.data_dir)
    for name in path.parent.glob("ops.sqlite*"):
        name.unlink()
    path.write_bytes(b"this is no database" * 100)
    assert bench.refresh(spec()).outcome == "unchanged"
    assert moody.statuses[1:] == [(False, 200)]


def test_force_reads_anew_and_still_learns(bench, moody):
    moody.etag = '"stuck"'
    bench.refresh(spec(100))
    moody.rows(("a", 2))
    assert bench.refresh(spec(100)).outcome == "unchanged"
    forced = bench.refresh(spec(100), force=True)
    assert (moody.statuses[-1], forced.outcome) == ((False, 200), "loaded")
    assert "ETag distrusted" in forced.validators


def test_a_payload_that_is_refused_teaches_nothing(bench, moody):
    moody.etag, moody.obeys = '"1"', "deaf"
    bench.refresh(spec(100))
    moody.body = b"k,n,t\na,broken,x\n"
    with pytest.raises(Exception, match="broken"):
        bench.refresh(spec(100))
    moody.rows(("a", 1))
    moody.body = b"k,n,t\na,1,x\n"
    assert bench.refresh(spec(100)).validators == ""


def test_a_changed_verify_every_reads_no_source_anew():
    assert spec(3).spec_hash == spec("7d").spec_hash == csv_spec(request={"url": URL}).spec_hash
