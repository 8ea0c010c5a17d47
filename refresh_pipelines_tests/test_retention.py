"""Old runs go, and what they said of assets stays: on both stores of Dagster's history."""

from __future__ import annotations

import os
import time
import uuid
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.events import ASSET_EVENTS, DagsterEvent, StepMaterializationData
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.due import Shown, run_due
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.internals_retention import LASTING, Remover
from refresh_pipelines.orchestration.retention import clear, is_due
from refresh_pipelines.orchestration.retention_asset import RETENTION
from refresh_pipelines.orchestration.scores import Asked, score_totals
from refresh_pipelines.orchestration.status import status_items
from refresh_pipelines.orchestration.tags import SOURCE, TRIGGER
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.dagster_bench import FRED

FX = dg.AssetKey(["commodities", "fred_fx"])
LATER = timedelta(days=91)


@pytest.fixture
def in_postgres(bench, postgres):
    """The bench with its history in PostgreSQL."""
    # As SQLAlchemy names the driver that dagster-postgres is made for.
    storage = {"postgres": {"postgres_url": postgres.replace("://", "+psycopg2://")}}
    ref = InstanceRef.from_dir(str(bench.folder / "history"), overrides={"storage": storage})
    bench.instance = bench._stack.enter_context(dg.DagsterInstance.from_ref(ref))
    return bench


def cleared(bench, later=LATER, **more):
    specs = list(bench.catalogue().sources.values())
    return clear(bench.instance, bench.settings, specs, datetime.now(timezone.utc) + later, **more)


def told(bench):
    """All that we tell of the past."""
    specs = list(bench.catalogue().sources.values())
    now = datetime.now(timezone.utc).replace(hour=12)
    items = status_items(bench.instance, bench.catalogue(), now, bench.settings)
    bench.settings.data_dir.joinpath("status.sqlite").unlink()  # and as one who reads it all anew
    return (
        [[outcome.item() for outcome in history(bench.instance, spec, 100)] for spec in specs],
        items,
        status_items(bench.instance, bench.catalogue(), now, bench.settings),
        score_totals(bench.instance, Asked(bench.settings, specs, {}, now, patience=None)),
    )


def files(bench):
    return {path.name for path in (bench.folder / "history").rglob("*") if path.is_file()}


def ended(bench, trigger="manual", partition="DEXUSEU"):
    """A run of fred_fx as the history has it when it is over."""
    tags = {SOURCE: "fred_fx", TRIGGER: trigger}
    run = dg.DagsterRun("job", str(uuid.uuid4()), tags=tags, status=dg.DagsterRunStatus.STARTED)
    bench.instance.add_run(run)
    loaded = StepMaterializationData(dg.AssetMaterialization(FX, partition=partition), [])
    for kind, data in (("ASSET_MATERIALIZATION", loaded), ("PIPELINE_SUCCESS", None)):
        bench.instance.report_dagster_event(DagsterEvent(kind, "job", event_specific_data=data), run.run_id)
    return run.run_id


def checked(bench, name, passed=True):
    bench.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=FX, check_name=name, passed=passed, metadata={})
    )


def rows_of(bench, run_id):
    """What is left of a run in the event log; of its tags nothing is."""
    with bench.instance.run_storage.connect() as connection:
        assert not connection.exec_driver_sql(f"SELECT * FROM run_tags WHERE run_id = '{run_id}'").all()
    query = f"SELECT dagster_event_type FROM event_logs WHERE run_id = '{run_id}'"
    with bench.instance.event_log_storage.index_connection() as connection:
        return [kind for (kind,) in connection.exec_driver_sql(query)]


