"""Gaps over Dagster's own scheduler and stores: what a daemon that was away leaves, what is due, what would be done."""

from datetime import timedelta

import dagster as dg
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.clock import utc_now
from refresh_pipelines.decide import tick_text
from refresh_pipelines.orchestration.due import due_of, standing
from refresh_pipelines.orchestration.gaps import accounts_of, fill_orders
from refresh_pipelines.orchestration.internals import cancel_run
from refresh_pipelines.orchestration.internals_ticks import newest_tick
from refresh_pipelines.orchestration.pause import pause, resume
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.orchestration.tags import COALESCED, EXPIRED, TICK
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.clockwork import Clockwork, utc

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DAILY = 'frequency: daily, time: "06:00"'
DAYS = "time: day, start: 2026-01-01, column: day"
ASSET = dg.AssetKey(["benin", "a"])


class Watched(Clockwork):
    """The scheduler, and what our commands say of it."""

    def __init__(self, folder, history, schedule, partitions="", **environ):
        super().__init__(folder, history, schedule, partitions, **environ)
        self.folder = folder

    @property
    def settings(self):
        return Settings.load({"REFRESH_CATALOG": "catalog"}, root=self.folder)

    @property
    def spec(self):
        return load_catalogue(self.settings.catalog).find("a")

    def reads(self, noting=True):
        return Reads([self.spec], self.settings, timedelta(0), noting=noting)

    def account(self, now, since=None):
        wanted = since or now - 90 * DAY
        [account] = accounts_of(self.instance, self.settings, [self.spec], self.reads(), wanted, now)
        return account

    def words(self, now):
        return [found.verdict for found in self.account(now).findings]

    def due(self, now):
        return due_of(self.instance, self.spec, self.settings, self.reads(), now)

    def standing(self, at):
        return standing(self.instance, self.spec, self.settings, self.reads(noting=False), at)

    def enabled(self, at):
        """Say that the source was seen for the first time."""
        self.reads().note(self.instance, at)

    def loaded(self, *keys):
        for key in keys or (None,):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, partition=key))


@pytest.fixture
def start(tmp_path, empty_history):
    """Return a function that starts the scheduler over a schedule of the YAML."""
    stack = []

    def begin(schedule, partitions="", **environ):
        stack.append(Watched(tmp_path, empty_history, schedule, partitions, **environ).__enter__())
        return stack[0]

    yield begin
    for watched in stack:
        watched.__exit__()


def test_after_downtime_the_run_at_its_end_stands_for_the_ticks_before_it(start):
    watched = start(DAILY)
    watched.pass_time(utc("2026-03-01T05:00"), utc("2026-03-02T07:00"))
    watched.pass_time(utc("2026-03-05T06:05"), utc("2026-03-05T06:30"))
    assert watched.words(utc("2026-03-05T12:00")) == ["run", "run", "coalesced", "coalesced", "run"]


def test_what_was_missed_and_misfired_is_listed_and_the_misfired_tick_says_why(start):
    watched = start(f"{DAILY}, catch_up: none")
    watched.pass_time(utc("2026-03-01T05:00"), utc("2026-03-01T07:00"))
    watched.pass_time(utc("2026-03-04T09:00"), utc("2026-03-04T09:30"))
    account = watched.account(utc("2026-03-04T12:00"))
    assert [found.verdict for found in account.findings] == ["run", "gap", "gap", "skipped"]
    assert account.findings[-1].reason.startswith("misfired: ")
    assert not account.good


def test_while_the_daemon_is_away_its_ticks_are_gaps_and_their_partitions_missing(start):
    watched = start(DAILY, DAYS)
    [run] = watched.look(utc("2026-03-01T05:00")) or watched.look(utc("2026-03-01T06:01"))
    watched.end(run, "2026-02-28")
    account = watched.account(utc("2026-03-04T05:00"))
    assert [found.verdict for found in account.findings] == ["run", "gap", "gap"]
    assert [found.partition for found in account.missing] == ["2026-03-01", "2026-03-02"]
    [order] = fill_orders(account)
    assert (order.keys, order.trigger) == (("2026-03-01", "2026-03-02"), "catch_up")
    assert order.tags == {TICK: "2026-03-03T06:00:00Z"}


