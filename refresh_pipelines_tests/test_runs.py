"""Runs of a source's asset that end well: which events they leave, with what in them."""

from __future__ import annotations

import uuid
from threading import Timer

import pytest
from filelock import FileLock, Timeout

from refresh_pipelines.exclusive import exclusive
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.tags import run_tags, trigger_of
from refresh_pipelines.refresh import refresh
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED, partitions, values, version

COUNTS = {"fetched", "added", "updated", "unchanged", "deleted", "rejected", "duplicates", "filtered"}
OTHERS = {"outcome", "bytes", "sha256", "seconds_fetch", "seconds_parse", "seconds_load", "seconds_wait"}


def test_one_partition_gives_one_materialization_with_everything_that_is_known(bench):
    result = bench.launch("fred_fx", "DEXUSEU")
    [event] = bench.good(result)
    told = values(event)
    assert event.partition == "DEXUSEU"
    assert {f"refresh/{name}" for name in COUNTS | OTHERS} <= set(told)
    assert told["refresh/outcome"] == "loaded"
    assert (told["refresh/fetched"], told["refresh/added"]) == (24, 24)
    assert (told["dagster/partition_row_count"], told["dagster/row_count"]) == (24, 24)
    assert len(version(event)) == 64
    assert bench.bad(result) == []


def test_an_unchanged_partition_materializes_again_with_the_same_data_version(bench):
    [first] = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    [second] = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    assert values(second)["refresh/outcome"] == "unchanged"
    assert version(second) == version(first)


def test_a_revision_changes_the_data_version(bench):
    [first] = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    bench.sandbox.revision = "revised"
    [second] = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    assert values(second)["refresh/outcome"] == "loaded"
    assert (values(second)["refresh/added"], values(second)["refresh/updated"]) == (5, 3)
    assert version(second) != version(first)


def test_force_asks_anew(bench):
    bench.launch("fred_fx", "DEXUSEU")
    [event] = bench.good(bench.launch("fred_fx", "DEXUSEU", refresh__force="true"))
    assert (values(event)["refresh/outcome"], values(event)["refresh/fetched"]) == ("unchanged", 24)
    assert [request.status for request in bench.sandbox.requests] == [200, 200]


def test_a_range_gives_each_partition_one_materialization_of_its_own(bench):
    result = bench.launch("bsee_ogora", "2022-01-01", "2024-01-01")
    events = bench.good(result)
    assert result.success
    assert partitions(events) == ["2022-01-01", "2023-01-01", "2024-01-01"]
    assert [values(event)["refresh/added"] for event in events] == [39, 39, 39]
    assert len({version(event) for event in events}) == 3
    assert bench.bad(result) == []


def test_a_range_of_static_partitions_covers_the_keys_between(bench):
    result = bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert partitions(bench.good(result)) == ["DEXUSEU", "DEXBZUS", "DEXMXUS"]


def test_a_range_in_the_wrong_order_fails_and_says_so(bench):
    result = bench.launch("fred_fx", "DEXMXUS", "DEXUSEU")
    assert not result.success
    assert bench.good(result) == []


def test_an_unpublished_period_is_an_observation_and_a_success(bench):
    bench.edit("worldenergy/bsee_ogora", "unpublished_for: 135d", "unpublished_for: 3000d")
    for name in ("ogora2024delimit.zip", "ogoradelimit.zip"):
        bench.sandbox.override(f"/www.data.bsee.gov/Production/Files/{name}", b"gone", status=404)
    result = bench.launch("bsee_ogora", "2024-01-01")
    [event] = bench.bad(result)
    assert result.success
    assert bench.good(result) == []
    assert (event.partition, values(event)["refresh/outcome"]) == ("2024-01-01", "not_yet")


def test_a_run_launched_without_tags_gets_them(bench):
    bench.edit("commodities/fred_fx", "owner:", "tenant: desk\nowner:")
    tags = bench.run(bench.launch("fred_fx", "DEXUSEU")).tags
    wanted = {
        "refresh/source": "fred_fx",
        "refresh/group": "commodities",
        "refresh/tenant": "desk",
        "refresh/trigger": "manual",
    }
    assert wanted.items() <= tags.items()


def test_the_trigger_of_a_run_is_that_of_its_events(bench):
    result = bench.launch("fred_fx", "DEXUSEU", dagster__backfill="abc")
    assert bench.run(result).tags["refresh/trigger"] == "backfill"
    assert values(bench.good(result)[0])["refresh/trigger"] == "backfill"


@pytest.mark.parametrize(
    ("tags", "trigger"),
    [
        ({}, "manual"),
        ({"dagster/backfill": "abc"}, "backfill"),
        ({"dagster/schedule_name": "fred_fx_schedule"}, "schedule"),
        ({"dagster/sensor_name": "probes"}, "sensor"),
        ({"dagster/schedule_name": "s", "refresh/trigger": "catch_up"}, "catch_up"),
    ],
)
def test_the_trigger_is_read_from_what_launched_the_run(tags, trigger):
    assert trigger_of(tags) == trigger


