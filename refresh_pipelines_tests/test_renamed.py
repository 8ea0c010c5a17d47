"""A renamed source through Dagster: nothing is loaded twice, and history, status and partitions go on."""

from __future__ import annotations

import pytest

from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.report import key_of
from refresh_pipelines.orchestration.status import status_items
from refresh_pipelines_tests.dagster_bench import at, partitions, values, version
from refresh_pipelines_tests.workbench import NOW

KEYS = ["DEXUSEU", "DEXBZUS"]


def rename(bench, old="fred_fx", new="fx_rates", aliases="[fred_fx]"):
    path = bench.folder / "catalog/commodities"
    text = (path / f"{old}.yaml").read_text()
    (path / f"{old}.yaml").unlink()
    bench.add(f"commodities/{new}", f"{text}\naliases: {aliases}\n")


def outcomes(bench, source):
    return [(item.partition, item.outcome) for item in history(bench.instance, bench.spec(source), 50)]


def state_of(bench, source):
    items = status_items(bench.instance, bench.catalogue(), NOW, bench.settings)
    return next(item for item in items if item["source"] == source)


def test_a_renamed_source_loads_nothing_twice_and_its_partitions_count_as_materialized(bench):
    before = bench.good(bench.launch("fred_fx", *KEYS))
    rename(bench)
    result = bench.launch("fx_rates", "DEXUSEU")
    carried = {event.partition: event for event in bench.good(result) if "refresh/carried_from" in event.metadata}
    (own,) = [event for event in bench.good(result) if "refresh/recovered" not in event.metadata]
    assert (own.partition, values(own)["refresh/outcome"]) == ("DEXUSEU", "unchanged")
    assert sorted(carried) == sorted(KEYS)
    assert {event.partition: version(event) for event in before} == {key: version(carried[key]) for key in KEYS}
    assert bench.instance.get_materialized_partitions(key_of(bench.spec("fx_rates"))) == set(KEYS)
    assert bench.bad(result) == []


def test_what_was_carried_over_is_carried_over_once(bench):
    bench.launch("fred_fx", *KEYS)
    rename(bench)
    bench.launch("fx_rates", "DEXUSEU")
    again = bench.launch("fx_rates", "DEXUSEU")
    assert partitions(bench.good(again)) == ["DEXUSEU"]


def test_history_and_status_go_on_under_the_new_name(bench):
    bench.launch("fred_fx", *KEYS)
    before = state_of(bench, "fred_fx")
    rename(bench)
    after = state_of(bench, "fx_rates")
    names = ("last_success_at", "last_changed_at", "last_outcome", "last_run_id")
    assert [after[name] for name in names] == [before[name] for name in names]
    bench.launch("fx_rates", "DEXUSEU")
    assert outcomes(bench, "fx_rates") == [("DEXUSEU", "unchanged"), ("DEXBZUS", "loaded"), ("DEXUSEU", "loaded")]


def test_a_source_that_moved_to_another_group_too_keeps_its_history(bench):
    bench.launch("fred_fx", "DEXUSEU")
    rename(bench, aliases="[commodities/fred_fx]")
    text = (bench.folder / "catalog/commodities/fx_rates.yaml").read_text()
    (bench.folder / "catalog/commodities/fx_rates.yaml").unlink()
    bench.add("benin/fx_rates", text)
    bench.launch("fx_rates", "DEXUSEU")
    assert outcomes(bench, "fx_rates") == [("DEXUSEU", "unchanged"), ("DEXUSEU", "loaded")]


def test_a_source_without_partitions_is_carried_over_as_well(bench):
    mini = 'description: a\nrequest: {url: "https://example.org/d.csv"}\nformat: csv\ncolumns: {k: {type: text}}\n'
    mini += "merge_key: [k]\nschedule: {frequency: daily}\nretry: {attempts: 1}\n"
    bench.sandbox.override("/example.org/d.csv", b"k\na\n")
    bench.add("benin/old", mini)
    bench.launch("old")
    (bench.folder / "catalog/benin/old.yaml").unlink()
    bench.add("benin/new", mini + "aliases: [old]\n")
    result = bench.launch("new")
    assert bench.bad(result) == []
    assert [values(event)["refresh/outcome"] for event in bench.good(result)] == ["loaded", "unchanged"]
    assert outcomes(bench, "new") == [(None, "unchanged"), (None, "loaded")]


def test_a_failing_first_refresh_still_carries_everything_over(bench):
    bench.launch("fred_fx", *KEYS)
    rename(bench)

    def fail():
        raise RuntimeError("boom")

    bench.adjust = at("fetched", fail)
    assert not bench.launch("fx_rates", "DEXUSEU").success
    assert bench.instance.get_materialized_partitions(key_of(bench.spec("fx_rates"))) == set(KEYS)


def test_an_alias_whose_rows_cannot_be_told_apart_fails_the_refresh_and_changes_nothing(bench):
    bench.launch("fred_fx", "DEXUSEU")
    rename(bench, aliases="[]")
    bench.edit("commodities/fx_rates", "table: fred_economic", "table: other")
    bench.launch("fx_rates", "DEXBZUS")
    bench.edit("commodities/fx_rates", "aliases: []", "aliases: [fred_fx]")
    result = bench.launch("fx_rates", "DEXUSEU")
    (event,) = bench.bad(result)
    assert values(event)["refresh/error_class"] == "permanent"
    assert "what was loaded as fred_fx cannot be carried over" in values(event)["refresh/message"]


@pytest.mark.parametrize("aliases", ["[never_was]", "[fred_fx_old, elsewhere/fred_fx]"])
def test_an_alias_nobody_has_loaded_under_changes_nothing(bench, aliases):
    bench.edit("commodities/fred_fx", "freshness:", f"aliases: {aliases}\nfreshness:")
    assert partitions(bench.good(bench.launch("fred_fx", "DEXUSEU"))) == ["DEXUSEU"]