def test_what_was_loaded_later_is_neither_missing_nor_filled(start):
    watched = start(DAILY, DAYS)
    watched.enabled(utc("2026-03-01T05:00"))
    watched.loaded("2026-02-28", "2026-03-01", "2026-03-02")
    account = watched.account(utc("2026-03-03T12:00"))
    assert {found.verdict for found in account.findings} == {"made_up"}
    assert (account.missing, account.fillings, account.good) == ((), (), True)


def test_a_run_that_expired_in_the_queue_is_listed(start):
    watched = start(DAILY)
    watched.look(utc("2026-03-01T05:00"))
    [run] = watched.look(utc("2026-03-01T06:01"))
    cancel_run(watched.instance, run.run_id, "expired")
    watched.instance.add_run_tags(run.run_id, {EXPIRED: "2026-03-01T07:02:00+00:00"})
    account = watched.account(utc("2026-03-01T08:00"))
    assert [(found.verdict, found.run_id) for found in account.findings] == [("expired", run.run_id)]
    assert [order.tags[TICK] for order in fill_orders(account)] == ["2026-03-01T06:00:00Z"]


def test_a_pause_explains_what_was_due_in_it(start):
    watched = start(DAILY)
    watched.pass_time(utc("2026-03-01T05:00"), utc("2026-03-01T07:00"))
    pause(watched.instance, watched.settings, [watched.spec], now=utc("2026-03-01T12:00"), reason="", by="me")
    assert watched.words(utc("2026-03-03T12:00")) == ["run", "paused", "paused"]
    resume(watched.instance, watched.settings, [watched.spec], now=utc("2026-03-03T13:00"))
    watched.pass_time(utc("2026-03-03T13:00"), utc("2026-03-04T06:30"))
    assert watched.words(utc("2026-03-04T12:00")) == ["run", "paused", "paused", "run"]


def test_schedules_that_are_switched_off_skip_with_a_reason(start):
    watched = start(DAILY, REFRESH_SCHEDULES_ENABLED="false")
    watched.pass_time(utc("2026-03-01T05:00"), utc("2026-03-02T07:00"))
    account = watched.account(utc("2026-03-02T12:00"))
    assert [found.verdict for found in account.findings] == ["skipped", "skipped"]
    assert all("REFRESH_SCHEDULES_ENABLED is false" in found.reason for found in account.findings)


def test_a_source_that_was_never_seen_before_has_no_gaps(start):
    account = start(DAILY).account(utc("2026-03-04T12:00"))
    assert (account.findings, account.good) == ((), True)


def test_a_run_under_way_is_not_filled_again(start):
    watched = start(DAILY, DAYS)
    watched.look(utc("2026-03-01T05:00"))
    watched.look(utc("2026-03-04T06:01"))  # stays queued: one for the newest period, one for those before
    account = watched.account(utc("2026-03-04T06:30"))
    assert (account.missing, account.fillings) == ((), ())


# What is due, for another clock than Dagster's.


def test_the_newest_tick_without_a_success_is_due_whether_or_not_a_daemon_ever_ran(start):
    watched = start(DAILY)
    [order] = watched.due(utc("2026-03-04T06:10")).orders
    assert (order.keys, order.trigger, order.tags) == ((), "schedule", {TICK: "2026-03-04T06:00:00Z"})
    [order] = watched.due(utc("2026-03-04T09:00")).orders
    assert order.trigger == "catch_up"


def test_a_success_since_the_newest_tick_leaves_nothing_due(start):
    watched = start(DAILY)
    now = watched_now()
    watched.loaded()
    assert watched.due(now) is None
    assert watched.due(now + DAY) is not None


def watched_now():
    """Return a time after the events of this test, on the day of which its tick lies before them."""
    return utc_now().replace(hour=23, minute=59) - (timedelta(0) if utc_now().hour >= 6 else DAY)


def test_of_static_partitions_only_those_without_a_success_are_due(start):
    watched = start('frequency: hourly, time: "00:00"', "static: {series: [A, B, C]}")
    now = utc_now()
    watched.loaded("B")
    due = watched.due(now.replace(minute=59, second=59))
    assert sorted(key for order in due.orders for key in order.keys) == ["A", "C"]


