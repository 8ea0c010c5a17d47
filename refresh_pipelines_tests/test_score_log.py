"""Scores from the event log: read once, the same for everybody who asks, plotted once a week."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from refresh_pipelines.orchestration.score_asset import SCORES
from refresh_pipelines.orchestration.scores import Asked, score_in_full, score_totals
from refresh_pipelines.score_store import with_store
from refresh_pipelines.tally import Tally
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED, values
from refresh_pipelines_tests.overdue_bench import DAYS, WHOLE, Watch, X, at

NOON = "2026-11-25T12:00"


class Log(Watch):
    """One source and what is logged of it; asked as by a process that has just begun."""

    def failed(self, when, key=None, error_class="permanent", asset=X, **more):
        metadata = {"refresh/outcome": "failed", "refresh/error_class": error_class, **more}
        with freeze_time(at(when)):
            event = dg.AssetObservation(asset, partition=key, metadata=metadata)
            self.bench.instance.report_runless_asset_event(event)

    def asked(self, now, **more):
        specs = list(self.bench.catalogue().sources.values())
        return Asked(self.bench.settings, specs, {}, at(now), **more)

    def score(self, now=NOON):
        return score_totals(self.bench.instance, self.asked(now)).get("x")

    def full(self, now=NOON):
        return score_in_full(self.bench.instance, self.bench.spec("x"), self.asked(now, patience=None))

    def part(self, name, now=NOON):
        [found] = [part for part in self.full(now).parts if part.name == name]
        return found

    @property
    def file(self):
        return self.bench.settings.data_dir / "status.sqlite"


@pytest.fixture
def log(bench):
    log = Log(bench, WHOLE)
    log.loaded("2026-11-20T06:05")
    log.failed("2026-11-21T06:05")
    log.failed("2026-11-22T06:05")
    log.loaded("2026-11-23T06:05")
    return log


def test_no_refresh_no_score(bench):
    log = Log(bench, WHOLE)
    assert log.score() is None
    assert log.full().total is None


def test_what_is_logged_later_is_seen_and_read_once(log):
    assert log.score() == round(log.full().total, 2) < 1
    assert log.part("on time").lowered_by == ("2026-11-21 06:00",)
    before = log.full().total
    log.failed("2026-11-24T06:05")
    assert log.full().total < before
    assert log.score() == round(log.full().total, 2)
    whole = log.full()
    log.file.unlink()
    assert log.full() == whole


def test_a_file_that_is_broken_or_cannot_be_made_is_worked_around(log):
    before = log.full()
    log.file.write_bytes(b"no database at all" * 100)
    assert (log.full(), log.score()) == (before, round(before.total, 2))
    log.file.unlink()
    log.file.mkdir()
    assert (log.full(), log.score()) == (before, round(before.total, 2))


def test_it_stays_the_same_for_a_day_in_which_nothing_happens(log):
    assert log.full("2026-11-25T00:00") == log.full("2026-11-25T23:59")
    assert log.full("2026-11-26T00:00") != log.full("2026-11-25T23:59")


def test_an_edited_schedule_makes_another_score(log):
    before = log.score()
    log.bench.add("benin/x", WHOLE.replace("36h", "9d"))
    assert log.score() > before


def test_another_event_log_in_the_place_of_the_old_one_is_read_from_its_beginning(log):
    log.score()
    kind = "materialization"
    with_store(log.bench.settings.data_dir, lambda store: store.take(kind, store.place(kind), 10**6, {}))
    log.loaded("2026-11-24T06:05")
    assert log.part("on time").count == 4


def test_events_that_repeat_others_and_those_of_no_refresh_say_nothing(log):
    before = log.full()
    with freeze_time(at("2026-11-24T06:05")):
        carried = {"refresh/outcome": "loaded", "refresh/carried_from": "benin/old"}
        log.bench.instance.report_runless_asset_event(dg.AssetMaterialization(X, metadata=carried))
        log.bench.instance.report_runless_asset_event(dg.AssetObservation(X))
    assert log.full() == before


def test_an_event_that_makes_up_for_a_lost_one_counts_when_it_happened(log):
    recovered = {
        "refresh/outcome": "loaded",
        "refresh/recovered": True,
        "refresh/started_at": "2026-11-21T07:00:00+00:00",
    }
    with freeze_time(at("2026-11-24T06:05")):
        log.bench.instance.report_runless_asset_event(dg.AssetMaterialization(X, metadata=recovered))
    assert log.part("on time").value == 1


def test_history_under_an_old_name_counts(bench):
    log = Log(bench, WHOLE + "aliases: [old]\n")
    log.loaded("2026-11-20T06:05", asset=dg.AssetKey(["benin", "old"]))
    assert log.score() == 1


def test_undeclared_fields_are_read_from_the_notes_of_what_was_parsed(log):
    for day, text in (("20", "a"), ("21", "a, b"), ("22", "a")):
        with freeze_time(at(f"2026-11-{day}T08:00")):
            noted = f"fields that are not declared: {text}; another remark"
            metadata = {"refresh/outcome": "loaded", "refresh/seconds_parse": 0.01, "refresh/notes": noted}
            log.bench.instance.report_runless_asset_event(dg.AssetMaterialization(X, metadata=metadata))
    assert log.part("schema").lowered_by == ("2026-11-21 08:00 new: b",)


def test_partitions_are_tallied_by_period(bench):
    log = Log(bench, DAYS)
    log.loaded("2026-11-20T06:05", "2026-11-19")
    log.loaded("2026-11-20T07:05", "2026-01-19")
    log.failed("2026-11-21T06:05", "2026-11-20")
    log.loaded("2026-11-22T23:05", "2026-01-20")
    assert log.part("on time").lowered_by == ("2026-11-21 06:00",)


def test_what_there_is_no_time_for_is_done_by_the_next_call(log):
    asked = log.asked(NOON)
    hurried = Asked(asked.settings, asked.specs, {}, asked.now, begun=float("-inf"))
    assert score_totals(log.bench.instance, hurried) == {"x": log.score()}
    log.bench.add("benin/y", WHOLE)
    for asset in (X, dg.AssetKey(["benin", "y"])):
        log.loaded("2026-11-24T06:05", asset=asset)
    asked = log.asked(NOON)
    hurried = Asked(asked.settings, asked.specs, {}, asked.now, begun=float("-inf"))
    first = score_totals(log.bench.instance, hurried)
    assert len(first) >= 1
    assert set(score_totals(log.bench.instance, hurried)) == {"x", "y"}


def test_of_two_who_tally_the_same_events_only_one_does(tmp_path):
    tally = Tally("r", "", 7, ok=1, fit=1_000_000, ok_at=at(NOON))

    def work(store):
        assert store.take("materialization", 0, 7, {"benin/x": [tally]})
        assert not store.take("materialization", 0, 7, {"benin/x": [tally]})
        assert store.take("materialization", 7, 9, {"benin/x": [tally]})
        return store.tallies(["benin/x"])

    assert with_store(tmp_path, work) == [tally + tally]


def test_a_tally_is_read_as_it_was_kept(tmp_path):
    tally = Tally("r", "2026-01-01", 7, 1, 2, 1, 1, 990_000, at(NOON), at(NOON), True, frozenset({"a", "b c"}))
    bare = Tally("s", "", 8, fields=frozenset())
    kept = with_store(
        tmp_path, lambda store: store.take("observation", 0, 7, {"a": [tally, bare]}) and store.tallies(["a"])
    )
    assert sorted(kept, key=lambda one: one.order) == [tally, bare]


def test_what_is_too_old_to_count_is_dropped(log):
    log.score()
    log.loaded("2027-06-01T06:05")
    assert log.score("2027-06-01T12:00") == 1
    assert with_store(log.bench.settings.data_dir, lambda store: len(store.tallies(["benin/x"]))) == 1


def test_after_each_run_status_json_has_the_score_that_status_explains(home):
    home.sandbox.override(FRED, b"no", status=403)
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    home.sandbox.clear()
    home.refresh("run", "fred_fx", "--partition", "DEXUSEU")
    [written] = [
        item
        for item in json.loads((home.folder / "data/status.json").read_text())["sources"]
        if item["source"] == "fred_fx"
    ]
    told = json.loads(home.refresh("status", "fred_fx", "--json").stdout)
    assert told["items"] == [written]
    assert written["score"] is not None
    total = sum(part["weight"] * part["value"] for part in told["score_parts"] if part["value"] is not None)
    assert total == pytest.approx(written["score"], abs=0.006)
    parts = home.refresh("status", "fred_fx").stdout.split("\n\n")
    [table] = [part.splitlines() for part in parts if part.startswith("SCORE")]
    assert table[0].split() == ["SCORE", "WEIGHT", "VALUE", "POINTS", "OVER", "LOWERED", "MOST", "BY"]
    assert table[-1].split() == ["total", "1.00", f"{written['score']:.2f}"]
    assert [line.split("  ")[0].strip() for line in table[1:-1]] == ["on time", "recovery", "plausibility", "schema"]
    assert "score_parts" not in json.loads(home.refresh("status", "--json").stdout)
    assert "SCORE  WEIGHT" not in home.refresh("status").stdout


def test_status_says_why_a_source_has_no_score(home):
    assert "No score yet: no refresh of the last 90 days says anything of commodities/fred_fx's upstream." in (
        home.refresh("status", "fred_fx").stdout
    )


def test_the_asset_has_a_number_for_each_source(log):
    log.bench.now = at(NOON)
    job = log.bench.job()
    result = job.execute_in_process(instance=log.bench.instance, asset_selection=[SCORES])
    [event] = [event for event in result.get_asset_materialization_events() if event.asset_key == SCORES]
    assert values(event.step_materialization_data.materialization) == {"x": log.score()}
    assert log.score() is not None  # its own event is no refresh
    graph = log.bench.definitions().resolve_asset_graph()
    assert graph.get(SCORES).pools in (None, set())


def test_the_schedule_is_weekly_and_stops_with_the_others(log):
    def tick():
        repository = log.bench.definitions().get_repository_def()
        context = dg.build_schedule_context(
            log.bench.instance, scheduled_execution_time=datetime(2026, 11, 23, 5, 17, tzinfo=timezone.utc)
        )
        return repository.get_schedule_def("weekly_scores").evaluate_tick(context)

    assert len(tick().run_requests) == 1
    log.bench.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    assert (tick().run_requests, tick().skip_message) == ([], "REFRESH_SCHEDULES_ENABLED is false")


def test_a_source_may_be_called_as_the_asset_is(bench):
    bench.add("refresh/scores", MINI)
    definitions = bench.definitions()
    dg.Definitions.validate_loadable(definitions)
    assert "scores_schedule" in {schedule.name for schedule in definitions.schedules}
    assert "weekly_scores" not in {schedule.name for schedule in definitions.schedules}


def test_no_command_takes_the_asset_for_a_source(home):
    assert home.refresh("status", "scores").exit_code == 2
    for command in ("plan", "gaps", "history", "list"):
        assert "scores" not in home.refresh(command, "--json").stdout
