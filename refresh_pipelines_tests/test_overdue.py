"""The sensor `overdue` and the check `fresh`: who is told what, when, and how often."""

from __future__ import annotations

import dagster as dg
import pytest

from refresh_pipelines.orchestration.overdue import MOST_REPORTED
from refresh_pipelines.orchestration.status import write_status_file
from refresh_pipelines_tests.overdue_bench import DAYS, WHOLE, Watch, X, at

LATE = (
    "benin/x[2026-11-20] was due at 2026-11-21 06:00 UTC and has never been refreshed; "
    "expected by 2026-11-21 18:05 UTC (freshness.checked 1d12h)"
)
GOOD = "every expected partition was refreshed within 1d12h and something changed within 30d"


@pytest.fixture
def watch(bench):
    watch = Watch(bench)
    for day in (18, 19):
        watch.loaded(f"2026-11-{day + 1}T06:05", f"2026-11-{day}")
    return watch


def test_the_check_turns_red_when_the_limit_is_past_and_green_after_a_good_refresh(watch):
    assert watch.tick("2026-11-20T07:00") == "0 of 1 overdue"
    assert watch.tick("2026-11-21T18:05") == "0 of 1 overdue"
    assert watch.tick("2026-11-21T18:06") == "1 of 1 overdue: benin/x (since 2026-11-21 06:00 UTC)"
    watch.loaded("2026-11-21T19:00", "2026-11-20")
    assert watch.tick("2026-11-21T19:01") == "0 of 1 overdue"
    assert watch.checks() == [(True, GOOD), (False, LATE), (True, GOOD)]


def test_an_unchanged_verdict_is_not_reported_again_also_after_a_restart(watch):
    for now in ("2026-11-21T18:06", "2026-11-21T18:07", "2026-11-22T05:00"):
        watch.tick(now)
        watch.restart()
    assert watch.checks() == [(False, LATE)]


def test_the_next_partition_is_named_when_the_first_one_is_refreshed(watch):
    watch.tick("2026-11-23T18:06")
    watch.loaded("2026-11-23T19:00", "2026-11-20")
    watch.tick("2026-11-23T19:01")
    first, second = watch.checks()
    assert (first[0], second[0]) == (False, False)
    assert second[1].startswith("benin/x[2026-11-21] was due at 2026-11-22 06:00 UTC")


def test_a_backfill_of_old_partitions_leaves_the_check_red(watch):
    watch.tick("2026-11-21T18:06")
    watch.loaded("2026-11-21T19:00", "2026-03-01", "2026-03-02")
    assert watch.tick("2026-11-21T19:01").startswith("1 of 1 overdue")
    assert len(watch.checks()) == 1


def test_a_backfill_is_no_change_and_no_sign_of_life(bench):
    watch = Watch(bench, DAYS.replace("36h", "90d"))
    watch.loaded("2026-11-19T06:05", "2026-11-18", changed_at="2026-10-01T00:00")
    watch.loaded("2026-11-20T06:05", "2026-03-01")
    watch.tick("2026-11-20T07:00")
    [(passed, text)] = watch.checks()
    assert not passed
    assert text == (
        "benin/x: nothing has changed since 2026-10-01 00:00 UTC; "
        "expected by 2026-10-31 00:00 UTC (freshness.changed 30d)"
    )


def test_a_fresh_installation_is_silent_until_the_first_due_tick_and_the_limit(bench):
    watch = Watch(bench)
    for now in ("2026-11-20T12:00", "2026-11-21T06:01", "2026-11-22T18:00"):
        assert watch.tick(now) == "0 of 1 overdue"
    assert watch.checks() == []
    assert watch.tick("2026-11-22T18:01").startswith("1 of 1 overdue")
    assert [passed for passed, _ in watch.checks()] == [False]


def test_a_source_without_partitions_is_told_by_its_last_refresh(bench):
    watch = Watch(bench, WHOLE)
    watch.loaded("2026-11-20T06:05")
    watch.tick("2026-11-21T18:06")
    assert watch.checks()[0][1].startswith("benin/x has not been refreshed since 2026-11-20 06:05 UTC")