def test_what_is_missing_is_due_as_well_under_catch_up_all(start):
    watched = start(DAILY, DAYS)
    watched.enabled(utc("2026-03-01T05:00"))
    watched.loaded("2026-02-28")
    orders = watched.due(utc("2026-03-05T06:10")).orders
    assert [(order.keys, order.trigger) for order in orders] == [
        (("2026-03-04",), "schedule"),
        (("2026-03-01", "2026-03-02", "2026-03-03"), "catch_up"),
    ]


def test_a_run_that_the_daemon_has_requested_already_is_not_made_twice(start):
    watched = start(DAILY)
    watched.look(utc("2026-03-04T05:00"))
    [run] = watched.look(utc("2026-03-04T06:00:20"))
    due = watched.due(utc("2026-03-04T06:01"))
    assert due.orders == ()
    assert due.reason == f"overlap: skip, because run {run.run_id[:8]} of the same partitions is queued or in progress"


def test_too_late_without_catch_up_nothing_is_run_and_that_is_said(start):
    due = start(f"{DAILY}, catch_up: none").due(utc("2026-03-04T09:00"))
    assert due.orders == ()
    assert due.reason.startswith("misfired: looked at 3h after it was due")


def test_switched_off_schedules_do_not_hinder_another_clock(start):
    watched = start(DAILY)
    settings = Settings.load({"REFRESH_CATALOG": "catalog", "REFRESH_SCHEDULES_ENABLED": "false"}, root=watched.folder)
    assert due_of(watched.instance, watched.spec, settings, watched.reads(), utc("2026-03-04T06:10")).orders


def test_a_run_stands_for_the_ticks_since_the_last_one_that_was_run_by_whatever_clock(start):
    watched = start(DAILY)
    watched.look(utc("2026-03-01T05:00"))
    [run] = watched.look(utc("2026-03-01T06:01"))
    watched.end(run)
    [order] = watched.due(utc("2026-03-04T06:10")).orders
    assert order.tags == {TICK: "2026-03-04T06:00:00Z", COALESCED: "3"}


# What `plan` says of this moment.


def test_a_tick_that_was_looked_at_leaves_nothing_to_do(start):
    watched = start(DAILY)
    watched.pass_time(utc("2026-03-01T05:00"), utc("2026-03-01T07:00"))
    assert watched.standing(utc("2026-03-01T08:00")).reason == "the newest tick was looked at"


@pytest.mark.parametrize(
    ("catch_up", "at", "action", "keys"),
    [
        ("all", "2026-03-04T06:10", "catch_up", [("2026-03-03",), ("2026-03-01", "2026-03-02")]),
        ("latest", "2026-03-04T06:10", "schedule", [("2026-03-03",)]),
        ("latest", "2026-03-04T09:00", "catch_up", [("2026-03-03",)]),
        ("none", "2026-03-04T06:10", "schedule", [("2026-03-03",)]),
        ("none", "2026-03-04T09:00", "skip", []),
    ],
)
def test_after_downtime_plan_says_what_a_daemon_would_request(start, catch_up, at, action, keys):
    watched = start(f"{DAILY}, catch_up: {catch_up}", DAYS)
    watched.look(utc("2026-03-01T05:00"))
    [run] = watched.look(utc("2026-03-01T06:01"))
    watched.end(run, "2026-02-28")
    said = watched.standing(utc(at))
    assert (said.action, [request.keys for request in said.requests]) == (action, keys)
    runs = watched.look(utc(at))
    covered = {(run.tags["refresh/trigger"], run.tags["dagster/run_key"]) for run in runs}
    assert covered == {(request.trigger, request.run_key) for request in said.requests}


def test_plan_writes_nothing_down_for_another_time(start):
    watched = start(DAILY)
    assert watched.standing(utc("2030-01-01T00:00")).reason.startswith("no tick has been due since")
    assert watched.reads().changes() == {}
    assert newest_tick(watched.instance, "a_schedule") is None


def test_ticks_are_written_alike_in_tags_and_answers():
    assert tick_text(utc("2026-03-04T06:00")) == "2026-03-04T06:00:00Z"
