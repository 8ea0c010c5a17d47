"""The sensor of a drop on a real instance: what it asks for, what it says when it does not, and what the runs do."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from refresh_pipelines.clock import utc_now
from refresh_pipelines.drop.listing import MissingCredential
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines_tests.dagster_bench import values
from refresh_pipelines_tests.workbench import NOW

SURVEY = """\
description: tables that somebody drops
request: {drop: {url: drops, pattern: "*.csv"}}
format: csv
columns:
  day: {type: date}
  value: {type: int}
merge_key: [day]
schedule: {frequency: on_event}
partitions: {dynamic: day}
retry: {attempts: 1}
"""
DAY = "2026-11-22"


class Drops:
    """A bench with one source of dropped files and a clock."""

    def __init__(self, bench, text=SURVEY, **environ):
        self.bench, self.now = bench, NOW
        bench.environ |= {"REFRESH_UPSTREAM": "live", **environ}
        bench.add("benin/survey", text)
        self.folder = bench.folder / "drops"
        self.folder.mkdir()
        self.workshop = Workshop(
            bench.settings, lambda tools: replace(tools, clock=lambda: self.now), lambda: self.now, timedelta(0)
        )

    def put(self, name, *rows, age=3600):
        path = self.folder / name
        path.write_text("day,value\n" + "".join(f"{day},{value}\n" for day, value in rows))
        at = self.now.timestamp() - age
        os.utime(path, (at, at))

    def repository(self):
        settings, catalogue = self.bench.settings, self.bench.catalogue()
        return build_definitions(settings, catalogue, workshop=self.workshop).get_repository_def()

    def tick(self):
        repository = self.repository()
        # As the code server makes it: `dg.build_sensor_context` knows no dynamic partitions.
        with dg.SensorEvaluationContext(
            self.bench.instance.get_ref(), None, None, None, None, None, repository, sensor_name="survey_files"
        ) as context:
            return repository.get_sensor_def("survey_files").evaluate_tick(context)

    def run(self, request, **tags):
        """Do what the daemon does with a request."""
        return (
            self.repository()
            .get_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.bench.instance,
                asset_selection=[dg.AssetKey(["benin", "survey"])],
                partition_key=request.partition_key,
                tags={**request.tags, **tags},
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )

    def add_days(self, tick):
        for asked in tick.dynamic_partitions_requests:
            self.bench.instance.add_dynamic_partitions(asked.partitions_def_name, asked.partition_keys)

    def rows(self):
        return open_warehouse(self.bench.settings).query("SELECT day::TEXT, value FROM raw.survey ORDER BY ALL")[1]


@pytest.fixture
def drops(bench):
    return Drops(bench)


def test_files_that_are_stable_become_one_run_of_their_day(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    drops.put("b.csv", ("2026-01-02", 2))
    drops.put("fresh.csv", ("2026-01-03", 3), age=5)
    tick = drops.tick()
    (request,) = tick.run_requests
    assert (request.partition_key, request.tags["refresh/trigger"]) == (DAY, "sensor")
    assert request.tags["refresh/source"] == "survey"
    drops.add_days(tick)
    assert list(dynamic_keys(drops.bench.instance, drops.bench.spec("survey"))) == [DAY]
    result = drops.run(request)
    (event,) = drops.bench.good(result)
    assert (event.partition, values(event)["refresh/added"], values(event)["refresh/trigger"]) == (DAY, 2, "sensor")
    assert drops.rows() == [("2026-01-01", 1), ("2026-01-02", 2)]
    # Then only the third is left, and a minute later it is there as well.
    assert drops.tick().skip_message == "nothing new; 1 file is not stable yet: fresh.csv"
    drops.now += timedelta(seconds=60)
    (request,) = drops.tick().run_requests
    drops.run(request)
    assert len(drops.rows()) == 3
    assert drops.tick().skip_message == "nothing new"


def test_the_same_files_are_not_asked_for_twice(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    (request,) = drops.tick().run_requests
    drops.now += timedelta(seconds=30)
    again = drops.tick()
    assert (again.run_requests, "asked for and are not settled" in again.skip_message) == ([], True)
    drops.now += timedelta(minutes=2)
    (later,) = drops.tick().run_requests
    assert (later.partition_key, later.run_key != request.run_key) == (DAY, True)


def test_a_day_with_a_run_under_way_is_left_alone(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    drops.bench.instance.create_run_for_job(
        drops.repository().get_implicit_global_asset_job_def(),
        tags={"refresh/source": "survey", "dagster/partition": DAY},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert drops.tick().skip_message == f"1 files of {DAY} wait: a run of {DAY} is under way"


def test_a_bad_file_leaves_a_green_run_with_a_failed_check(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    drops.put("bad.csv", ("soon", 1))
    tick = drops.tick()
    drops.add_days(tick)
    result = drops.run(tick.run_requests[0])
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("complete", False)
    assert "1 of the files failed (bad.csv)" in check.description
    drops.now += timedelta(hours=9)
    assert drops.tick().skip_message == "nothing new; 1 file is refused until changed: bad.csv"


def test_only_bad_files_are_a_failed_run_that_nobody_repeats(drops):
    drops.put("bad.csv", ("soon", 1))
    tick = drops.tick()
    drops.add_days(tick)
    result = drops.run(tick.run_requests[0])
    assert not result.success
    (event,) = drops.bench.bad(result)
    assert (values(event)["refresh/outcome"], values(event)["refresh/error_class"]) == ("failed", "contract")
    drops.now += timedelta(hours=9)
    assert drops.tick().run_requests == []


def test_a_folder_that_nobody_has_made_yet_is_made_and_empty(drops):
    drops.folder.rmdir()
    assert drops.tick().skip_message == "nothing new"
    assert drops.folder.is_dir()


def test_a_missing_mount_is_the_reason_of_the_tick_and_no_traceback(bench):
    drops = Drops(bench, SURVEY.replace("url: drops", f"url: {bench.folder}/mount"))
    said = drops.tick().skip_message
    assert said.startswith(f"failed: benin/survey: the folder {bench.folder}/mount does not exist")
    assert drops.tick().skip_message == said


def test_schedules_that_are_switched_off_switch_off_the_sensor(bench):
    drops = Drops(bench, REFRESH_SCHEDULES_ENABLED="false")
    drops.put("a.csv", ("2026-01-01", 1))
    assert drops.tick().skip_message == "REFRESH_SCHEDULES_ENABLED is false"


def test_a_sensor_looks_without_opening_the_warehouse(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    file = drops.bench.settings.warehouse_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("whoever opens this fails")
    assert len(drops.tick().run_requests) == 1


def test_a_source_with_a_drop_has_a_sensor_that_runs_and_no_schedule(drops):
    repository = drops.repository()
    sensor = repository.get_sensor_def("survey_files")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert not repository.has_schedule_def("survey_schedule")
    assert {target.job_name for target in sensor.targets} != {"__ASSET_JOB"}


def test_a_disabled_source_has_no_sensor(bench):
    drops = Drops(bench, SURVEY + "enabled: false\n")
    assert not drops.repository().has_sensor_def("survey_files")


def test_a_run_whose_event_was_lost_after_its_commit_is_told_by_the_next(drops):
    drops.put("a.csv", ("2026-01-01", 1))
    tick = drops.tick()
    drops.add_days(tick)

    def die(stage):
        if stage == "committed":
            raise MissingCredential("the process ends here")

    healthy = drops.workshop
    drops.workshop = replace(healthy, adjust=lambda tools: replace(healthy.adjust(tools), progress=die))
    assert not drops.run(tick.run_requests[0]).success
    drops.workshop = healthy
    # Nobody has told the operational store: the file is asked for again, and is known.
    drops.now += timedelta(minutes=2)
    (again,) = drops.tick().run_requests
    result = drops.run(again)
    recovered, now = drops.bench.good(result)
    assert values(recovered)["refresh/recovered"]
    assert (values(recovered)["refresh/added"], values(now)["refresh/outcome"]) == (1, "unchanged")
    assert drops.rows() == [("2026-01-01", 1)]
    assert drops.tick().skip_message == "nothing new"


def test_an_open_breaker_is_probed_with_the_next_files(bench):
    drops = Drops(bench, SURVEY + "breaker: {failures: 2, probe: 1h}\n")
    drops.now = utc_now()
    for name in ("a.csv", "b.csv"):
        drops.put(name, ("soon", 1))
        tick = drops.tick()
        drops.add_days(tick)
        assert not drops.run(tick.run_requests[0]).success
    assert drops.tick().skip_message.startswith("nothing new; 2 files are refused until changed")
    drops.put("c.csv", ("2026-01-01", 1))
    assert drops.tick().skip_message.startswith("breaker open since ")
    drops.now += timedelta(hours=2)
    (request,) = drops.tick().run_requests
    assert (request.tags["refresh/trigger"], request.tags["refresh/probe"]) == ("probe", "1")
    assert drops.run(request).success
    drops.put("d.csv", ("2026-01-02", 1))
    (rest,) = drops.tick().run_requests
    assert rest.tags["refresh/trigger"] == "sensor"