def test_a_run_goes_and_its_partition_stays_materialized(bench):
    first = [bench.launch("fred_fx", "DEXBZUS").run_id]
    bench.sandbox.override(FRED, b"no", status=403)
    first.append(bench.launch("fred_fx", "DEXUSEU").run_id)
    bench.sandbox.clear()
    last = [ended(bench), ended(bench)]
    for name in ("plausible", "complete", "fresh"):
        checked(bench, name)
    before = told(bench)
    assert cleared(bench, timedelta(days=89)).runs == 0

    done = cleared(bench)

    cheap_history.let_go()
    assert [run.run_id for run in bench.instance.get_runs()] == last[::-1]
    assert (done.runs, done.finished, done.sources["fred_fx"].runs) == (2, True, 2)
    assert done.rows > 5
    assert done.bytes > 10_000
    assert done.oldest
    assert not any(run_id in name for run_id in first for name in files(bench))
    assert told(bench) == before
    own = bench.definitions().resolve_asset_graph().get(FX).partitions_def
    status = bench.instance.get_status_by_partition(FX, ["DEXUSEU", "DEXBZUS"], own)
    assert {key: one.value for key, one in status.items()} == {"DEXUSEU": "MATERIALIZED", "DEXBZUS": "MATERIALIZED"}
    assert bench.instance.get_materialized_partitions(FX) == {"DEXUSEU", "DEXBZUS"}
    assert rows_of(bench, first[0]) == ["ASSET_MATERIALIZATION"]
    assert rows_of(bench, first[1]) == ["ASSET_OBSERVATION"]
    assert cleared(bench).rows == 0


def test_in_postgres_likewise(in_postgres):
    bench = in_postgres
    first, *last = [bench.launch("fred_fx", "DEXBZUS").run_id, ended(bench), ended(bench)]
    for passed in (True, False, True):
        checked(bench, "fresh", passed)
    for name in ("plausible", "complete"):
        checked(bench, name)
    assert cleared(bench, timedelta(days=89)).rows == 0

    done = cleared(bench)

    assert [run.run_id for run in bench.instance.get_runs()] == last[::-1]
    assert (done.runs, done.finished) == (1, True)
    assert done.rows > 20
    assert bench.instance.get_materialized_partitions(FX) == {"DEXUSEU", "DEXBZUS"}
    assert rows_of(bench, first) == ["ASSET_MATERIALIZATION"]
    assert not bench.instance.get_run_by_id(first)
    found = bench.instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(FX, "fresh"), limit=10)
    assert [record.status.value for record in found] == ["SUCCEEDED"]


def test_dagster_has_no_more_tables_and_asset_events_than_are_dealt_with():
    assert {kind.value for kind in ASSET_EVENTS} - {*LASTING} == {"ASSET_MATERIALIZATION_PLANNED"}
    assert {*SqlEventLogStorageMetadata.tables} == {
        "event_logs", "secondary_indexes", "asset_keys", "asset_event_tags", "dynamic_partitions",
        "concurrency_limits", "concurrency_slots", "pending_steps", "asset_check_executions",
    }  # fmt: skip
    assert {*RunStorageSqlMetadata.tables} == {
        "runs", "secondary_indexes", "run_tags", "snapshots", "daemon_heartbeats", "bulk_actions", "backfill_tags",
        "instance_info", "kvs",
    }  # fmt: skip


def test_what_somebody_goes_on_from_stays(bench):
    made = [ended(bench, trigger) for trigger in ("probe", "schedule", "manual", "manual", "manual")]
    assert cleared(bench).runs == 1
    assert {run.run_id for run in bench.instance.get_runs()} == {*made} - {made[2]}


def test_what_there_is_no_time_for_is_removed_the_next_day(bench):
    gone = [ended(bench) for _ in range(5)][:3]
    done = cleared(bench, patience=timedelta(0), at_once=2)
    assert (done.finished, done.runs) == (False, 2)  # a part is always done
    assert done.sentence().endswith("; the rest tomorrow")
    assert (cleared(bench, at_once=2).runs, bench.instance.get_runs_count()) == (1, 2)
    assert not any(run_id in name for run_id in gone for name in files(bench))


def test_runs_under_way_and_those_of_settings_that_keep_all_stay(bench):
    for _ in range(3):
        ended(bench)
    bench.instance.add_run(dg.DagsterRun("job", "under-way", status=dg.DagsterRunStatus.STARTED))
    bench.environ["REFRESH_KEEP_RUNS"] = "forever"
    assert (cleared(bench).runs, bench.instance.get_runs_count()) == (0, 4)
    bench.environ["REFRESH_KEEP_RUNS"] = "30d"
    assert cleared(bench, timedelta(days=31)).runs == 1
    assert bench.instance.has_run("under-way")


def test_files_of_runs_that_somebody_has_deleted_go_too(bench):
    run_id = ended(bench)
    bench.instance.delete_run(run_id)
    assert f"{run_id}.db" in files(bench)
    assert cleared(bench, timedelta(hours=1)).orphans == 0
    assert cleared(bench, timedelta(days=2)).orphans == 1
    assert not any(run_id in name for name in files(bench))


