"""Partitions whose keys are added while the source is in use."""

from __future__ import annotations

from datetime import datetime, timezone

import dagster as dg
import pytest

from refresh_pipelines.orchestration.partitions import dynamic_keys, dynamic_name
from refresh_pipelines_tests.dagster_bench import partitions

DROPS = """\
description: one file for each drop
request: {url: "https://example.org/{drop}.csv"}
format: csv
columns:
  drop: {type: text, from: "{drop}"}
  day: {type: date}
  value: {type: int}
merge_key: [drop, day]
schedule: {frequency: daily}
partitions: {dynamic: drop}
retry: {attempts: 1}
"""
AT = datetime(2026, 6, 15, 6, tzinfo=timezone.utc)


def serve(sandbox, *drops):
    for drop in drops:
        sandbox.override(f"/example.org/{drop}.csv", b"day,value\n2026-01-01,1\n")


def tick(bench, source="drops"):
    bench.now = AT
    repository = bench.definitions().get_repository_def()
    context = dg.build_schedule_context(bench.instance, scheduled_execution_time=AT, repository_def=repository)
    data = repository.get_schedule_def(f"{source}_schedule").evaluate_tick(context)
    return data.run_requests, data.skip_message


def shown(items):
    return [(item["source"], item["partition"], item["outcome"]) for item in items]


@pytest.fixture
def shell(home):
    home.add({"benin/drops.yaml": DROPS})
    serve(home.sandbox, "z-9", "a-1", "m-5")
    return home


@pytest.fixture
def drops(bench):
    bench.add("benin/drops", DROPS)
    serve(bench.sandbox, "z-9", "a-1", "m-5")
    return bench


def add(bench, *keys, source="drops"):
    bench.instance.add_dynamic_partitions(dynamic_name(bench.spec(source)), list(keys))


def test_a_named_key_is_added_and_loaded(shell):
    assert shown(shell.items("run", "drops", "--partition", "z-9")) == [("drops", "z-9", "loaded")]
    assert shown(shell.items("run", "drops")) == [("drops", "z-9", "unchanged")]
    assert shown(shell.items("history", "drops", "--partition", "z-9"))[-1] == ("drops", "z-9", "loaded")


def test_all_known_keys_are_refreshed_in_the_order_they_were_added(shell):
    for key in ("z-9", "a-1", "m-5"):
        shell.refresh("run", "drops", "--partition", key)
    items = shell.items("run", "drops")
    assert shown(items) == [("drops", key, "unchanged") for key in ("z-9", "a-1", "m-5")]
    assert len({item["run_id"] for item in items}) == 1
    assert shown(shell.items("run", "drops", "--from", "a-1")) == [("drops", k, "unchanged") for k in ("a-1", "m-5")]


def test_without_any_key_nothing_is_due_and_the_way_to_add_one_is_said(shell):
    [item] = shell.items("run", "drops")
    assert (item["outcome"], item["run_id"]) == ("not_yet", "")
    assert item["message"] == "benin/drops has no partition yet: add one with `refresh run drops --partition KEY`"


def test_a_key_that_failed_is_known_and_still_missing(shell):
    assert shell.refresh("run", "drops", "--partition", "gone").exit_code == 1
    shell.refresh("run", "drops", "--partition", "a-1")
    serve(shell.sandbox, "gone")
    assert shown(shell.items("run", "drops", "--missing")) == [("drops", "gone", "loaded")]


@pytest.mark.parametrize("key", ["", " a", "a|b", "a,b", "[a]", "a...b", "a\nb"])
def test_a_key_that_dagster_would_read_otherwise_is_a_usage_error(shell, key):
    result = shell.refresh("run", "drops", "--partition", key)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must not be empty, padded, or hold | , [ ] or ..." in " ".join(result.stderr.split())
    [item] = shell.items("run", "drops")
    assert item["outcome"] == "not_yet"


def test_a_range_to_a_key_nobody_added_is_a_usage_error(shell):
    shell.refresh("run", "drops", "--partition", "a-1")
    result = shell.refresh("run", "drops", "--from", "a-1", "--to", "new")
    assert result.exit_code == 2
    assert "benin/drops has no partition 'new'" in result.stderr


def test_two_sources_with_one_name_for_their_keys_do_not_share_them(shell):
    shell.add({"benin/others.yaml": DROPS})
    shell.refresh("run", "drops", "--partition", "a-1")
    [item] = shell.items("run", "others")
    assert item["outcome"] == "not_yet"


def test_a_tick_without_any_key_skips_and_says_how_to_add_one(drops):
    requests, said = tick(drops)
    assert requests == []
    assert said == "no partition is known: `refresh run drops --partition KEY` adds one"


def test_a_tick_requests_one_run_over_all_keys_and_that_run_covers_them(drops):
    add(drops, "z-9", "a-1", "m-5")
    [request], _ = tick(drops)
    ends = [request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
    assert ends == ["z-9", "m-5"]
    result = drops.launch("drops", *ends)
    assert result.success
    assert partitions(drops.good(result)) == ["z-9", "a-1", "m-5"]


def test_a_tick_with_one_key_requests_that_partition(drops):
    add(drops, "a-1")
    [request], _ = tick(drops)
    assert request.partition_key == "a-1"


def test_keys_added_in_the_ui_are_those_of_the_source(drops):
    name = drops.definitions().resolve_assets_def(dg.AssetKey(["benin", "drops"])).partitions_def.name
    drops.instance.add_dynamic_partitions(name, ["m-5"])
    assert dynamic_keys(drops.instance, drops.spec("drops")) == ["m-5"]
    assert partitions(drops.good(drops.launch("drops", "m-5"))) == ["m-5"]