def test_sources_without_limits_have_no_such_check(bench):
    bench.add("benin/free", WHOLE.replace("freshness: {checked: 36h}\n", ""))
    keys = bench.definitions().get_repository_def().asset_graph.asset_check_keys
    assert dg.AssetCheckKey(dg.AssetKey(["commodities", "fred_fx"]), "fresh") in keys
    assert "free" not in {key.asset_key.path[-1] for key in keys if key.name == "fresh"}


def test_a_disabled_source_is_not_judged(watch):
    watch.bench.edit("benin/x", "description:", "enabled: false\ndescription:")
    assert watch.tick("2026-11-23T12:00") == "0 of 0 overdue"
    assert watch.checks() == []


def test_a_paused_source_is_not_judged_and_after_the_pause_not_before_its_first_tick(watch):
    home, spec = watch.bench, watch.bench.spec("x")
    from refresh_pipelines.orchestration.pause import pause, resume  # noqa: PLC0415

    watch.tick("2026-11-20T12:00")
    pause(home.instance, home.settings, [spec], now=at("2026-11-20T13:00"), reason="", by="me")
    assert watch.tick("2026-11-23T12:00") == "0 of 0 overdue"
    resume(home.instance, home.settings, [spec], now=at("2026-11-24T12:00"))
    assert watch.tick("2026-11-25T06:30") == "0 of 1 overdue"
    assert watch.tick("2026-11-25T06:31").startswith("1 of 1 overdue")


def test_while_schedules_are_switched_off_nothing_is_judged(watch):
    watch.bench.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    assert watch.tick("2026-11-23T12:00") == "nothing is judged while REFRESH_SCHEDULES_ENABLED is false"
    assert watch.checks() == []


def test_a_renamed_source_is_as_fresh_as_under_its_old_name(watch):
    watch.bench.edit("benin/x", "description:", "aliases: [old]\ndescription:")
    watch.loaded("2026-11-21T06:05", "2026-11-20", asset=dg.AssetKey(["benin", "old"]))
    assert watch.tick("2026-11-21T18:06") == "0 of 1 overdue"


def test_of_very_many_new_verdicts_the_bad_ones_are_reported_first(bench):
    watch = Watch(bench, WHOLE)
    names = [f"s{number:02}" for number in range(MOST_REPORTED + 4)]
    for name in names:
        bench.add(f"benin/{name}", WHOLE)
        late = name in names[-3:]
        watch.loaded("2026-11-18T06:05" if late else "2026-11-20T06:05", asset=dg.AssetKey(["benin", name]))
    watch.loaded("2026-11-20T06:05")
    first = watch.tick("2026-11-20T07:00")
    assert first == (
        f"3 of {len(names) + 1} overdue: benin/s51 (since 2026-11-18 06:05 UTC), "
        "benin/s52 (since 2026-11-18 06:05 UTC), benin/s53 (since 2026-11-18 06:05 UTC); "
        "5 verdicts wait for the next tick"
    )
    assert [watch.checks(dg.AssetKey(["benin", name]))[0][0] for name in names[-3:]] == [False] * 3
    assert "wait" not in watch.tick("2026-11-20T07:01")
    assert sum(len(watch.checks(dg.AssetKey(["benin", name]))) for name in [*names, "x"]) == len(names) + 1


def test_the_status_file_says_overdue_as_the_check_does(watch):
    write_status_file(watch.bench.instance, watch.bench.settings, at("2026-11-21T18:05"))
    assert watch.bench.status()["x"]["overdue"] is False
    write_status_file(watch.bench.instance, watch.bench.settings, at("2026-11-21T18:06"))
    assert watch.bench.status()["x"]["overdue"] is True


def test_an_evaluation_that_never_came_is_made_up_for_at_the_next_tick(watch):
    watch.tick("2026-11-20T07:00")
    assert watch.newest() == {X: "fresh"}
    watch.bench.launch("x", "2026-11-20")
    assert watch.newest() == {X: None}
    watch.tick("2026-11-20T07:01")
    assert watch.newest() == {X: "fresh"}
