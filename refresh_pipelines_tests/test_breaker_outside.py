"""The breaker from outside: what the upstream is asked, by Dagster's own scheduler and sensor daemon."""

import pytest

from refresh_pipelines_tests.knocking import DOWN, GOOD, REFUSED, Knocking
from refresh_pipelines_tests.upstream import Upstream


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


@pytest.fixture
def knocking(start):
    return start()


OPEN = (
    "breaker open since 2026-11-22 06:10 UTC after 5 failures in a row (permanent: https://example.org/data.csv was "
    "refused; "
)


def opened(knocking):
    """Have five refreshes by hand fail, the last one at 06:10, and forget what the upstream was asked."""
    assert knocking.tick("2026-11-22T06:05") == []
    for minute in range(6, 11):
        assert knocking.refresh(f"2026-11-22T06:{minute:02}", "run", "a").exit_code == 1
    assert len(knocking.upstream.seen) == 5
    knocking.upstream.seen.clear()


def test_five_failures_silence_it_until_a_probe_finds_it_well(knocking):
    opened(knocking)
    assert knocking.tick("2026-11-22T07:00:01") == []
    assert knocking.sense("2026-11-22T07:09") == []
    [(status, reason)] = knocking.ticks("a_schedule")
    assert status == "SKIPPED"
    assert reason.startswith(OPEN)
    assert reason.endswith("; next probe 07:10 UTC; `refresh reset a` closes it")
    assert knocking.upstream.seen == []
    knocking.upstream.script[:] = [GOOD]
    [probe] = knocking.sense("2026-11-22T07:10:01")
    assert (probe.tags["refresh/trigger"], probe.tags["refresh/probe"]) == ("probe", "1")
    assert probe.tags["dagster/run_key"] == "probe|a|1"
    assert knocking.sense("2026-11-22T07:11:02") == []
    assert knocking.run(probe, "2026-11-22T07:12")
    assert len(knocking.upstream.seen) == 1
    assert knocking.sense("2026-11-22T07:13:03") == []
    [run] = knocking.tick("2026-11-22T08:00:01")
    assert run.tags["refresh/trigger"] == "schedule"


def probes_until(knocking, *times):
    """Let the sensor look at these times of day and each probe fail at once; return when there was one."""
    found = []
    for time in times:
        for run in knocking.sense(f"2026-11-22T{time}"):
            found.append(time)
            assert not knocking.run(run, f"2026-11-22T{time}")
    return found


def test_failing_probes_come_at_doubling_intervals_and_ask_once_each(knocking):
    opened(knocking)
    times = ("07:11", "08:30", "09:10", "09:12", "12:00", "13:13", "13:15")
    assert probes_until(knocking, *times) == ["07:11", "09:12", "13:13"]
    assert len(knocking.upstream.seen) == 3
    assert {run.tags["refresh/probe"] for run in knocking.instance.get_runs() if "refresh/probe" in run.tags} == {
        "1", "2", "3",
    }  # fmt: skip


def test_a_restarted_daemon_and_a_lost_cache_know_it_all(knocking):
    opened(knocking)
    [probe] = knocking.sense("2026-11-22T07:11")
    knocking.start_daemon()
    (knocking.home.folder / "data/status.sqlite").unlink()
    assert knocking.sense("2026-11-22T07:13") == []
    knocking.run(probe, "2026-11-22T07:14")
    knocking.start_daemon()
    (knocking.home.folder / "data/ops.sqlite").unlink()
    assert knocking.sense("2026-11-22T07:16") == []
    assert knocking.tick("2026-11-22T08:00:01") == []
    assert "; next probe 09:14 UTC; " in knocking.ticks("a_schedule")[-1][1]


def test_a_person_may_ask_at_any_time_and_a_success_closes_it(knocking):
    opened(knocking)
    knocking.upstream.script[:] = [GOOD]
    assert knocking.refresh("2026-11-22T06:20", "run", "a").exit_code == 0
    assert len(knocking.tick("2026-11-22T07:00:01")) == 1


def test_reset_closes_it_and_further_failures_open_it_again(knocking):
    opened(knocking)
    [item] = knocking.items("status")
    assert (item["breaker"], item["consecutive_failures"]) == ("half_open", 5)  # it is long after that day
    assert item["breaker_since"] == "2026-11-22T06:10:00+00:00"
    result = knocking.refresh("2026-11-22T06:30", "reset", "a")
    assert result.output.startswith("benin/a: closed after 5 failures in a row; the next tick is ")
    [item] = knocking.items("status")
    assert (item["breaker"], item["consecutive_failures"], item["breaker_since"]) == ("closed", 5, None)
    [run] = knocking.tick("2026-11-22T07:00:01")
    assert not knocking.run(run, "2026-11-22T07:00:02")
    assert "no failure was counted" not in knocking.refresh("2026-11-22T07:01", "reset", "a").output
