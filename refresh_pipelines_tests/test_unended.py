"""Runs that have begun, have not ended, and have nobody at work on them: ended once they have been silent for long."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import StepRetryData
from dagster._core.test_utils import create_run_for_test
from dagster._utils.error import SerializableErrorInfo

from refresh_pipelines.clock import utc_now
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.server import recorded
from refresh_pipelines.orchestration.tags import run_tags
from refresh_pipelines.orchestration.unended import SILENCE, end_unended
from refresh_pipelines.worker import Worker, at_work, workers

MINUTE = timedelta(minutes=1)


def begun(bench, *steps):
    """Make a run of fred_fx that has begun and said something of its steps, and whose process is gone."""
    spec = bench.spec("fred_fx")
    run = create_run_for_test(
        bench.instance,
        status=dg.DagsterRunStatus.STARTED,
        tags={**run_tags(spec, "schedule"), "dagster/partition": "DEXUSEU"},
        asset_selection=frozenset([key_of(spec)]),
    )
    for word in ("Executing steps in process", *steps):
        bench.instance.report_engine_event(word, run)
    return run


def ended(bench, after):
    return [
        one.run_id for one in end_unended(bench.instance, bench.settings, [bench.spec("fred_fx")], utc_now() + after)
    ]


def status(bench, run):
    return bench.instance.get_run_by_id(run.run_id).status.value


def test_a_run_that_says_nothing_for_long_fails_once_and_says_why(bench):
    run = begun(bench, "Finished steps in process (pid: 4711)")
    assert ended(bench, SILENCE - MINUTE) == []
    assert status(bench, run) == "STARTED"
    assert ended(bench, SILENCE + MINUTE) == [run.run_id]
    assert ended(bench, SILENCE + MINUTE) == []
    assert status(bench, run) == "FAILURE"
    [failure] = bench.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    said = "this run could not record how it ended; got no word of it for 7 minutes, and no process at work on it."
    assert said in failure.message


def test_one_with_a_process_is_left_to_whoever_looks_after_processes(bench):
    run = begun(bench)
    with at_work(bench.settings.data_dir, run.run_id):
        assert ended(bench, timedelta(days=1)) == []
    with at_work(bench.settings.data_dir, run.run_id, to_the_end=False) as worker:
        worker.cannot_tell()
    assert [one.untold for one in workers(bench.settings.data_dir)] == [True]
    assert ended(bench, timedelta(days=1)) == []


def test_one_that_waits_to_try_again_is_silent_for_as_long_as_it_has_said(bench):
    run = begun(bench)
    wait = DagsterEvent(
        DagsterEventType.STEP_UP_FOR_RETRY.value,
        run.job_name,
        step_key="commodities__fred_fx",
        event_specific_data=StepRetryData(SerializableErrorInfo("busy", [], None), 3600),
    )
    bench.instance.report_dagster_event(wait, run.run_id)
    assert ended(bench, timedelta(hours=1)) == []
    assert ended(bench, timedelta(hours=1) + SILENCE + MINUTE) == [run.run_id]


def test_runs_of_other_assets_and_of_launchers_elsewhere_are_left_alone(bench):
    run, late = begun(bench), utc_now() + timedelta(days=1)
    assert end_unended(bench.instance, bench.settings, [bench.spec("bsee_ogora")], late) == []
    with dg.instance_for_test(
        overrides={"run_launcher": {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}}
    ) as elsewhere:
        there = SimpleNamespace(instance=elsewhere, spec=bench.spec, settings=bench.settings)
        begun(there)
        assert ended(there, timedelta(days=1)) == []
    assert status(bench, run) == "STARTED"


def test_a_refresh_whose_event_could_not_be_stored_is_known_to_have_told_nobody(bench):
    """Dagster closes the generator of an asset when it cannot store what that yields."""
    worker = Worker()

    def body():
        with recorded(worker):
            yield 1

    running = body()
    next(running)
    running.close()
    assert worker.untold