def commit_without_event(bench, key, revision="good"):
    """Refresh as a process does that dies right after its commit."""
    spec = bench.spec("fred_fx")
    tools = bench.workshop.tools(lambda _: None, lambda _: None)
    bench.sandbox.revision = revision
    run = bench.instance.create_run_for_job(
        bench.definitions().get_repository_def().get_implicit_global_asset_job_def(),
        tags=run_tags(spec, "schedule"),
    )
    return refresh(spec, window_of(spec, key), tools, run_id=run.run_id)


def test_an_event_lost_after_its_commit_is_told_once_by_the_next_run(bench):
    bench.launch("fred_fx", "DEXUSEU")
    lost = commit_without_event(bench, "DEXUSEU", "revised")
    recovered, own = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    told = values(recovered)
    assert told["refresh/recovered"] is True
    assert (told["refresh/outcome"], told["refresh/added"], told["refresh/updated"]) == ("loaded", 5, 3)
    assert version(recovered) == lost.data_version == version(own)
    assert lost.run_id in told["refresh/notes"]
    assert values(own)["refresh/outcome"] == "unchanged"
    assert len(bench.good(bench.launch("fred_fx", "DEXUSEU"))) == 1


def test_a_recovered_event_keeps_the_trigger_of_the_run_that_lost_it(bench):
    commit_without_event(bench, "DEXUSEU")
    recovered, own = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    assert values(recovered)["refresh/trigger"] == "schedule"
    assert values(own)["refresh/trigger"] == "manual"


def test_a_recovered_partition_counts_as_done_only_after_its_own_refresh(bench):
    commit_without_event(bench, "DEXUSEU")
    bench.sandbox.override(f"{FRED}?series_id=DEXUSEU", b"", status=403)
    result = bench.launch("fred_fx", "DEXUSEU")
    assert not result.success
    assert [values(event).get("refresh/recovered") for event in bench.good(result)] == [True]
    assert [outcome.outcome for outcome in history(bench.instance, bench.spec("fred_fx"), 5)] == ["failed", "loaded"]


@pytest.mark.parametrize("keys", [["DEXUSEU"], ["DEXUSEU", "DEXBZUS"]])
def test_the_partition_stays_locked_until_its_event_is_written(bench, keys):
    lock, held = bench.settings.data_dir / "locks" / f"fred_fx@{keys[-1]}.lock", []

    def look(entry):
        if entry.dagster_event and entry.dagster_event.event_type_value == "ASSET_MATERIALIZATION":
            held.append(is_held(lock))

    run_id = str(uuid.uuid4())
    bench.instance.add_event_listener(run_id, look)
    assert bench.launch("fred_fx", *keys, run_id=run_id).success
    assert held[-1] is True


def is_held(path):
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def test_waiting_for_a_partition_is_counted_as_waiting(bench):
    lock = exclusive(bench.spec("fred_fx"), "DEXUSEU", bench.settings)
    lock.__enter__()

    def release_soon(tools):
        Timer(0.2, lock.__exit__, (None, None, None)).start()
        return tools

    bench.adjust = release_soon
    [event] = bench.good(bench.launch("fred_fx", "DEXUSEU"))
    assert values(event)["refresh/seconds_wait"] >= 0.1


def test_status_file_is_current_after_a_run(bench):
    bench.launch("fred_fx", "DEXUSEU")
    item = bench.status()["fred_fx"]
    assert (item["last_outcome"], item["consecutive_failures"], item["incident"]) == ("loaded", 0, None)
    assert item["last_success_at"]
    assert item["next_run_at"]
    assert list(bench.settings.data_dir.glob(".status*")) == []


def test_nothing_is_pickled(bench):
    result = bench.launch("fred_fx", "DEXUSEU")
    files = [path for path in (bench.folder / "history/storage").rglob("*") if path.is_file()]
    assert result.success
    assert [path for path in files if "compute_logs" not in path.parts] == []


def test_a_source_without_partitions_has_one_event_without_a_key(bench):
    bench.add("commodities/plain", MINI)
    bench.sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
    first, second = bench.launch("plain"), bench.launch("plain")
    assert [event.partition for event in bench.good(first)] == [None]
    assert [values(event)["refresh/outcome"] for event in bench.good(second)] == ["unchanged"]


def test_assets_of_one_run_have_their_own_verdicts(bench):
    bench.add("commodities/one", MINI)
    bench.add("commodities/two", MINI.replace("data.csv", "two.csv"))
    bench.sandbox.override("/example.org/two.csv", b"day,value\n2026-01-01,1\n")
    result = bench.launch(["one", "two"])
    assert not result.success
    assert [values(event)["refresh/outcome"] for event in bench.bad(result, "one")] == ["failed"]
    assert [values(event)["refresh/outcome"] for event in bench.good(result, "two")] == ["loaded"]
    assert (bench.status()["one"]["last_outcome"], bench.status()["two"]["last_outcome"]) == ("failed", "loaded")
