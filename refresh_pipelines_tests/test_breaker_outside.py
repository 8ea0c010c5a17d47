"""The breaker from outside: what the upstream is asked, by Dagster's own scheduler and sensor daemon."""

import pytest

from refresh_pipelines.resets import log_resets
from refresh_pipelines_tests.clockwork import covered, utc
from refresh_pipelines_tests.knocking import DOWN, GOOD, REFUSED, Knocking
from refresh_pipelines_tests.upstream import Upstream, answer

# Chains of whole runs, one after the other: too long beside the others.
pytestmark = pytest.mark.e2e


@pytest.fixture
def upstream():
    with Upstream(REFUSED) as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path, empty_history, upstream):
    """Return a function that makes the place, with the source as its YAML says."""
    stack = []

    def begin(*more, **environ):
        stack.append(Knocking(tmp_path, empty_history, upstream, *more, **environ).__enter__())
        return stack[0]

    yield begin
    for knocking in stack:
        knocking.__exit__()


OPEN = (
    "breaker open since 2026-11-22 06:10 UTC after 5 failures in a row (permanent: https://example.org/data.csv was "
    "refused; got HTTP 403, 'no')"
)
# A run with further attempts of its own waits between them.
LATER = "schedule: {frequency: hourly}\nretry: {attempts: 1, delay: 60s}"
DAYS = """\
schedule: {frequency: daily, time: "06:00", catch_up: all}
partitions: {time: day, start: 2026-11-01, lookback: 1, column: day}
"""
SERIES = """\
schedule: {frequency: annual, month: 11, day: 22}
partitions: {static: {series: [b, a, c]}}
"""


def on(time):
    return f"2026-11-22T{time}"


def began(knocking):
    """Let the daemon look for the first time, with which the time of a schedule or sensor begins."""
    assert knocking.tick(on("06:05")) == []
    assert knocking.sense(on("06:05")) == []
    return knocking


def opened(knocking, key=None):
    """Have five refreshes fail, the last one at 06:10."""
    began(knocking)
    for minute in range(6, 11):
        knocking.log(on(f"06:{minute:02}"), key=key)
    return knocking


def test_five_failures_silence_it_until_a_probe_finds_it_well(start):
    knocking = began(start())
    for minute in range(6, 11):
        assert knocking.refresh(on(f"06:{minute:02}"), "run", "a").exit_code == 1
    assert len(knocking.upstream.seen) == 5
    knocking.upstream.seen.clear()
    assert knocking.tick(on("07:00:01")) == []
    assert knocking.sense(on("07:09")) == []
    [(status, reason)] = knocking.ticks("a_schedule")
    assert status == "SKIPPED"
    assert reason == f"{OPEN}; next probe 07:10 UTC; `refresh reset a` closes it"
    assert knocking.upstream.seen == []
    knocking.upstream.script[:] = [GOOD]
    [probe] = knocking.sense(on("07:10:01"))
    assert (probe.tags["refresh/trigger"], probe.tags["refresh/probe"]) == ("probe", "1")
    assert probe.tags["dagster/run_key"] == "probe|a|1"
    assert knocking.sense(on("07:11:02")) == []
    assert knocking.run(probe, on("07:12"))
    assert len(knocking.upstream.seen) == 1
    assert knocking.sense(on("07:13:03")) == []
    [run] = knocking.tick(on("08:00:01"))
    assert run.tags["refresh/trigger"] == "schedule"


def probes_until(knocking, *times):
    """Let the sensor look at these times of day and each probe fail at once; return when there was one."""
    found = []
    for time in times:
        for run in knocking.sense(on(time)):
            found.append(time)
            assert not knocking.run(run, on(time))
    return found


def test_failing_probes_come_at_doubling_intervals_and_ask_once_each(start):
    knocking = opened(start())
    times = ("07:11", "08:30", "09:10", "09:12", "13:11", "13:13")
    assert probes_until(knocking, *times) == ["07:11", "09:12", "13:13"]
    assert len(knocking.upstream.seen) == 3
    numbers = [run.tags["refresh/probe"] for run in knocking.instance.get_runs()]
    assert numbers == ["3", "2", "1"]


