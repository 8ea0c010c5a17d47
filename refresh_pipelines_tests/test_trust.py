"""What is learned of validators, as a pure function of what came."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.trust import (
    RESTLESS_AFTER,
    RETURN_AFTER,
    Asking,
    Memory,
    Seen,
    Standing,
    after_body,
    after_silence,
    asking,
    sentences,
)
from refresh_pipelines.validators import Validators, conditions, contradicts, same_etag, validators_of

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
ONE, TWO = Validators("u", '"1"'), Validators("u", '"2"')
LIAR = Memory({"etag": Standing(NOW, "stayed the same while the content changed")})


def seen(before=ONE, after=ONE, differ=False, denied=False):
    return Seen(before, after, bytes_differ=differ, rows_differ=differ, denied=denied)


def examined(memory, one):
    return after_body(memory, one, Asking(one.before, examine=True), NOW)


def test_a_lie_during_the_return_begins_it_anew():
    memory = LIAR
    for _ in range(RETURN_AFTER - 1):
        memory = examined(memory, seen(ONE, TWO, differ=True))
    assert memory.of("etag").agreed == RETURN_AFTER - 1
    back = examined(memory, seen(ONE, TWO, differ=True))
    assert back.of("etag").believed
    assert [event for _, event, _ in sentences(memory, back)] == ["trusted"]
    lied = examined(memory, seen(ONE, ONE, differ=True))
    assert (lied.of("etag").agreed, lied.of("etag").believed) == (0, False)


def test_changes_that_were_not_examined_win_no_trust():
    memory = LIAR
    for _ in range(10):
        memory = after_body(memory, seen(ONE, TWO, differ=True), Asking(), NOW)
    assert memory.of("etag") == LIAR.of("etag")
    assert memory.since == 10


def test_the_same_body_under_the_same_validator_wins_no_trust():
    assert examined(LIAR, seen()).of("etag") == LIAR.of("etag")


def test_a_quiet_answer_ends_restlessness():
    restless = Memory({"etag": Standing(restless=RESTLESS_AFTER)})
    assert restless.of("etag").useless
    assert not after_body(restless, seen(), Asking(), NOW).of("etag").useless


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=30), st.integers(2, 6))
def test_a_lie_of_an_upstream_stands_for_fewer_refreshes_than_verify_every(events, every):
    """Whatever happened before: while 304 is answered to everything, a changed body is had after `every` refreshes."""
    memory = Memory()
    for denied, told, differ in events:
        memory = after_body(memory, seen(ONE, TWO if told else ONE, differ, denied), Asking(ONE), NOW)
    for refreshes in range(1, every + 1):  # noqa: B007 - how far it came is what counts
        how = asking(memory, ONE, every, NOW, NOW)
        if how.sent is None or how.examine:
            break
        memory = after_silence(memory)
    assert refreshes <= every


def test_nothing_known_or_verify_every_refresh_is_unconditional():
    assert asking(Memory(), None, 10, NOW, NOW) == asking(Memory(), ONE, 1, NOW, NOW) == Asking()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('"a"', '"a"', True), ('"a"', 'W/"a"', True), ('"a-gzip"', '"a"', True), ('"a--gzip"', 'W/"a"', True),
        ('"a;gzip"', '"a-gzip"', True), ('"a"', '"b"', False), ('"gzip"', '""', False),
    ],
)  # fmt: skip
def test_etags_are_compared_weakly_and_without_what_packing_adds(one, other, same):
    assert same_etag(one, other) is same


def test_only_what_may_name_a_version_is_kept():
    date = {"Date": "Sun, 22 Nov 2026 12:00:00 GMT"}
    late = {"Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"}
    good = {"Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT"}
    assert validators_of("u", {**date, **late}, NOW) is None
    assert validators_of("u", {**date, **late, "ETag": '"1"'}, NOW) == ONE
    assert validators_of("u", {**date, **good}, NOW) == Validators("u", None, good["Last-Modified"])
    assert validators_of("u", good, NOW - timedelta(days=3)) is None
    assert validators_of("u", {"Last-Modified": "yesterday"}, NOW) is None
    assert validators_of("u", {}, NOW) is None


def test_a_304_may_be_silent_and_must_not_name_another_version():
    dated = Validators("u", None, "Sat, 21 Nov 2026 12:00:00 GMT")
    assert not contradicts(ONE, {})
    assert not contradicts(ONE, {"ETag": 'W/"1-gzip"'})
    assert contradicts(ONE, {"ETag": '"2"'})
    assert contradicts(dated, {"Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"})
    assert not contradicts(dated, {"Last-Modified": "Sat, 21 Nov 2026 12:00:00 GMT"})
    assert conditions(dated) == {"If-Modified-Since": "Sat, 21 Nov 2026 12:00:00 GMT"}
