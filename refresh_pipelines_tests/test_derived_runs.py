"""Derived sources through Dagster: lineage, the sensor that builds them, and builds by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.errors import WarehouseBusy
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.internals import remote_origin
from refresh_pipelines.settings import BUILTIN_CATALOG
from refresh_pipelines_tests.dagster_bench import QUIET, at, values, version

# Chains of whole runs, one after the other: too long beside the others.
pytestmark = pytest.mark.e2e

INPUTS = {
    "fx": """\
description: two series by key
request: {url: "https://api.stlouisfed.org/fred/series/observations", params: {series_id: "{series}"},
  auth: {env: FRED_API_KEY, query: api_key}}
format: {kind: json, rows: observations}
columns:
  series: {type: text, from: "{series}"}
  day: {type: date, from: date}
  value: {type: double, missing: ["."]}
merge_key: [series, day]
schedule: {frequency: daily, time: "06:00"}
partitions: {static: {series: [DEXUSEU, DEXCHUS]}}
retry: {attempts: 1}
""",
    "dollar": """\
description: one series
request: {url: "https://api.stlouisfed.org/fred/series/observations", params: {series_id: DTWEXBGS},
  auth: {env: FRED_API_KEY, query: api_key}}
format: {kind: json, rows: observations}
columns:
  day: {type: date, from: date}
  value: {type: double, missing: ["."]}
merge_key: [day]
schedule: {frequency: daily, time: "06:00"}
retry: {attempts: 1}
""",
}
MADE = """\
description: made from both
requires:
  - {source: fx, max_lag: 3d}
  - {source: benin/dollar, max_lag: 1d, blocking: false}
derive:
  query: |
    SELECT fx.series, fx.day, fx.value * dollar.value AS product
    FROM raw.fx JOIN raw.dollar ON dollar.day = fx.day
columns:
  series: {type: text}
  day: {type: date}
  product: {type: double}
merge_key: [series, day]
retry: {attempts: 1}
"""


class Desk:
    """The bench with two inputs and a derived source; one repository for all ticks, as in the daemon's code server."""

    def __init__(self, bench):
        self.bench, self.now = bench, datetime.now(timezone.utc)
        for name in ("commodities/fred_fx.yaml", "worldenergy/bsee_ogora.yaml"):
            (bench.folder / "catalog" / name).unlink()
        for name, text in INPUTS.items():
            bench.add(f"benin/{name}", text)
        bench.add("benin/made", MADE)
        self.reload()

    def reload(self):
        workshop = replace(self.bench.workshop, clock=lambda: self.now, keep=timedelta(0))
        definitions = build_definitions(self.bench.settings, self.bench.catalogue(), workshop=workshop)
        self.repository = definitions.get_repository_def()

    def tick(self):
        """Return what the sensor requests, and what it says."""
        context = dg.build_sensor_context(self.bench.instance, repository_def=self.repository)
        data = self.repository.get_sensor_def("derived").evaluate_tick(context)
        return data.run_requests, data.skip_message

    def skipped(self):
        requests, said = self.tick()
        assert requests == []
        return said

    def refresh(self):
        """Refresh both inputs."""
        self.bench.launch("fx", "DEXUSEU", "DEXCHUS")
        self.bench.launch("dollar")

    def build(self):
        """Execute the one run that the sensor requests, as the daemon does."""
        [request], _ = self.tick()
        assert request.asset_selection == [dg.AssetKey(["benin", "made"])]
        return self.execute(request)

    def execute(self, request):
        job = self.repository.get_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.bench.instance, asset_selection=request.asset_selection, tags=request.tags,
            raise_on_error=False, run_config=QUIET,
        )  # fmt: skip

    def built(self, result):
        [event] = self.bench.good(result, "made")
        return event


@pytest.fixture
def desk(bench):
    return Desk(bench)


def test_a_derived_source_stands_behind_its_inputs_and_shows_its_query(desk):
    graph = desk.repository.asset_graph
    key = dg.AssetKey(["benin", "made"])
    assert graph.get(key).parent_keys == {dg.AssetKey(["benin", "fx"]), dg.AssetKey(["benin", "dollar"])}
    metadata = graph.get(key).metadata
    assert "fx.value * dollar.value" in metadata["refresh/query"].value
    assert "refresh/url" not in metadata
    assert not desk.repository.has_schedule_def("made_schedule")


