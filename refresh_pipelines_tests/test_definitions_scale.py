"""What changes with very many sources: whose job a schedule targets. Times are the benchmark's business."""

import gc
import shutil
import subprocess
import sys
from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.collector import collection_paused
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.schedules import MOST_OWN_TARGETS
from refresh_pipelines.orchestration.tools import Workshop
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import MINI, errors, write

AT = datetime(2026, 6, 15, 11, 45, tzinfo=timezone.utc)
SHAPES = {
    "none": MINI,
    "day": MINI + "partitions: {time: day, start: 2024-01-01, column: day}\n",
    "days": MINI + "partitions: {time: day, start: 2024-01-01, column: day, lookback: 2}\n",
    "town": MINI + "partitions: {static: {town: [Oslo, Rome]}}\n",
}
KEY = {name: dg.AssetKey(["many", f"{name}_0"]) for name in SHAPES}


def definitions(folder, size):
    names = list(SHAPES)
    files = {f"many/{names[i % 4]}_{i // 4}.yaml": SHAPES[names[i % 4]] for i in range(size)}
    catalogue = load_catalogue([write(folder / "catalog", files)])
    assert not errors(catalogue)
    assert len(catalogue.sources) == size
    settings = Settings.load({}, root=folder)
    return build_definitions(settings, catalogue, workshop=Workshop(settings, clock=lambda: AT))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The repository of one source more than have jobs of their own."""
    return definitions(tmp_path_factory.mktemp("many"), MOST_OWN_TARGETS + 1).get_repository_def()


@pytest.fixture
def requests(many, tmp_path, empty_history):
    """Return what a tick of a source requests."""
    shutil.copytree(empty_history, tmp_path / "history")
    with dg.DagsterInstance.local_temp(str(tmp_path / "history")) as instance:

        def evaluate(name):
            context = dg.build_schedule_context(instance, scheduled_execution_time=AT, repository_def=many)
            return many.get_schedule_def(f"{name}_0_schedule").evaluate_tick(context).run_requests

        yield evaluate


def test_up_to_300_sources_each_schedule_has_a_job_of_its_own(tmp_path):
    jobs = [schedule.job_name for schedule in definitions(tmp_path, MOST_OWN_TARGETS).schedules]
    assert MOST_OWN_TARGETS == 300
    assert len(set(jobs)) == 302  # and those of scores and retention
    assert "__ASSET_JOB" not in jobs


def test_above_300_sources_all_schedules_share_the_job_of_all_assets(many):
    assert len(many.schedule_defs) == 303
    assert {schedule.job_name for schedule in many.schedule_defs} == {"__ASSET_JOB"}
    assert [job.name for job in many.get_all_jobs()] == ["__ASSET_JOB"]


@pytest.mark.parametrize(
    ("name", "partition", "first", "last"),
    [
        ("none", None, None, None),
        ("day", "2026-06-14", None, None),
        ("days", None, "2026-06-12", "2026-06-14"),
        ("town", None, "Oslo", "Rome"),
    ],
)
def test_a_tick_on_the_shared_job_requests_its_own_asset_only(requests, name, partition, first, last):
    [request] = requests(name)
    assert list(request.asset_selection) == [KEY[name]]
    assert request.partition_key == partition
    assert request.tags.get("dagster/asset_partition_range_start") == first
    assert request.tags.get("dagster/asset_partition_range_end") == last
    assert request.tags["refresh/source"] == f"{name}_0"


def test_the_request_is_one_that_the_shared_job_can_run(many, requests):
    [request] = requests("day")
    job = many.get_job(request.job_name or "__ASSET_JOB").get_subset(asset_selection={KEY["day"]})
    assert set(job.asset_layer.selected_asset_keys) == {KEY["day"]}
    assert request.tags["dagster/partition"] == "2026-06-14"


def test_garbage_is_collected_again_after_a_catalogue_was_read():
    assert gc.isenabled()
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_loading_the_definitions_loads_no_engine():
    script = (
        "import sys, refresh_pipelines.definitions;"
        "print([name for name in ('pyarrow', 'duckdb', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
