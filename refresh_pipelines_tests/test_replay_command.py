"""`refresh replay`: a run like any other that asks nobody, and what it says where payloads are missing."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone

import pytest

from refresh_pipelines.archive.keep import entries
from refresh_pipelines.orchestration.breakers import Breakers
from refresh_pipelines.orchestration.events import history, last_asked_at
from refresh_pipelines.orchestration.retention import clear
from refresh_pipelines.orchestration.retention_asset import metadata_of
from refresh_pipelines.orchestration.tags import REPLAY, TRIGGER
from refresh_pipelines_tests.dagster_bench import values
from refresh_pipelines_tests.workbench import table_of

SOURCE, YEARS = "bsee_ogora", ("2025-01-01", "2026-01-01")


@pytest.fixture
def loaded(home):
    assert home.refresh("run", SOURCE).exit_code == 0
    return home


def rows(home):
    return table_of(home.folder / "data/warehouse.duckdb", SOURCE)


def test_accepted_payloads_are_loaded_again_by_a_recorded_run_that_asks_nobody(loaded):
    before, asked = rows(loaded), len(loaded.sandbox.requests)
    items = loaded.items("replay", SOURCE, "--partition", YEARS[1])
    assert [(item["partition"], item["outcome"], item["trigger"]) for item in items] == [
        (YEARS[1], "unchanged", "replay")
    ]
    assert (rows(loaded), len(loaded.sandbox.requests)) == (before, asked)
    run = loaded.runs()[-1]
    assert (run.tags[REPLAY], run.tags[TRIGGER], run.tags["dagster/partition"]) == ("accepted", "replay", YEARS[1])
    assert {item["partition"] for item in loaded.items("replay", SOURCE, "--since", "2020-01-01")} == set(YEARS)
    later = str((datetime.now(timezone.utc) + timedelta(days=2)).date())
    assert loaded.refresh("replay", SOURCE, "--since", later).output.startswith("worldenergy/bsee_ogora: no payload")


def test_a_rebuild_is_one_run_with_an_event_for_each_partition(loaded):
    before = rows(loaded)
    items = loaded.items("replay", SOURCE, "--rebuild")
    assert [(item["partition"], item["outcome"], item["added"]) for item in items] == [
        (YEARS[0], "loaded", 39), (YEARS[1], "loaded", 10),
    ]  # fmt: skip
    assert rows(loaded) == before
    assert len(loaded.runs()) == 2


def test_what_is_missing_is_told_before_a_run_is_made(loaded):
    shutil.rmtree(loaded.folder / "data/archive" / SOURCE)
    for more in ((), ("--rebuild",)):
        result = loaded.refresh("replay", SOURCE, *more)
        assert result.exit_code == 1
        assert "has not the accepted payload of 2025-01-01, 2026-01-01" in result.stderr
        assert "refresh run bsee_ogora --force" in result.stderr
    assert len(loaded.runs()) == 1


def test_arguments_that_do_not_go_together_end_the_command(home):
    for args in (("--rebuild", "--since", "2026-01-01"), ("--lossy",), ("--since", "soon")):
        assert home.refresh("replay", SOURCE, *args).exit_code == 2


def test_a_replay_needs_no_key_and_says_nothing_of_the_upstream(bench):
    assert bench.launch("fred_fx", "DEXUSEU").success
    bench.environ["FRED_API_KEY"] = ""
    spec = bench.spec("fred_fx")
    asked_at = last_asked_at(bench.instance, spec, "DEXUSEU")
    result = bench.launch("fred_fx", "DEXUSEU", refresh__replay="accepted", refresh__trigger="replay")
    assert result.success
    [event] = bench.good(result)
    assert values(event)["refresh/trigger"] == "replay"
    assert "refresh/checked_at" not in values(event)
    assert last_asked_at(bench.instance, spec, "DEXUSEU") == asked_at
    [newest, _] = history(bench.instance, spec, 5)
    assert newest.trigger == "replay"
    assert not Breakers([spec], bench.settings, keeping=False).logs(bench.instance)[spec.source].tries


def test_the_daily_retention_removes_old_payloads_and_lists_them(bench):
    spec = bench.spec("bsee_ogora")
    assert bench.launch("bsee_ogora", YEARS[0]).success
    bench.sandbox.revision = "revised"
    assert bench.launch("bsee_ogora", YEARS[0]).success
    assert len(list(entries(bench.settings.data_dir, "bsee_ogora"))) == 2
    now = datetime.now(timezone.utc)
    first = clear(bench.instance, bench.settings, [spec], now + timedelta(days=399))
    assert first.payloads == 0
    cleared = clear(bench.instance, bench.settings, [spec], now + timedelta(days=401))
    assert (cleared.payloads, cleared.untouched) == (1, {})
    [row] = metadata_of(cleared)["removed_payloads"].records
    assert (row.data["source"], row.data["payloads"]) == ("bsee_ogora", 1)
    [left] = entries(bench.settings.data_dir, "bsee_ogora")
    assert bench.launch("bsee_ogora", YEARS[0], refresh__replay="accepted").success
    assert left.run_id != cleared.archive["bsee_ogora"].source