def test_nothing_is_built_before_every_input_was_refreshed(desk):
    assert desk.skipped() == "benin/made: closed: benin/fx has never been refreshed: `refresh run fx`"
    desk.bench.launch("fx", "DEXUSEU")
    desk.bench.launch("dollar")
    desk.now += timedelta(days=2)
    assert desk.skipped() == "benin/made: closed: benin/fx[DEXCHUS] has never been refreshed: `refresh run fx`"


def test_a_build_is_requested_once_and_again_only_after_a_real_change(desk):
    desk.refresh()
    first = desk.build()
    event = desk.built(first)
    assert values(event)["refresh/outcome"] == "loaded"
    assert values(event)["refresh/trigger"] == "sensor"
    assert values(event)["refresh/inputs"] == desk.bench.run(first).tags["refresh/inputs"]
    assert desk.skipped() == f"benin/made: nothing changed since run {first.run_id[:8]}"
    desk.refresh()  # which finds nothing new
    assert desk.skipped() == f"benin/made: nothing changed since run {first.run_id[:8]}"
    desk.bench.sandbox.revision = "revised"
    desk.refresh()
    second = desk.built(desk.build())
    assert version(second) != version(event)
    assert values(second)["refresh/updated"] > 0
    assert "nothing changed" in desk.skipped()


def test_inputs_that_come_back_to_what_they_were_are_built_again(desk):
    keys = set()
    for revision in ("good", "revised", "good", "revised"):
        desk.bench.sandbox.revision = revision
        desk.refresh()
        [request], _ = desk.tick()
        keys.add(request.run_key)
        desk.execute(request)
    assert len(keys) == 4


def test_a_changed_query_is_built_anew(desk):
    desk.refresh()
    desk.build()
    desk.bench.edit("benin/made", "fx.value * dollar.value", "fx.value / dollar.value")
    desk.reload()
    assert values(desk.built(desk.build()))["refresh/updated"] > 0


def test_an_input_that_is_late_past_its_grace_closes_the_gate_and_says_since_when(desk):
    desk.refresh()
    desk.build()
    desk.now += timedelta(days=30)
    said = desk.skipped()
    assert said.startswith("benin/made: closed: benin/fx[DEXUSEU] (and 1 more) has not been refreshed since 20")
    assert "; expected at 20" in said
    assert said.endswith("UTC at the latest (max_lag 3d)")


def test_lateness_that_is_forgiven_is_written_on_the_build(desk):
    desk.refresh()
    desk.now = (desk.now + timedelta(days=3)).replace(hour=5)
    desk.bench.adjust = lambda tools: replace(tools, clock=lambda: desk.now)
    desk.reload()
    notes = values(desk.built(desk.build()))["refresh/notes"]
    assert "benin/fx[DEXUSEU] (and 1 more) has not been refreshed since" in notes
    assert "used as it is (max_lag 3d)" in notes
    assert "benin/dollar has not been refreshed since" in notes
    assert "not waited for (blocking: false)" in notes


def test_while_an_input_is_being_refreshed_the_build_waits(desk):
    desk.refresh()
    job = desk.repository.get_implicit_global_asset_job_def()
    run = desk.bench.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, asset_selection=frozenset([dg.AssetKey(["benin", "fx"])])
    )
    assert desk.skipped() == f"benin/made: waits for run {run.run_id[:8]} of benin/fx to end"


def test_a_build_that_is_queued_is_not_requested_twice(desk):
    desk.refresh()
    [request], _ = desk.tick()
    job = desk.repository.get_implicit_global_asset_job_def()
    run = desk.bench.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.QUEUED, tags=request.tags, remote_job_origin=remote_origin()
    )
    assert desk.skipped() == f"benin/made: run {run.run_id[:8]} builds it already"


