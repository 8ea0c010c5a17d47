"""The score as a pure decision: what counts, what does not, and that no failure ever raises it."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.score import WEIGHTS, Ticks, score_of
from refresh_pipelines.tally import Said, added, refreshes_of, tally_of
from refresh_pipelines_tests.workbench import spec_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 10, 1, 6, tzinfo=timezone.utc)
DAILY = {"schedule": {"frequency": "daily", "time": "06:00"}}
PLAIN = spec_of(**DAILY)
DAYS = spec_of(**DAILY, partitions={"time": "day", "start": "2026-01-01", "column": "t"})
UNSCHEDULED = spec_of(enabled=False)
NEUTRAL = ["not_yet", "blocked", "busy", "interrupted", "internal"]


def said(order, at, word="ok", key=None, *, trigger="schedule", run=None, **more):
    """Return an event; `word` is ok, an error class, or an outcome."""
    outcome = {"ok": "loaded"}.get(word, word if word in ("not_yet", "blocked", "quarantined") else "failed")
    error_class = word if outcome == "failed" else ""
    return Said(order, run or f"run{order}", at, key, outcome, error_class, trigger, **more)


def days(*words, at=START + 5 * MINUTE, **more):
    """Return one event for each day, each with one word; "-" is a day without."""
    return [said(n, at + n * DAY, word, **more) for n, word in enumerate(words) if word != "-"]


def score(events, spec=PLAIN, now=None, ticks=None):
    tallies = [tally for event in events if (tally := tally_of(event, periods=spec.partitions is not None))]
    now = now or max((event.at for event in events), default=START)
    return score_of(spec, refreshes_of(added(tallies).values()), ticks or Ticks(START - HOUR), now)


def part(name, *args, **more):
    [found] = [one for one in score(*args, **more).parts if one.name == name]
    return found


def test_without_any_refresh_there_is_no_score():
    assert score([]).total is None
    assert score(days(*NEUTRAL)).total is None
    assert score(days("ok"), now=START + 91 * DAY).total is None


def test_what_always_came_in_time_scores_one():
    assert score(days(*["ok"] * 40)).total == 1


def test_the_total_is_the_weighted_mean_of_the_parts():
    found = score(days("ok", "contract", "transient", "ok", "quarantined", "ok", "ok"))
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    assert found.total == pytest.approx(sum(WEIGHTS[one.name] * one.value for one in found.parts))
    assert 0 < found.total < 1


def test_a_part_without_anything_to_judge_by_is_left_to_the_others():
    events = days("ok", "ok", "ok")
    found = score(events, UNSCHEDULED)
    assert [one.name for one in found.parts if one.value is None] == ["on time"]
    assert [found.share(one) for one in found.parts] == pytest.approx([0, 0.4, 0.3, 0.3])
    assert found.total == 1


@pytest.mark.parametrize("word", NEUTRAL)
def test_what_is_no_fault_of_the_upstream_changes_nothing_wherever_it_is_logged(word):
    events = days("ok", "transient", "ok", "-", "contract", "-", "ok")
    more = [said(100 + n, START + n * 11 * HOUR, word) for n in range(14)]
    now = START + 7 * DAY
    assert score([*events, *more], now=now) == score(events, now=now)


def test_a_tick_is_good_if_a_success_came_before_the_next_one_and_missed_if_only_failures_did():
    late = [*days("ok", "transient", "ok"), said(9, START + DAY + 23 * HOUR)]
    assert part("on time", late, now=START + 3 * DAY).value == 1
    missed = part("on time", days("ok", "transient", "ok"), now=START + 3 * DAY)
    assert (missed.count, missed.lowered_by) == (3, ("2026-10-02 06:00",))
    assert missed.value == pytest.approx(2 / 3, abs=0.01)


def test_the_deadline_is_freshness_checked_where_there_is_one():
    patient = spec_of(**DAILY, freshness={"checked": "36h"})
    assert part("on time", days("ok", "transient", "ok"), patient, now=START + 3 * DAY).value == 1
    missed = part("on time", days("ok", "transient", "-", "ok"), patient, now=START + 4 * DAY)
    assert (missed.count, missed.lowered_by) == (4, ("2026-10-02 06:00",))


def test_a_tick_whose_deadline_has_not_passed_is_not_missed_yet():
    events = days("ok", "transient")
    assert part("on time", events, now=START + 2 * DAY - MINUTE).count == 1
    assert part("on time", events, now=START + 2 * DAY).count == 2


def test_ticks_that_nobody_made_do_not_count():
    silent = days("ok", "-", "-", "-", "ok")
    assert (part("on time", silent).value, part("on time", silent).count) == (1, 2)


def test_ticks_in_a_pause_and_before_the_source_was_due_do_not_count():
    events = days("ok", "transient", "transient", "ok")
    now = START + 4 * DAY
    pause = Ticks(START, [(START + DAY, START + 3 * DAY)])
    assert part("on time", events, now=now, ticks=pause).value == 1
    assert part("on time", events, now=now, ticks=Ticks(START, [(START + DAY, None)])).count == 1
    assert part("on time", events, now=now, ticks=Ticks(START + 3 * DAY)).count == 1
    assert part("on time", events, now=now).value < 1


def test_ticks_that_an_open_breaker_skipped_count_as_missed_while_it_is_probed():
    failing = [said(n, START + n * MINUTE, "permanent") for n in range(1, 6)]
    probes = [said(10 + n, START + n * DAY - HOUR, "permanent", trigger="probe") for n in range(1, 4)]
    found = part("on time", [*failing, *probes], now=START + 5 * DAY)
    assert (found.value, found.count) == (0, 4)
    dead = part("on time", failing, now=START + 9 * DAY)
    assert dead.count == 2  # from a day after the last try on somebody would have probed: no daemon was there


def test_an_old_partition_does_not_make_a_tick_good_and_the_newest_one_does_whoever_asked():
    failing = said(1, START + 5 * MINUTE, "transient", "2026-09-30")
    backfill = said(2, START + HOUR, "ok", "2026-03-01", trigger="backfill")
    now = START + DAY
    assert part("on time", [failing, backfill], DAYS, now=now).value == 0
    by_hand = said(3, START + 2 * HOUR, "ok", "2026-09-30", trigger="manual")
    assert part("on time", [failing, backfill, by_hand], DAYS, now=now).value == 1


def test_of_many_partitions_of_a_tick_the_share_counts_that_came():
    spec = spec_of(**DAILY, partitions={"static": {"town": ["a", "b", "c", "d"]}})
    run = [said(n, START + MINUTE, word, key, run="r") for n, (key, word) in
           enumerate({"a": "ok", "b": "ok", "c": "ok", "d": "transient"}.items())]  # fmt: skip
    now = START + DAY
    assert part("on time", run, spec, now=now).value == pytest.approx(0.75)
    mended = said(9, START + HOUR, "ok", "d", trigger="retry")
    assert part("on time", [*run, mended], spec, now=now).value == 1
    alone = said(9, START + HOUR, "ok", "a", trigger="manual")
    assert part("on time", [*run, alone], spec, now=now).value == pytest.approx(0.75)


def test_contract_errors_are_the_schemas_and_quarantines_are_the_plausibilitys():
    contract, quarantined = days("ok", "contract", "ok"), days("ok", "quarantined", "ok")
    assert part("schema", contract).value == pytest.approx(2 / 3, abs=0.01)
    assert part("plausibility", contract).value == 1
    assert part("schema", quarantined).value == 1
    found = part("plausibility", quarantined)
    assert (found.value, found.lowered_by) == (pytest.approx(2 / 3, abs=0.01), ("2026-10-02 06:05 1 quarantined",))


def test_rows_that_were_refused_lower_plausibility_by_their_share():
    events = [said(0, START, fetched=200, rejected=10)]
    found = part("plausibility", events, now=START + DAY)
    assert (found.value, found.lowered_by) == (pytest.approx(0.95), ("2026-10-01 06:00 5 % of rows refused",))


def test_a_field_that_the_upstream_never_had_before_is_half_a_surprise_once():
    fields = [None, {"a"}, {"a"}, None, {"a", "b"}, {"a"}, {"a", "b"}]
    events = [said(n, START + n * DAY, fields=names and frozenset(names)) for n, names in enumerate(fields)]
    found = part("schema", events)
    assert found.lowered_by == ("2026-10-05 06:00 new: b",)
    assert found.value == pytest.approx(6.5 / 7, abs=0.01)


def test_recovery_is_the_time_from_the_first_failure_to_the_next_success_against_the_limit():
    spec = spec_of(**DAILY, freshness={"checked": "2d"})
    found = part("recovery", days("ok", "transient", "ok"), spec)
    assert found.lowered_by == ("2026-10-02 06:05 to 2026-10-03 06:05 (1d)",)
    assert found.value == pytest.approx(0.5)
    assert part("recovery", days("ok", "transient", "transient", "ok"), spec).value == pytest.approx(0)
    assert part("recovery", days("ok", "ok", "ok"), spec).value == 1


def test_what_has_not_recovered_yet_counts_as_long_as_it_lasts():
    values = [
        part("recovery", days("ok", "ok", "transient"), now=START + 2 * DAY + n * HOUR).value for n in range(1, 20)
    ]
    assert values == sorted(values, reverse=True)
    assert part("recovery", days("ok", "transient"), now=START + 2 * DAY).lowered_by == (
        "2026-10-02 06:05 and still (23h55m)",
    )


def test_what_never_succeeded_has_not_recovered():
    found = score(days("transient"))
    assert found.total == 0
    assert part("recovery", days("transient")).lowered_by == ("no success since 2026-10-01 06:05",)


def test_a_silence_counts_for_a_day_at_most_because_nobody_asked():
    weeks = spec_of(freshness={"checked": "4d"})
    events = [*days("ok", "transient"), said(9, START + 30 * DAY)]
    assert part("recovery", events, weeks).lowered_by == ("2026-10-02 06:05 to 2026-10-31 06:00 (1d)",)


def test_a_failure_weighs_half_as_much_after_thirty_days():
    events = days("transient", *["ok"] * 31)
    then, now = (part("on time", events, now=START + age).value for age in (32 * DAY, 62 * DAY))
    assert then == pytest.approx(now, abs=1e-6)  # all of it is thirty days older
    recent = part("on time", days(*["ok"] * 31, "transient"), now=START + 32 * DAY).value
    weights = [0.5 ** (n / 30) for n in range(32)]
    assert recent == pytest.approx(1 - 1 / sum(weights), abs=0.002)
    assert then == pytest.approx(1 - weights[-1] / sum(weights), abs=0.002)


def test_what_lowered_a_part_most_comes_first_and_the_rest_is_counted():
    found = part("on time", days("ok", *["transient", "ok"] * 5), now=START + 11 * DAY)
    assert found.lowered_by == ("2026-10-10 06:00", "2026-10-08 06:00", "2026-10-06 06:00")
    assert found.more == 2


WORDS = st.sampled_from(["ok", "transient", "permanent", "contract", "quarantined", *NEUTRAL])
FAILURES = st.sampled_from(["transient", "permanent", "contract", "quarantined"])
SPECS = st.sampled_from(
    [
        PLAIN,
        DAYS,
        spec_of(**DAILY, freshness={"checked": "36h"}),
        spec_of(schedule={"frequency": "weekly", "day": "monday"}, breaker={"failures": 2, "probe_max": "2d"}),
        UNSCHEDULED,
    ]
)
HOURS = st.integers(1, 24 * 40)
KEYS = st.integers(0, 45).map(lambda n: f"{START + n * DAY - DAY:%Y-%m-%d}")
TRIGGERS = st.sampled_from(["schedule", "manual", "probe", "retry"])


@st.composite
def logs(draw):
    """Events at whole hours, several of a run among them; the first stands alone and says something."""
    out = [said(0, START, draw(st.sampled_from(["ok", "transient", "contract"])), draw(KEYS), run="first")]
    for order, hour in enumerate(sorted(draw(st.lists(HOURS, max_size=25))), start=1):
        run = f"run{draw(st.integers(1, order))}" if draw(st.booleans()) else None
        at, rejected = START + hour * HOUR, draw(st.integers(0, 10))
        out.append(said(order, at, draw(WORDS), draw(KEYS), trigger=draw(TRIGGERS), run=run, fetched=10,
                        rejected=rejected))  # fmt: skip
    return out


NOW = START + 41 * DAY


@given(logs(), SPECS)
def test_it_lies_between_0_and_1_and_so_do_its_parts(events, spec):
    found = score(events, spec, NOW)
    assert found.total is None or 0 <= found.total <= 1 + 1e-9
    assert all(one.value is None or 0 <= one.value <= 1 for one in found.parts)


@settings(deadline=None, max_examples=120)
@given(logs(), SPECS, HOURS, FAILURES, KEYS, TRIGGERS, st.none() | st.integers(1, 25))
def test_another_failure_after_the_first_refresh_never_raises_it(events, spec, hour, word, key, trigger, run):
    before = score(events, spec, NOW).total
    run = run if run is None else f"run{run}"
    more = said(99, START + hour * HOUR, word, key, trigger=trigger, run=run)
    after = score([*events, more], spec, NOW).total
    assert before is None or after <= before + 1e-9


@given(logs(), SPECS, st.data())
def test_the_order_and_the_batches_of_reading_do_not_matter(events, spec, data):
    whole = score(events, spec, NOW)
    shuffled = data.draw(st.permutations(events))
    cut = data.draw(st.integers(0, len(shuffled)))
    tallies = {}
    for batch in (shuffled[:cut], shuffled[cut:]):
        new = [one for event in batch if (one := tally_of(event, periods=spec.partitions is not None))]
        tallies = added([*tallies.values(), *new])
    assert score_of(spec, refreshes_of(tallies.values()), Ticks(START - HOUR), NOW) == whole
