"""Incidents: opened once, reminded of, ended once; several sources of one host are one notice. Pure decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.incident import Condition, Failure, Good, Rule, covers
from refresh_pipelines.incidents import GROUPING, JOINING, SETTLING, Board
from refresh_pipelines_tests.workbench import spec_of

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
PLAIN = Rule()
HOST = Rule(host="example.org")
DAYS = {"time": "day", "start": "2026-01-01"}


class Story:
    """A board that is kept from one transaction to the next, and everything it has told."""

    def __init__(self, **spec):
        self.now, self.open, self.told = NOW, {}, []
        self.spec = spec_of("a", **spec)

    def do(self, action=lambda board: None, *, awake=(), release=False, minutes=0):
        self.now += minutes * MINUTE
        board = Board(self.open.values())
        action(board)
        board.settle(self.now, awake, release=release)
        self.open.update({id_: one for id_, one in board.changed.items() if one})
        gone = {id_ for id_, one in board.changed.items() if one is None}
        gone |= {id_ for id_, one in self.open.items() if one.recovered_at and one.group not in self.open}
        self.open = {id_: one for id_, one in self.open.items() if id_ not in gone}
        self.told += board.events
        return [(event.kind, event.incident.source) for event in board.events]

    def fail(self, run, *keys, source="a", kind="transient", rule=PLAIN, minutes=1):
        self.now += minutes * MINUTE
        failure = Failure(source, run, keys, kind, f"{source}: it broke", self.now, rule)
        return self.do(lambda board: board.fail(failure, self.now))

    def good(self, *keys, source="a", rows=1, minutes=1):
        self.now += minutes * MINUTE
        goods = [Good(key, self.now, rows, "good") for key in keys or (None,)]
        spec = self.spec.model_copy(update={"source": source})
        return self.do(lambda board: board.good(spec, goods))

    def stand(self, *conditions, minutes=1, judged=("a", "b", "c"), silent=False):
        self.now += minutes * MINUTE
        known = {"overdue": judged, "breaker": judged}
        return self.do(lambda board: board.stand(conditions, known, self.now, silent=silent))


@pytest.fixture
def story():
    return Story()


def overdue(source="a"):
    return Condition(source, "overdue", f"{source} is overdue")


def test_many_failures_are_one_notice_and_one_recovery(story):
    assert story.fail("1") == [("opened", "a")]
    assert [story.fail(str(run)) for run in range(2, 6)] == [[]] * 4
    assert story.good(rows=7, minutes=55) == [("recovered", "a")]
    ended = story.told[-1].incident
    assert (ended.count, ended.rows, ended.recovered_at - ended.began_at) == (5, 7, timedelta(minutes=59))
    assert story.told[0].incident.id == ended.id
    assert story.good() == []


def test_another_error_class_is_another_incident(story):
    assert story.fail("1") == [("opened", "a")]
    assert story.fail("2", kind="contract") == [("opened", "a")]
    assert story.good() == [("recovered", "a"), ("recovered", "a")]


def test_the_threshold_counts_failed_runs_in_a_row_of_any_class(story):
    rule = Rule(after=3)
    assert [story.fail("1", rule=rule), story.fail("2", kind="permanent", rule=rule)] == [[], []]
    assert story.fail("3", rule=rule) == [("opened", "a")]
    assert story.told[0].incident.kind == "transient"


def test_a_success_before_the_threshold_starts_the_count_anew_and_tells_nothing(story):
    rule = Rule(after=2)
    assert [story.fail("1", rule=rule), story.good(), story.fail("2", rule=rule)] == [[], [], []]
    assert story.fail("3", rule=rule) == [("opened", "a")]


def test_reminders_come_at_the_interval_while_it_is_open_and_the_source_is_awake(story):
    story.fail("1")
    assert story.do(minutes=24 * 60 - 1, awake={"a"}) == []
    assert story.do(minutes=1) == []
    assert story.do(awake={"a"}) == [("reminder", "a")]
    assert story.do(minutes=10, awake={"a"}) == []
    assert story.do(minutes=5 * 24 * 60, awake={"a"}) == [("reminder", "a")]
    assert [event.number for event in story.told] == [1, 1, 2]
    story.good()
    assert story.do(minutes=5 * 24 * 60, awake={"a"}) == []


def test_of_several_incidents_of_a_source_only_the_newest_reminds(story):
    story.fail("1")
    story.fail("2", kind="contract")
    assert story.do(minutes=24 * 60, awake={"a"}) == [("reminder", "a")]
    assert story.told[-1].incident.kind == "contract"


def test_every_partition_that_failed_must_have_been_refreshed():
    story = Story(partitions={"static": {"station": ["x", "y"]}})
    story.fail("1", "x", "y")
    assert story.good("x") == []
    assert story.good("y") == [("recovered", "a")]


def test_a_newer_period_ends_the_incident_of_an_older_one_and_an_older_does_not():
    story = Story(partitions=DAYS)
    story.fail("1", "2026-11-21")
    assert story.good("2026-11-20") == []
    assert story.good("2026-11-22") == [("recovered", "a")]


def test_a_good_refresh_from_before_the_failure_ends_nothing(story):
    story.fail("1")
    before = Good(None, story.now - MINUTE, 1, "before")
    assert story.do(lambda board: board.good(story.spec, [before])) == []


def test_a_failure_that_is_found_late_is_opened_and_ended_at_once(story):
    story.now += timedelta(hours=1)
    failure = Failure("a", "1", (), "interrupted", "killed", NOW)

    def found(board):
        board.fail(failure, story.now)
        board.good(story.spec, [Good(None, NOW + MINUTE, 5, "2")])

    assert story.do(found) == [("opened", "a"), ("recovered", "a")]
    assert story.told[0].incident.recovered_at is None


def test_partitions_cover_each_other_as_the_source_is_asked_for_them():
    crossed = spec_of(partitions={**DAYS, "static": {"station": ["x", "y"]}})
    assert covers(crossed, "2026-11-22|x", "2026-11-21|x")
    assert not covers(crossed, "2026-11-22|x", "2026-11-21|y")
    assert covers(crossed, "2026-11-22|x", "2026-11-21|retired")
    static = spec_of(partitions={"static": {"station": ["x", "y"]}})
    assert covers(static, "x", "retired")
    assert not covers(static, "x", "y")
    dynamic = spec_of(partitions={"dynamic": "stations"})
    assert not covers(dynamic, "x", "y")
    assert covers(spec_of(), None, "2026-11-21")


def test_three_sources_of_a_host_are_told_in_one_notice_and_ended_in_one(story):
    assert [story.fail("1", source=name, rule=HOST) for name in "abc"] == [[], [], []]
    assert story.do(minutes=2) == []
    assert story.do(minutes=1) == [("opened", "")]
    [event] = story.told
    assert [one.source for one in event.members] == ["a", "b", "c"]
    assert event.incident.count == 3
    assert [story.good(source="a", rows=2), story.good(source="b", rows=3)] == [[], []]
    assert story.good(source="c", rows=4) == [("recovered", "")]
    assert story.told[-1].incident.rows == 9


def test_a_source_that_fails_alone_is_told_by_itself_when_no_other_came(story):
    story.fail("1", rule=HOST)
    story.fail("1", source="b", rule=HOST)
    assert story.do(minutes=3) == []
    assert story.do(minutes=1) == [("opened", "a")]
    assert story.do(minutes=1) == [("opened", "b")]


def test_those_that_nobody_let_wait_count_for_the_ones_that_follow(story):
    story.fail("1", rule=HOST)
    assert story.do(release=True) == [("opened", "a")]
    story.fail("1", source="b", rule=HOST)
    assert story.do(release=True) == [("opened", "b")]
    story.fail("1", source="c", rule=HOST)
    assert story.do(release=True) == [("opened", "")]
    assert story.fail("1", source="d", rule=HOST) == []


def test_later_sources_of_a_dead_host_join_and_the_reminder_names_who_is_left(story):
    for name in "abc":
        story.fail("1", source=name, rule=HOST)
    story.do(minutes=5)
    assert story.fail("1", source="d", rule=HOST, minutes=600) == []
    story.good(source="a")
    assert story.do(minutes=24 * 60, awake=set("abcd")) == [("reminder", "")]
    assert [one.source for one in story.told[-1].members if not one.recovered_at] == ["b", "c", "d"]


def test_a_source_whose_own_rows_break_days_later_does_not_hide_behind_an_old_notice(story):
    for name in "abc":
        story.fail("1", source=name, kind="contract", rule=HOST)
    story.do(minutes=5)
    assert story.fail("1", source="d", kind="contract", rule=HOST, minutes=30) == []
    late = int((JOINING + GROUPING).total_seconds() // 60) + 1
    story.fail("1", source="e", kind="contract", rule=HOST, minutes=late)
    assert story.do(minutes=5) == [("opened", "e")]


def test_sources_of_different_routes_are_never_told_together(story):
    for name, route in zip("abcd", ("x", "x", "x", "y"), strict=True):
        story.fail("1", source=name, rule=replace(HOST, route=route))
    assert sorted(story.do(minutes=6)) == [("opened", ""), ("opened", "d")]


def test_being_overdue_is_told_once_and_ends_when_it_is_over(story):
    assert story.stand(overdue()) == [("opened", "a")]
    assert story.stand(overdue()) == []
    assert story.stand() == [("recovered", "a")]


def test_what_held_before_anybody_watched_is_never_told(story):
    assert story.stand(overdue(), silent=True) == []
    assert story.stand(overdue()) == []
    assert story.stand() == []
    assert story.stand(overdue()) == [("opened", "a")]


def test_a_consequence_of_an_open_incident_is_not_told_beside_it(story):
    story.fail("1", kind="permanent")
    breaker = Condition("a", "breaker", "breaker open")
    assert story.stand(overdue(), breaker) == []
    assert story.good() == [("recovered", "a")]
    assert story.stand(minutes=0) == []
    assert story.open == {}


def test_a_consequence_that_outlives_the_incident_is_told_after_a_moment(story):
    story.fail("1")
    story.stand(overdue())
    story.good()
    assert story.stand(overdue(), minutes=0) == []
    assert story.stand(overdue(), minutes=SETTLING // MINUTE) == [("opened", "a")]


def test_a_source_that_is_not_judged_stays_as_it_is(story):
    story.stand(overdue())
    assert story.stand(judged=()) == []
    assert story.stand() == [("recovered", "a")]


def test_many_sources_that_are_overdue_at_once_are_one_notice(story):
    assert story.stand(*map(overdue, "abc")) == [("opened", "")]
    assert story.stand() == [("recovered", "")]


def test_the_same_failure_gives_the_same_ids_whoever_generates_them(story):
    other = Story()
    for one in (story, other):
        one.fail("1")
        one.good()
    assert [event.id for event in story.told] == [event.id for event in other.told]
    assert len({event.id for event in story.told}) == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "good", "stand", "calm", "wait", "release"]),
        st.sampled_from("abcd"),
        st.sampled_from(["transient", "contract"]),
        st.integers(0, 90),
    ),
    max_size=40,
)


@given(STEPS, st.booleans(), st.integers(1, 3))
def test_whatever_happens_each_event_is_told_once_and_a_recovery_follows_its_opening(steps, together, after):
    story = Story()
    rule = Rule(after=after, host="example.org" if together else None)
    for number, (what, source, kind, minutes) in enumerate(steps):
        if what == "fail":
            story.fail(str(number), source=source, kind=kind, rule=rule, minutes=minutes)
        elif what == "good":
            story.good(source=source, minutes=minutes)
        elif what in ("stand", "calm"):
            story.stand(*[overdue(source)] * (what == "stand"), minutes=minutes, judged=(source,))
        else:
            story.do(minutes=minutes, awake=set("abcd"), release=what == "release")
    for source in "abcd":
        story.good(source=source, minutes=1)
    story.stand(judged="abcd")
    story.do(minutes=60, release=True)
    ids = [event.id for event in story.told]
    assert len(ids) == len(set(ids))
    open_now: set[str] = set()
    for event in story.told:
        if event.kind == "opened":
            open_now.add(event.incident.id)
        else:
            assert event.incident.id in open_now
        open_now -= {event.incident.id} if event.kind == "recovered" else set()
    assert not open_now
    assert not [one for one in story.open.values() if one.recovered_at is None]
