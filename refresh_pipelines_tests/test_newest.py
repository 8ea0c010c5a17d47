"""The places of newest materializations, asked for in one question, are those that Dagster's records of assets have."""

from __future__ import annotations

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines_tests.test_postgres_history import kept_in

KEYS = [dg.AssetKey(["benin", name]) for name in ("a", "b", 'it\'s "quoted"', "never")]
THINGS = ("loaded", "failed", "wiped")
STEPS = st.lists(st.tuples(st.sampled_from(THINGS), st.sampled_from(KEYS[:3])), max_size=10)
# What the database reads the place from holds whatever a refresh says.
SAID = {"refresh/message": 'ends with "storage_id": 99}', "storage_id": 7}


def do(instance, thing, key):
    if thing == "loaded":
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=SAID))
    elif thing == "failed":
        instance.report_runless_asset_event(dg.AssetObservation(key, metadata=SAID))
    else:
        instance.wipe_assets([key])


def recorded(instance):
    records = instance.get_asset_records(KEYS)
    return {one.asset_entry.asset_key: one.asset_entry.last_materialization_storage_id for one in records}


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_whatever_was_logged_and_wiped_the_places_are_those_of_the_records(steps):
    with dg.DagsterInstance.ephemeral() as instance:
        for thing, key in steps:
            do(instance, thing, key)
            assert newest_materializations(instance, [*KEYS, KEYS[0]]) == recorded(instance)


@pytest.mark.parametrize("wiped", [False, True])
def test_in_postgresql_they_are_the_same(postgres_history, tmp_path, wiped):
    with kept_in(postgres_history, tmp_path / "instance") as instance:
        for key in KEYS[:3]:
            do(instance, "failed", key)
        for key in KEYS[:2] * 2:
            do(instance, "loaded", key)
        if wiped:
            do(instance, "wiped", KEYS[0])
            do(instance, "failed", KEYS[0])
        found = newest_materializations(instance, KEYS)
        assert found == recorded(instance)
        assert [found[key] is None for key in KEYS[:3]] == [wiped, False, True]


def test_of_a_thousand_assets_no_event_is_read(bench):
    keys = [dg.AssetKey(["benin", f"s{number}"]) for number in range(1000)]
    for key in keys[::100]:
        do(bench.instance, "loaded", key)
    bench.instance.get_asset_records = None  # nothing of this is for the records
    assert len(newest_materializations(bench.instance, keys)) == 10