def test_a_restarted_daemon_and_lost_files_of_ours_change_nothing(start):
    knocking = opened(start())
    [probe] = knocking.sense(on("07:11"))
    knocking.start_daemon()
    (knocking.home.folder / "data/status.sqlite").unlink()
    assert knocking.sense(on("07:13")) == []
    knocking.run(probe, on("07:14"))
    knocking.start_daemon()
    (knocking.home.folder / "data/ops.sqlite").unlink(missing_ok=True)
    assert knocking.sense(on("07:16")) == []
    assert knocking.tick(on("08:00:01")) == []
    assert "; next probe 09:14 UTC; " in knocking.ticks("a_schedule")[-1][1]


def test_a_person_may_ask_at_any_time_and_a_success_closes_it(start):
    knocking = opened(start())
    knocking.upstream.script[:] = [GOOD]
    assert knocking.refresh(on("06:20"), "run", "a").exit_code == 0
    assert len(knocking.tick(on("07:00:01"))) == 1


def test_after_a_reset_the_next_tick_asks(start):
    knocking = opened(start())
    log_resets(knocking.home.folder / "data", ["a"], utc(on("06:30")), "somebody")
    assert len(knocking.tick(on("07:00:01"))) == 1


@pytest.mark.parametrize("pause", [["pause", "a"], ()])
def test_what_is_paused_or_switched_off_is_not_probed(start, pause):
    knocking = opened(start(**({} if pause else {"REFRESH_SCHEDULES_ENABLED": "false"})))
    if pause:
        knocking.refresh(on("06:30"), *pause)
    assert knocking.sense(on("07:11")) == []
    assert knocking.sense(on("09:11")) == []
    assert knocking.upstream.seen == []


def test_a_probe_asks_for_one_partition_and_the_rest_goes_on_when_it_was_good(start):
    knocking = opened(start(DAYS), key="2026-11-21")
    knocking.upstream.script[:] = [answer(b"day,n\n2026-11-21,1\n")]
    [probe] = knocking.sense(on("07:11"))
    assert covered(probe) == ("2026-11-21", "2026-11-21")
    knocking.start_daemon()
    assert knocking.run(probe, on("07:12"))
    knocking.start_daemon()
    [rest] = knocking.sense(on("07:13"))
    assert covered(rest) == ("2026-11-20", "2026-11-20")
    assert rest.tags["refresh/trigger"] == "catch_up"
    assert knocking.sense(on("07:15")) == []
    assert [one.tags["dagster/run_key"] for one in (probe, rest)] == ["probe|a|1", "probe|a|1|2026-11-20"]


def test_after_a_good_probe_a_yearly_source_does_not_wait_for_next_year(start):
    knocking = opened(start(SERIES), key="b")
    knocking.upstream.script[:] = [GOOD]
    [probe] = knocking.sense(on("07:11"))
    assert covered(probe) == ("b", "b")
    knocking.run(probe, on("07:12"))
    [rest] = knocking.sense(on("07:13"))
    assert covered(rest) == ("a", "c")


def test_what_failed_for_a_passing_reason_is_tried_again_until_it_is_well(start):
    knocking = began(start(LATER))
    knocking.upstream.script[:] = [DOWN]
    [run] = knocking.tick(on("07:00:01"))
    knocking.run(run, on("07:00:02"))
    assert knocking.sense(on("07:01")) == []
    [again] = knocking.sense(on("07:02:01"))
    assert again.tags["refresh/trigger"] == "retry"
    assert knocking.sense(on("07:03:02")) == []
    knocking.run(again, on("07:04"))
    assert knocking.sense(on("07:06:59")) == []
    [third] = knocking.sense(on("07:08"))
    knocking.upstream.script[:] = [GOOD]
    assert knocking.run(third, on("07:09"))
    assert knocking.sense(on("07:50")) == []


def test_a_later_try_gives_way_to_the_tick_that_comes_before_it(start):
    knocking = began(start(LATER))
    knocking.log(on("06:59:30"), error_class="transient")
    assert knocking.sense(on("07:01")) == []


@pytest.mark.parametrize("error_class", ["permanent", "contract", "internal"])
def test_what_will_not_pass_is_not_tried_again(start, error_class):
    knocking = began(start(LATER))
    knocking.log(on("06:06"), error_class=error_class)
    assert knocking.sense(on("06:50")) == []