def test_evaluations_without_a_run_go_but_for_the_newest(bench):
    for passed in (True, False, True):
        checked(bench, "fresh", passed)
    bench.instance.report_runless_asset_event(dg.AssetMaterialization(FX, partition="DEXUSEU"))
    assert cleared(bench, timedelta(days=89)).rows == 0
    assert cleared(bench).rows >= 2
    key = dg.AssetCheckKey(FX, "fresh")
    found = bench.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert [record.status.value for record in found] == ["SUCCEEDED"]
    assert bench.instance.get_materialized_partitions(FX) == {"DEXUSEU"}


def test_leavings_of_killed_processes_go_when_nobody_is_at_work_on_them(bench):
    data, old = bench.settings.data_dir, time.time() - 100 * 86400
    for name in ("staging/0123abcd/all/rows.arrow", "staging/young/x", "locks/fred_fx@DEXUSEU.lock", "locks/new.lock",
                 "locks/runs/dead.json"):  # fmt: skip
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    for name in ("staging/0123abcd", "locks/fred_fx@DEXUSEU.lock", "locks/runs/dead.json"):
        os.utime(data / name, (old, old))
    done = cleared(bench, timedelta(0))
    assert (done.staging, done.bytes, done.locks) == (1, 5, 2)
    left = {path.name for path in data.rglob("*") if path.is_file()}
    assert left >= {"x", "new.lock"}
    assert left.isdisjoint({"rows.arrow", "fred_fx@DEXUSEU.lock", "dead.json"})


def test_the_asset_lists_what_was_removed(bench):
    for _ in range(3):
        ended(bench)
    bench.now = datetime.now(timezone.utc) + LATER
    result = bench.job().execute_in_process(instance=bench.instance, asset_selection=[RETENTION])
    [event] = [one for one in result.get_asset_materialization_events() if one.asset_key == RETENTION]
    listed = event.step_materialization_data.materialization.metadata
    assert (listed["runs"].value, listed["finished"].value) == (1, True)
    [row] = listed["removed"].records
    assert (row.data["source"], row.data["runs"]) == ("fred_fx", 1)
    assert not is_due(bench.settings, bench.now + timedelta(hours=22))
    assert is_due(bench.settings, bench.now + timedelta(hours=24))


def test_the_schedule_is_daily_and_stops_with_the_others(bench):
    def tick():
        schedule = bench.definitions().get_repository_def().get_schedule_def("daily_retention")
        at = datetime(2026, 11, 23, 3, 47, tzinfo=timezone.utc)
        return schedule.evaluate_tick(dg.build_schedule_context(bench.instance, scheduled_execution_time=at))

    assert len(tick().run_requests) == 1
    bench.environ["REFRESH_SCHEDULES_ENABLED"] = "false"
    assert (tick().run_requests, tick().skip_message) == ([], "REFRESH_SCHEDULES_ENABLED is false")


def test_the_newest_row_of_the_log_stays_since_its_number_would_be_given_again(bench):
    run_id = ended(bench, "probe")
    for _ in range(2):
        bench.instance.add_run(dg.DagsterRun("job", str(uuid.uuid4()), status=dg.DagsterRunStatus.SUCCESS))
    needed = Remover(bench.instance).needed(SOURCE, TRIGGER)
    assert run_id in needed
    assert len(needed) == 2


def test_without_a_daemon_run_due_does_it_once_a_day(bench, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(bench.folder / "history"))
    settings = Settings.load({**bench.settings.environ, "DAGSTER_HOME": str(bench.folder / "history")}, bench.folder)
    monkeypatch.chdir(bench.folder)
    for _ in range(2):
        assert not list(run_due([], Catalogue({}, {}, []), settings, Shown(quiet=True)))
    assert not is_due(settings, datetime.now(timezone.utc))
    found = bench.instance.fetch_materializations(RETENTION, limit=10).records
    assert len(found) == 1
    assert found[0].asset_materialization.description == "nothing was old enough to be removed"


@pytest.mark.parametrize("value", ["0", "12h", "soon"])
def test_runs_cannot_be_kept_for_less_than_a_day(tmp_path, value):
    with pytest.raises(SettingsError, match="REFRESH_KEEP_RUNS"):
        Settings.load({"REFRESH_KEEP_RUNS": value}, tmp_path)