def test_a_failing_build_is_tried_three_times_with_growing_pauses_and_then_only_after_a_change(desk):
    desk.bench.edit("benin/made", "AS product", "AS produce")
    desk.reload()
    desk.refresh()
    result = desk.build()
    assert not result.success
    [event] = desk.bench.bad(result, "made")
    assert values(event)["refresh/error_class"] == "contract"
    assert "column 'product'" in values(event)["refresh/message"]
    assert "the next try is due at" in desk.skipped()
    desk.now = datetime.now(timezone.utc) + timedelta(minutes=11)
    assert not desk.build().success
    assert "the next try is due at" in desk.skipped()
    desk.now = datetime.now(timezone.utc) + timedelta(minutes=61)
    assert not desk.build().success
    desk.now += timedelta(hours=5)
    assert "failed 3 times with these inputs" in desk.skipped()
    desk.bench.sandbox.revision = "revised"
    desk.refresh()
    [request], _ = desk.tick()
    assert request.run_key.endswith("|first|1")


def test_a_build_while_the_warehouse_is_held_fails_as_busy(desk):
    desk.refresh()

    def held():
        raise WarehouseBusy("held")

    desk.bench.adjust = at("fetched", held)
    desk.reload()
    result = desk.build()
    [event] = desk.bench.bad(result, "made")
    assert values(event)["refresh/error_class"] == "busy"


def test_a_person_may_build_although_an_input_is_late_but_not_before_it_was_ever_loaded(desk):
    result = desk.bench.launch("made")
    [event] = desk.bench.bad(result, "made")
    assert values(event)["refresh/outcome"] == "blocked"
    assert "benin/fx has never been refreshed: `refresh run fx`" in values(event)["refresh/message"]
    desk.refresh()
    desk.bench.adjust = lambda tools: replace(tools, clock=lambda: desk.now + timedelta(days=30))
    event = desk.built(desk.bench.launch("made"))
    assert "benin/fx[DEXUSEU] (and 1 more) has not been refreshed since" in values(event)["refresh/notes"]


def test_schedules_that_are_switched_off_build_nothing(desk):
    desk.refresh()
    desk.bench.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    desk.reload()
    assert desk.skipped() == "REFRESH_SCHEDULES_ENABLED is false"


def test_a_catalogue_without_derived_sources_has_no_such_sensor(desk):
    (desk.bench.folder / "catalog/benin/made.yaml").unlink()
    desk.reload()
    assert not desk.repository.has_sensor_def("derived")


def test_a_tick_reads_the_event_log_anew_only_where_something_happened(desk, monkeypatch):
    desk.refresh()
    desk.build()
    asked = []
    fetch = desk.bench.instance.fetch_materializations
    monkeypatch.setattr(
        desk.bench.instance,
        "fetch_materializations",
        lambda *args, **kwargs: asked.append(args) or fetch(*args, **kwargs),
    )
    desk.skipped()
    assert asked == []
    desk.bench.launch("fx", "DEXUSEU")
    asked.clear()
    desk.skipped()
    assert [len(filters.storage_ids) for (filters,) in asked] == [1]


def test_the_built_in_rates_are_built_behind_both_fred_sources(home):
    for name in ("fred_conditions", "fx_daily"):
        shutil.copy(BUILTIN_CATALOG / f"commodities/{name}.yaml", home.folder / "catalog/commodities")
    conditions = home.folder / "catalog/commodities/fred_conditions.yaml"
    conditions.write_text(conditions.read_text().replace("  rate: 2/s\n", ""))
    [blocked] = home.items("run", "fx_daily")
    assert (blocked["outcome"], blocked["run_id"]) == ("blocked", "")
    assert "commodities/fred_fx has never been refreshed: `refresh run fred_fx`" in blocked["message"]
    items = home.items("run", "--group", "commodities")
    assert [item["source"] for item in items] == ["fred_conditions"] * 8 + ["fred_fx"] * 10 + ["fx_daily"]
    assert (items[-1]["outcome"], items[-1]["added"]) == ("loaded", 175)
    [again] = home.items("run", "fx_daily")
    assert (again["outcome"], again["unchanged"]) == ("unchanged", 175)
