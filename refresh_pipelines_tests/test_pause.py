"""Pause and resume: the commands, the log, and Dagster's own scheduler, which obeys them with a clock of the test's."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import dagster as dg
import dagster._daemon.daemon  # its scheduler cannot be imported before it
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.internals import LOCATION_NAME
from refresh_pipelines.orchestration.internals_ticks import switches
from refresh_pipelines.orchestration.pause import EVER, pause, paused_sources, pauses_of, resume, watch_pauses
from refresh_pipelines.pauses import pauses
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import MINI

# Not long ago, so that ticks of that time are not late; what the UI switches bears the time of the machine.
START = datetime.now(timezone.utc).replace(second=1, microsecond=0) - timedelta(minutes=15)
MINUTELY = MINI.replace("{frequency: daily}", '{cron: "* * * * *"}')
SURVEY = """\
description: tables that somebody drops
request: {drop: {url: drops, pattern: "*.csv"}}
format: csv
columns: {day: {type: date}, value: {type: int}}
merge_key: [day]
schedule: {frequency: on_event}
partitions: {dynamic: day}
"""
DEFINITIONS = """
from pathlib import Path
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.settings import Settings
defs = build_definitions(Settings.load({{"REFRESH_CATALOG": "catalog"}}, Path({root!r})))
"""


def minute(number):
    return START + timedelta(minutes=number)


class Scheduler:
    """Dagster's scheduler daemon over a home's catalogue, one turn at a time; runs it requests stay queued."""

    def __init__(self, home, instance):
        self.home, self.instance = home, instance
        self.deploy()

    def deploy(self):
        """Load the definitions as the catalogue is now, as a restart or a reload does."""
        home, instance = self.home, self.instance
        self.settings = Settings.load({"REFRESH_CATALOG": "catalog"}, home.folder)
        # Another name each time: Python remembers modules by name.
        file = home.folder / f"{home.folder.name}_{len(list(home.folder.glob('*.py')))}.py"
        file.write_text(DEFINITIONS.format(root=str(home.folder)))
        target = LoadableTargetOrigin(python_file=str(file), attribute="defs")
        origin = InProcessCodeLocationOrigin(target, location_name=LOCATION_NAME)
        self.workspace = WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin))

    @property
    def specs(self):
        return list(load_catalogue(self.settings.catalog).sources.values())

    @property
    def spec(self):
        return next(spec for spec in self.specs if spec.source == "a")

    def turn(self, at):
        """Let the daemon look once; it then requests what it believes to be due."""
        logger = logging.getLogger("quiet")
        logger.setLevel(logging.CRITICAL)
        for error in launch_scheduled_runs(self.workspace, logger, at, iteration_times={}):
            assert error is None, error

    def remote(self):
        """Return the schedule as webserver and daemon see it."""
        return self.repository().get_schedule("a_schedule")

    def repository(self):
        [location] = self.workspace.create_request_context().code_locations
        [repository] = location.get_repositories().values()
        return repository

    def ticks(self):
        """Return the due times of all ticks, in minutes since the start, oldest first."""
        remote = self.remote()
        found = self.instance.get_ticks(remote.get_remote_origin_id(), remote.selector_id)
        whole = START.replace(second=0).timestamp()
        return sorted(round((tick.timestamp - whole) / 60) for tick in found)

    def pause(self, at, reason=""):
        return pause(self.instance, self.settings, [self.spec], now=at, reason=reason, by="me")

    def resume(self, at):
        return resume(self.instance, self.settings, [self.spec], now=at)

    def watch(self, at):
        watch_pauses(self.instance, self.settings, self.specs, at)

    def stop_in_the_ui(self):
        remote = self.remote()
        self.instance.stop_schedule(remote.get_remote_origin_id(), remote.selector_id, remote)

    def forget(self):
        """Remove the state, as the daemon does when a schedule was away for long."""
        selector_id = self.remote().selector_id
        [state] = [each for each in self.instance.all_instigator_state() if each.selector_id == selector_id]
        self.instance.delete_instigator_state(state.instigator_origin_id, selector_id)

    def paused(self):
        return paused_sources(self.instance, self.settings, self.specs)

    def spans(self):
        return pauses_of(self.instance, self.settings, self.spec)


@contextmanager
def scheduler_of(home):
    home.add({"benin/a.yaml": MINUTELY})
    # A process that evaluates ticks opens an instance once, and knows it by its folders.
    config = home.folder / "dagster.yaml"
    config.write_text(config.read_text().replace("data/dagster", str(home.folder / "data/dagster")))
    with home.entered(), dg.DagsterInstance.from_config(str(home.folder)) as instance:
        yield Scheduler(home, instance)


@pytest.fixture
def scheduler(home):
    with scheduler_of(home) as scheduler:
        yield scheduler


def test_a_paused_schedule_has_no_ticks_and_after_the_pause_no_flood(scheduler):
    scheduler.turn(minute(0))
    scheduler.turn(minute(1))
    scheduler.pause(minute(1.5))
    for number in range(2, 6):
        scheduler.turn(minute(number))
    assert scheduler.ticks() == [1]
    scheduler.resume(minute(5.5))
    scheduler.turn(minute(6))
    scheduler.turn(minute(9))
    assert scheduler.ticks() == [1, 6, 9]


def test_the_webserver_reads_the_state_that_we_write(scheduler):
    remote = scheduler.remote()
    scheduler.pause(START)
    stored = scheduler.instance.get_instigator_state(remote.get_remote_origin_id(), remote.selector_id)
    assert remote.get_current_instigator_state(stored).status.value == "STOPPED"
    scheduler.resume(START)
    stored = scheduler.instance.get_instigator_state(remote.get_remote_origin_id(), remote.selector_id)
    assert remote.get_current_instigator_state(stored).is_running


def test_a_pause_before_the_daemon_has_ever_run_holds(scheduler):
    scheduler.pause(START)
    scheduler.turn(minute(1))
    scheduler.turn(minute(2))
    assert scheduler.ticks() == []
    assert scheduler.paused() == {"a"}


def test_a_pause_outlives_an_edit_of_the_yaml(home, scheduler):
    scheduler.turn(minute(0))
    scheduler.pause(minute(0.5))
    home.add({"benin/a.yaml": MINUTELY.replace('"* * * * *"', '"*/2 * * * *"')})
    scheduler.deploy()
    assert scheduler.remote().cron_schedule == "*/2 * * * *"
    scheduler.turn(minute(4))
    assert scheduler.ticks() == []


def test_what_is_queued_stays_queued(scheduler):
    scheduler.turn(minute(0))
    scheduler.turn(minute(1))
    scheduler.pause(minute(1.5))
    [run] = scheduler.instance.get_runs()
    assert run.status.value == "QUEUED"


def test_what_is_paused_here_is_resumed_in_the_ui_and_the_other_way_round(scheduler):
    scheduler.pause(START)
    scheduler.instance.start_schedule(scheduler.remote())
    assert scheduler.paused() == set()
    scheduler.stop_in_the_ui()
    assert scheduler.paused() == {"a"}
    assert [spec.source for spec in scheduler.resume(minute(1))] == ["a"]
    assert scheduler.paused() == set()


def test_pausing_twice_changes_nothing(scheduler):
    assert len(scheduler.pause(START, "first")) == 1
    assert scheduler.pause(minute(1), "second") == []
    [known] = pauses(scheduler.settings.data_dir)
    assert (known.paused_at, known.resumed_at, known.reason, known.by) == (START, None, "first", "me")


def test_resuming_what_is_not_paused_changes_nothing(scheduler):
    assert scheduler.resume(START) == []
    assert pauses(scheduler.settings.data_dir) == []


def test_our_pauses_are_known_to_the_second(scheduler):
    scheduler.pause(minute(0))
    scheduler.resume(minute(3))
    scheduler.pause(minute(7))
    assert scheduler.spans() == [(minute(0), minute(3)), (minute(7), None)]


def test_a_pause_made_in_the_ui_before_any_tick_has_no_beginning(scheduler):
    scheduler.stop_in_the_ui()
    assert scheduler.spans() == [(EVER, None)]


def test_a_pause_made_in_the_ui_is_logged_when_it_is_seen(scheduler):
    scheduler.turn(minute(0))
    scheduler.turn(minute(2))
    scheduler.stop_in_the_ui()
    last = minute(2).replace(second=0)
    assert scheduler.spans() == [(last, None)]
    scheduler.watch(minute(2.5))
    scheduler.watch(minute(3))
    [known] = pauses(scheduler.settings.data_dir)
    assert (known.paused_at, known.resumed_at, known.by) == (last, None, "dagster")
    scheduler.instance.start_schedule(scheduler.remote())
    started = switches(scheduler.instance)["a_schedule"].started_at
    scheduler.watch(minute(4))
    assert scheduler.spans() == [(last, started)]


def test_a_pause_that_began_and_ended_in_the_ui_unseen_is_inferred_from_the_start(scheduler):
    scheduler.turn(minute(0))
    scheduler.turn(minute(2))
    scheduler.stop_in_the_ui()
    scheduler.instance.start_schedule(scheduler.remote())
    started = switches(scheduler.instance)["a_schedule"].started_at
    assert scheduler.spans() == [(minute(2).replace(second=0), started)]


def test_our_pause_that_the_ui_ended_is_known_before_it_is_logged(scheduler):
    scheduler.pause(minute(0))
    scheduler.instance.start_schedule(scheduler.remote())
    started = switches(scheduler.instance)["a_schedule"].started_at
    assert scheduler.spans() == [(minute(0), started)]
    scheduler.watch(started)
    assert scheduler.spans() == [(minute(0), started)]


def test_a_reset_in_the_ui_ends_a_pause(scheduler):
    scheduler.pause(minute(0))
    scheduler.instance.reset_schedule(scheduler.remote())
    scheduler.watch(minute(1))
    assert scheduler.paused() == set()
    assert scheduler.spans() == [(minute(0), minute(1))]


def test_a_pause_that_dagster_forgot_or_overwrote_is_made_again(scheduler):
    scheduler.turn(minute(0))
    scheduler.pause(minute(1))
    scheduler.forget()
    scheduler.watch(minute(2))
    assert scheduler.paused() == {"a"}
    scheduler.forget()
    scheduler.turn(minute(3))
    assert scheduler.paused() == set()
    scheduler.watch(minute(3))
    assert scheduler.paused() == {"a"}
    assert scheduler.spans() == [(minute(1), None)]


def test_a_disabled_source_has_nothing_to_pause(home, scheduler):
    home.add({"benin/off.yaml": MINI + "enabled: false\n"})
    off = next(spec for spec in scheduler.specs if spec.source == "off")
    assert pause(scheduler.instance, scheduler.settings, [off], now=START, reason="", by="me") == []
    assert "benin/off is disabled in its YAML" in home.refresh("pause", "off").stdout


def test_the_file_sensor_of_a_source_that_waits_for_files_is_paused_and_keeps_its_cursor(home, scheduler):
    home.add({"benin/survey.yaml": SURVEY})
    scheduler.deploy()
    [sensor] = [each for each in scheduler.repository().get_sensors() if each.name == "survey_files"]
    instance = scheduler.instance
    running = instance.reset_sensor(sensor)
    instance.update_instigator_state(running.with_data(running.instigator_data._replace(cursor="41")))
    assert home.items("pause", "survey")[0]["changed"]
    stored = instance.get_instigator_state(sensor.get_remote_origin_id(), sensor.selector_id)
    assert sensor.get_current_instigator_state(stored).status.value == "STOPPED"
    assert next(item for item in home.items("status") if item["source"] == "survey")["paused"]
    scheduler.watch(minute(1))
    assert home.refresh("resume", "survey").stdout == "benin/survey resumed\n"
    stored = instance.get_instigator_state(sensor.get_remote_origin_id(), sensor.selector_id)
    assert sensor.get_current_instigator_state(stored).is_running
    assert stored.instigator_data.cursor == "41"


DERIVED = """\
description: a test
derive: {query: "SELECT day, value FROM raw.a"}
requires: [{source: a}]
columns:
  day: {type: date}
  value: {type: double}
merge_key: [day]
freshness: {checked: 36h}
"""


def test_a_derived_source_is_paused_though_its_sensor_is_shared(home, scheduler):
    home.add({"benin/made.yaml": DERIVED})
    assert home.refresh("check").exit_code == 0, home.refresh("check").stdout
    assert home.items("pause", "made")[0]["changed"]
    assert not home.items("pause", "made")[0]["changed"]
    assert next(item for item in home.items("status") if item["source"] == "made")["paused"]
    assert "benin/made: paused" in derived_tick(home)
    assert home.refresh("resume", "made").stdout == "benin/made resumed\n"
    assert "paused" not in derived_tick(home)


def derived_tick(home):
    """Return why the sensor of derived sources requests nothing."""
    settings = Settings.load({"REFRESH_CATALOG": "catalog"}, home.folder)
    repository = build_definitions(settings).get_repository_def()
    with home.entered(), dg.DagsterInstance.from_config(str(home.folder)) as instance:
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        return repository.get_sensor_def("derived").evaluate_tick(context).skip_message
