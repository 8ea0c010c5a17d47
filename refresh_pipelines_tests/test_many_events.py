"""The event log held open while a run writes to it: nothing else changes, and nothing stays open."""

from __future__ import annotations

import dagster as dg
import psutil

from refresh_pipelines.orchestration.internals import many_events
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.cheap_history import let_go
from refresh_pipelines_tests.dagster_bench import at, partitions


def event_logs(folder):
    """Return the files of the event log that this process has open."""
    names = (file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder / "history")))
    return {name.rpartition("/")[2] for name in names if "/runs/" in name}


def test_sqlite_keeps_its_own_log_from_event_to_event_and_closes_it_with_the_run(bench):
    during = []
    bench.adjust = at("fetched", lambda: during.append(event_logs(bench.folder)))
    result = bench.launch("fred_fx", "DEXUSEU", "DEXBZUS")
    assert {"index.db", "index.db-wal", f"{result.run_id}.db", f"{result.run_id}.db-wal"} <= during[-1]
    let_go()
    assert event_logs(bench.folder) == set()
    assert partitions(bench.good(result)) == ["DEXUSEU", "DEXBZUS"]


def test_another_process_reads_and_writes_the_event_log_meanwhile(bench):
    with (
        many_events(bench.instance, "some-run", bench.settings),
        dg.DagsterInstance.from_ref(bench.instance.get_ref()) as other,
    ):
        other.report_runless_asset_event(dg.AssetMaterialization("elsewhere"))
        assert bench.instance.get_latest_materialization_event(dg.AssetKey("elsewhere"))


def test_an_event_log_that_is_no_sqlite_file_is_left_alone(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance, many_events(instance, "some-run", Settings.load({}, tmp_path)):
        assert instance.get_runs_count() == 0
