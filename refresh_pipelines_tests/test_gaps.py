"""What became of due ticks: a run, an explained skip, or a gap; what is missing, and what fills it. Pure."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.expected import Since, expectation, rhythm_of
from refresh_pipelines.gaps import (
    OPEN,
    Look,
    Made,
    Seen,
    fillings_of,
    findings_of,
    horizon_of,
    missing_of,
)
from refresh_pipelines.rhythms import Change
from refresh_pipelines_tests.workbench import spec_of

UTC = timezone.utc
DAY = timedelta(days=1)
DAYS = {"time": "day", "start": "2026-01-01"}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def day(number):
    """Return the tick of a day of March 2026."""
    return at(f"2026-03-{number:02}T06:00")


def made(partitions=None, **schedule):
    return spec_of(schedule={"frequency": "daily", "time": "06:00", **schedule}, partitions=partitions)


def found(spec, seen, start=1, now="2026-03-04T12:00"):
    return findings_of(spec, rhythm_of(spec), day(start), seen, at(now))


def words(findings):
    return [finding.verdict for finding in findings]


def test_every_due_tick_is_a_run_a_skip_or_a_gap():
    runs = [Made("r1", day(1)), Made("r2", day(2), status="failure")]
    seen = Seen(looks=[Look(day(3), "skipped", "blocked: set KEY")], runs=runs)
    findings = found(made(), seen)
    assert words(findings) == ["run", "run", "skipped", "gap"]
    assert [finding.reason for finding in findings] == ["", "failure", "blocked: set KEY", "nobody looked at it"]
    assert [finding.run_id for finding in findings] == ["r1", "r2", "", ""]


def test_a_run_stands_for_as_many_due_ticks_before_it_as_it_says():
    findings = found(made(), Seen(runs=[Made("r4", day(4), coalesced=3)]))
    assert words(findings) == ["gap", "coalesced", "coalesced", "run"]
    assert findings[1].run_id == "r4"
    assert findings[1].reason == "the run of 2026-03-04 06:00 UTC stands for it"


def test_a_run_that_was_cancelled_in_the_queue_is_a_gap_until_another_one_is_made_for_the_tick():
    expired = Made("r1", day(4), status="canceled", expired=True)
    assert words(found(made(), Seen(runs=[expired]), start=4)) == ["expired"]
    assert words(found(made(), Seen(runs=[expired, Made("r2", day(4))]), start=4)) == ["run"]
    assert "expired" in OPEN


def test_a_run_that_expired_stands_for_no_other_tick():
    findings = found(made(), Seen(runs=[Made("r1", day(4), coalesced=4, expired=True)]))
    assert words(findings) == ["gap", "gap", "gap", "expired"]


def test_a_tick_whose_run_is_gone_is_known_from_its_own_record():
    findings = found(made(), Seen(looks=[Look(day(4), "success", run_ids=("r9",))]), start=4)
    assert (words(findings), findings[0].run_id) == (["run"], "r9")


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (Look(day(3), "failure", "KeyError: 'x'"), "its evaluation failed: KeyError: 'x'"),
        (Look(day(3), "started"), "its evaluation began and did not end"),
    ],
)
def test_a_tick_that_broke_off_is_a_gap_and_says_why(look, said):
    [finding, _] = found(made(), Seen(looks=[look]), start=3)
    assert (finding.verdict, finding.reason) == ("gap", said)


def test_what_was_due_during_a_pause_is_no_gap():
    seen = Seen(pauses=[(at("2026-03-02T00:00"), at("2026-03-03T00:00")), (at("2026-03-04T00:00"), None)])
    assert words(found(made(), seen)) == ["gap", "paused", "gap", "paused"]


def test_within_the_grace_a_tick_waits_to_be_looked_at():
    spec = made(misfire_grace="2h")
    assert words(found(spec, Seen(), start=4, now="2026-03-04T08:00")) == ["pending"]
    assert words(found(spec, Seen(), start=4, now="2026-03-04T08:01")) == ["gap"]


def test_a_tick_that_was_passed_over_does_not_wait_any_more():
    spec = spec_of(schedule={"cron": "*/10 * * * *"})
    looks = [Look(at("2026-03-04T06:10"), "skipped", "x")]
    assert words(found(spec, Seen(looks=looks), start=4, now="2026-03-04T06:12")) == ["gap", "skipped"]


def test_even_without_a_grace_the_daemon_has_two_minutes_to_look():
    spec = made(misfire_grace="0s")
    assert words(found(spec, Seen(), start=4, now="2026-03-04T06:02")) == ["pending"]


def test_a_gap_is_made_up_for_once_everything_it_would_have_asked_for_was_refreshed():
    later, earlier = at("2026-03-04T09:00"), at("2026-03-03T09:00")
    [finding] = found(made(), Seen(refreshed=lambda: {None: later}), start=4)
    assert (finding.verdict, finding.open) == ("made_up", False)
    assert words(found(made(), Seen(refreshed=lambda: {None: earlier}), start=4)) == ["gap"]
    static = made({"static": {"series": ["A", "B"]}})
    assert words(found(static, Seen(refreshed=lambda: {"A": later}), start=4)) == ["gap"]
    assert words(found(static, Seen(refreshed=lambda: {"A": later, "B": later}), start=4)) == ["made_up"]


def test_of_the_look_back_one_success_ever_is_enough_to_make_up_for_a_gap():
    spec = made({**DAYS, "lookback": 1})
    refreshed = {"2026-03-02": at("2026-03-03T06:10"), "2026-03-03": at("2026-03-05T06:10")}
    assert words(found(spec, Seen(refreshed=lambda: refreshed), start=4)) == ["made_up"]
    assert words(found(spec, Seen(refreshed=lambda: {"2026-03-03": at("2026-03-05T06:10")}), start=4)) == ["gap"]


def test_the_event_log_is_not_asked_where_there_is_no_gap():
    def never():
        raise AssertionError("asked")

    assert words(found(made(), Seen(runs=[Made("r", day(4))], refreshed=never), start=4)) == ["run"]


def test_ticks_are_compared_from_the_last_change_of_the_schedule_on():
    changes = [Change("mini", at("2026-01-01T00:00"), "0 5 * * *", "UTC"), Change("mini", day(2), "0 6 * * *", "UTC")]
    horizon = horizon_of(changes, at("2026-02-01T00:00"), 400, at("2026-03-04T00:00"))
    assert horizon.start == day(2)
    assert horizon.notes == ("before 2026-03-02 06:00 UTC the schedule was `0 5 * * *` UTC: not compared",)


def test_a_disabled_stretch_is_not_compared():
    changes = [
        Change("mini", at("2026-01-01T00:00"), "0 6 * * *", "UTC"),
        Change("mini", at("2026-02-01T00:00"), None, None),
        Change("mini", day(2), "0 6 * * *", "UTC"),
    ]
    horizon = horizon_of(changes, at("2026-01-01T00:00"), None, at("2026-03-04T00:00"))
    assert horizon.notes == ("before 2026-03-02 06:00 UTC it was disabled or not due at times: not compared",)
    assert horizon_of(changes[:2], at("2026-01-01T00:00"), None, at("2026-03-04T00:00")) is None


def test_what_dagster_has_deleted_is_not_compared_and_that_is_said():
    changes = [Change("mini", at("2020-01-01T00:00"), "0 6 * * *", "UTC")]
    now = at("2026-03-04T00:00")
    horizon = horizon_of(changes, now - 1000 * DAY, 400, now)
    assert horizon.start == now - 400 * DAY
    assert horizon.notes == ("ticks older than 400 days are deleted: not compared",)
    assert horizon_of(changes, now - 1000 * DAY, None, now).start == now - 1000 * DAY
    assert horizon_of(changes, now - 90 * DAY, 400, now).notes == ()
    horizon = horizon_of(changes, now - 1000 * DAY, 400, now, 90 * DAY)
    assert (horizon.start, horizon.notes) == (now - 90 * DAY, ("runs older than 90d are removed: not compared",))


def test_nothing_was_due_of_a_source_that_was_never_seen():
    assert horizon_of([], at("2026-01-01T00:00"), 400, at("2026-03-04T00:00")) is None


def missing(spec, succeeded, findings=(), under_way=(), now="2026-03-04T12:00"):
    expected = expectation(spec, Since(at("2026-03-01T00:00")), at(now))
    return missing_of(expected, succeeded, under_way, findings, at(now))


def test_missing_is_what_is_expected_and_has_no_success_with_the_tick_that_had_to_load_it():
    spec = made(DAYS)
    findings = found(spec, Seen(runs=[Made("r3", day(3), status="failure")]))
    items = missing(spec, {"2026-02-28"}, findings)
    assert [(item.partition, item.tick) for item in items] == [
        ("2026-03-01", day(2)),
        ("2026-03-02", day(3)),
        ("2026-03-03", day(4)),
    ]
    assert items[0].reason == "its tick: gap, nobody looked at it"
    assert (items[1].reason, items[1].run_id) == ("its tick: run, failure", "r3")


def test_what_is_under_way_or_waits_for_its_tick_is_not_missing():
    spec = made(DAYS)
    findings = found(spec, Seen(), start=4, now="2026-03-04T06:10")
    items = missing(spec, {"2026-02-28"}, findings, {"2026-03-02"}, now="2026-03-04T06:10")
    assert [item.partition for item in items] == ["2026-03-01"]


def test_a_source_without_partitions_misses_none():
    assert missing(made(), ()) == []


def fillings(spec, findings, missing=(), now="2026-03-04T12:00"):
    return [(one.keys, one.tick) for one in fillings_of(spec, findings, missing, at(now), ())]


def test_a_source_without_partitions_is_filled_by_one_run_for_its_newest_gap():
    spec = made()
    assert fillings(spec, found(spec, Seen())) == [((), day(4))]
    assert fillings(spec, found(spec, Seen(runs=[Made("r", day(4), coalesced=4)]))) == []


def test_static_partitions_are_filled_by_one_run_over_all_of_them():
    spec = made({"static": {"series": ["A", "B"]}})
    assert fillings(spec, found(spec, Seen())) == [(("A", "B"), day(4))]


def test_missing_periods_that_lie_together_are_filled_by_one_run():
    spec = made(DAYS)
    succeeded = {"2026-02-28", "2026-03-02"}
    findings = found(spec, Seen(refreshed=lambda: dict.fromkeys(succeeded, at("2026-03-04T07:00"))))
    assert fillings(spec, findings, missing(spec, succeeded, findings)) == [
        (("2026-03-01",), day(2)),
        (("2026-03-03",), day(4)),
    ]


def test_a_period_that_still_runs_is_read_again_where_a_tick_over_it_was_missed():
    spec = made({**DAYS, "end_offset": 1})
    looks = [Look(day(number), "skipped", "x") for number in (1, 2, 3)]
    seen = Seen(looks=looks, refreshed=lambda: {"2026-03-04": at("2026-03-04T01:00")})
    assert fillings(spec, found(spec, seen)) == [(("2026-03-04",), day(4))]


STATES = st.sampled_from(["run", "skip", "none", "expired", "coalescing"])


@given(st.lists(STATES, min_size=1, max_size=12), st.sampled_from([None, DAYS, {"static": {"series": ["A", "B"]}}]))
def test_after_what_fills_the_gaps_there_is_no_gap_and_nothing_to_fill(states, partitions):
    spec = made(partitions)
    now, last = at("2026-03-20T12:00"), 20
    ticks = [day(last - place) for place in range(len(states))][::-1]
    looks = [Look(tick, "skipped", "x") for tick, state in zip(ticks, states, strict=True) if state == "skip"]
    runs = [
        Made(f"r{number}", tick, coalesced=2 if state == "coalescing" else 1, expired=state == "expired")
        for number, (tick, state) in enumerate(zip(ticks, states, strict=True))
        if state in ("run", "coalescing", "expired")
    ]
    findings = findings_of(spec, rhythm_of(spec), ticks[0], Seen(looks, runs), now)
    assert [finding.tick for finding in findings] == ticks
    filled = fillings_of(spec, findings, (), now, ())
    assert bool(filled) == any(finding.open for finding in findings)
    done = dict.fromkeys([key for one in filled for key in one.keys or (None,)], now)
    runs += [Made("fill", one.tick) for one in filled]
    after = findings_of(spec, rhythm_of(spec), ticks[0], Seen(looks, runs, refreshed=lambda: done), now)
    assert not any(finding.open for finding in after)
    assert fillings_of(spec, after, (), now, ()) == []
