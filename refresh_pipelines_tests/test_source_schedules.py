"""Schedules: what a tick requests, what it skips and says, and how a schedule is shown."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import BUILTIN_CATALOG, Settings
from refresh_pipelines_tests.catalogues import MINI, write

AT = datetime(2026, 6, 15, 11, 45, tzinfo=timezone.utc)


def repository_of(folder, source, text=None, **environ):
    """Return the built-in definitions, or those of `text` as the only source."""
    if text is not None:
        write(folder / "catalog", {f"benin/{source}.yaml": text})
        environ["REFRESH_CATALOG"] = "catalog"
    settings = Settings.load({"FRED_API_KEY": "x", **environ}, root=folder)
    return build_definitions(settings, workshop=Workshop(settings, clock=lambda: AT)).get_repository_def()


@pytest.fixture
def tick(tmp_path, empty_history):
    """Return what a tick at that time requests, and why it skips."""
    shutil.copytree(empty_history, tmp_path / "history")
    with dg.DagsterInstance.local_temp(str(tmp_path / "history")) as instance:

        def evaluate(source, text=None, at=AT, **environ):
            repository = repository_of(tmp_path, source, text, **environ)
            context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
            data = repository.get_schedule_def(f"{source}_schedule").evaluate_tick(context)
            return data.run_requests, data.skip_message

        yield evaluate


def test_a_tick_over_static_partitions_requests_one_run_for_all_of_them(tick):
    [request], _ = tick("fred_fx")
    assert request.run_key == "2026-06-15T11:45:00Z|DTWEXEMEGS"
    wanted = {
        "dagster/asset_partition_range_start": "DEXUSEU",
        "dagster/asset_partition_range_end": "DTWEXEMEGS",
        "refresh/source": "fred_fx",
        "refresh/group": "commodities",
        "refresh/trigger": "schedule",
    }
    assert wanted.items() <= request.tags.items()
    assert request.partition_key is None


def test_a_tick_over_time_partitions_requests_the_newest_and_its_look_back(tick):
    [request], _ = tick("bsee_ogora")
    assert request.run_key == "2026-06-15T11:45:00Z|2026-01-01"
    assert request.tags["dagster/asset_partition_range_start"] == "2025-01-01"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-01-01"


def test_a_late_tick_asks_for_what_was_due_at_its_own_time(tick):
    [request], _ = tick("bsee_ogora", at=datetime(2020, 3, 1, 11, 45, tzinfo=timezone.utc))
    assert request.run_key == "2020-03-01T11:45:00Z|2020-01-01"


def test_a_tick_over_one_partition_names_it(tick):
    text = MINI + "partitions: {time: day, start: 2024-01-01, column: day}\n"
    [request], _ = tick("a", text)
    assert (request.partition_key, request.run_key) == ("2026-06-14", "2026-06-15T11:45:00Z|2026-06-14")


def test_a_tick_without_partitions_requests_the_whole_source(tick):
    [request], _ = tick("a", MINI)
    assert (request.partition_key, request.run_key) == (None, "2026-06-15T11:45:00Z|")


def test_the_run_key_is_in_utc_whatever_the_zone_of_the_schedule(tick):
    text = MINI.replace("{frequency: daily}", '{frequency: daily, time: "07:45", timezone: America/New_York}')
    [request], _ = tick("a", text, at=AT.astimezone())
    assert request.run_key == "2026-06-15T11:45:00Z|"


def test_a_tick_before_the_first_partition_says_when_that_begins(tick):
    text = MINI + "partitions: {time: day, start: 2030-01-01, column: day}\n"
    requests, reason = tick("a", text)
    assert (requests, reason) == ([], "no partition is due: the first one begins at 2030-01-01")


def test_a_missing_key_skips_the_tick_and_names_the_variable(tick):
    requests, reason = tick("fred_fx", FRED_API_KEY="")
    assert requests == []
    assert "blocked: set FRED_API_KEY" in reason


def test_the_sandbox_needs_no_key(tick):
    requests, _ = tick("fred_fx", FRED_API_KEY="", REFRESH_UPSTREAM="sandbox")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("source", "cron", "zone"),
    [("fred_fx", "0 17 * * 1,2", "America/New_York"), ("bsee_ogora", "45 11 * * *", "UTC")],
)
def test_a_schedule_runs_from_the_start_in_its_own_zone(tmp_path, source, cron, zone):
    schedule = repository_of(tmp_path, source).get_schedule_def(f"{source}_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, zone)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_a_schedule_targets_the_asset_of_its_source(tmp_path):
    repository = repository_of(tmp_path, "")
    for source, key in (("fred_fx", ["commodities", "fred_fx"]), ("bsee_ogora", ["worldenergy", "bsee_ogora"])):
        job = repository.get_job(repository.get_schedule_def(f"{source}_schedule").job_name)
        assert job.asset_layer.executable_asset_keys == {dg.AssetKey(key)}


def test_every_source_that_is_due_at_times_has_a_schedule_and_the_location_one_failure_sensor(tmp_path):
    repository = repository_of(tmp_path, "")
    enabled = {spec.source for spec in load_catalogue([BUILTIN_CATALOG]).sources.values() if rhythm_of(spec)}
    names = {schedule.name for schedule in repository.schedule_defs} - {"weekly_scores", "daily_retention"}
    assert names == {f"{source}_schedule" for source in enabled}
    assert {"fred_fx", "bsee_ogora"} <= enabled
    assert [sensor.name for sensor in repository.sensor_defs if sensor.name == "failures"] == ["failures"]
    assert repository.get_sensor_def("failures").default_status is dg.DefaultSensorStatus.RUNNING
