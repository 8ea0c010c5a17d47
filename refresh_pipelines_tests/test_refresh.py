"""Refreshes of the bundled sources against the sandbox, as weeks go by."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import duckdb
import pytest

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import BSEE, FRED, HOST, NOW, Bench, builtin, csv_spec, spec_of

WEEK = timedelta(days=7)
FX, OGORA = builtin("fred_fx"), builtin("bsee_ogora")


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def body(name):
    return (SAMPLES / "fred_fx" / name).read_bytes()


def test_a_first_load_adds_every_row_and_says_so(bench):
    outcome = bench.refresh(FX, "DEXUSEU", trigger="backfill")
    assert (outcome.outcome, outcome.success) == ("loaded", True)
    assert outcome.counts == Counts(fetched=24, added=24, filtered=1)
    assert (outcome.partition_rows, outcome.table_rows, outcome.changed_at) == (24, 24, NOW)
    assert (outcome.bytes, outcome.sha256) == (
        len(body("DEXUSEU.json")),
        hashlib.sha256(body("DEXUSEU.json")).hexdigest(),
    )
    assert (outcome.run_id, outcome.trigger, outcome.started_at) == (
        "run-0001",
        "backfill",
        "2026-11-22T12:00:00+00:00",
    )
    assert bench.stages == ["fetched", "archived", "staged", "merged", "committed"]
    assert len(bench.rows("fred_economic")) == 24
    assert bench.staging() == []


def test_the_same_again_is_a_304_and_touches_nothing(bench, sandbox):
    first = bench.refresh(OGORA, "2025-01-01")
    before = bench.rows("bsee_ogora"), bench.file.stat().st_mtime_ns
    again = bench.refresh(OGORA, "2025-01-01")
    assert [request.status for request in sandbox.requests] == [200, 304]
    assert (again.outcome, again.counts, again.success) == ("unchanged", Counts(), True)
    assert (again.data_version, again.sha256, again.changed_at) == (first.data_version, first.sha256, NOW)
    assert (bench.rows("bsee_ogora"), bench.file.stat().st_mtime_ns) == before
    assert bench.stages[5:] == ["fetched"]


def test_without_validators_equal_bytes_are_not_read_again(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\na,1,x\n")
    first = bench.refresh(csv_spec())
    written = bench.file.stat().st_mtime_ns
    again = bench.refresh(csv_spec(), run_id="again")
    assert (again.outcome, again.counts) == ("unchanged", Counts(fetched=2, unchanged=1, duplicates=1))
    assert (again.data_version, again.sha256) == (first.data_version, first.sha256)
    assert bench.file.stat().st_mtime_ns == written
    assert bench.stages[5:] == ["fetched"]


def test_equal_bytes_with_a_new_etag_are_remembered_with_it(bench, sandbox):
    for etag in ('"one"', '"two"'):
        sandbox.override(FRED, body("DEXUSEU.json"), headers={"ETag": etag})
        bench.refresh(FX, "DEXUSEU")
    assert bench.warehouse.states("fred_fx")[0]["DEXUSEU"].etag == '"two"'


def test_a_revision_updates_adds_and_deletes_exactly_what_changed(bench, sandbox):
    first = bench.refresh(OGORA, "2025-01-01")
    assert first.counts == Counts(fetched=40, added=39, duplicates=1)
    before = set(bench.rows("bsee_ogora"))
    sandbox.revision, bench.now = "revised", NOW + WEEK
    second = bench.refresh(OGORA, "2025-01-01")
    assert second.counts == Counts(fetched=41, added=3, updated=3, unchanged=34, deleted=2, duplicates=1)
    assert (second.changed_at, second.partition_rows) == (NOW + WEEK, 40)
    assert second.data_version != first.data_version
    after = set(bench.rows("bsee_ogora"))
    assert len(before & after) == 34
    assert sorted((row[-3] == NOW, *row[-2:]) for row in after - before) == [
        *[(False, NOW + WEEK, "run-0002")] * 3, *[(True, NOW + WEEK, "run-0002")] * 3,
    ]  # fmt: skip


def test_a_source_that_merges_keeps_rows_the_upstream_no_longer_sends(bench, sandbox):
    bench.refresh(FX, "DEXUSEU")
    document = json.loads(body("revised/DEXUSEU.json"))
    document["observations"] = document["observations"][-6:]
    sandbox.override(FRED, json.dumps(document).encode())
    outcome = bench.refresh(FX, "DEXUSEU")
    assert outcome.counts == Counts(fetched=6, added=5, unchanged=1)
    assert outcome.partition_rows == 29


def test_new_bytes_of_the_same_rows_are_unchanged_and_next_time_known_by_their_bytes(bench, sandbox):
    sandbox.override(FRED, body("DEXCHUS.json"))
    first = bench.refresh(FX, "DEXCHUS")
    before = bench.rows("fred_economic")
    sandbox.override(FRED, body("revised/DEXCHUS.json"))
    bench.now = NOW + WEEK
    second = bench.refresh(FX, "DEXCHUS")
    assert (second.outcome, second.counts) == ("unchanged", Counts(fetched=24, unchanged=24, filtered=1))
    assert second.sha256 != first.sha256
    assert (second.data_version, second.changed_at) == (first.data_version, NOW)
    third = bench.refresh(FX, "DEXCHUS")
    assert (third.outcome, third.sha256, third.counts) == ("unchanged", second.sha256, second.counts)
    once = ["fetched", "archived", "staged"]
    assert bench.stages == [*once, "merged", "committed", *once, "fetched"]
    assert bench.rows("fred_economic") == before


def test_later_requests_ask_from_the_look_back_before_the_newest_row(bench, sandbox):
    for _ in range(2):
        bench.refresh(FX, "DEXUSEU")
    asked = [request.query["observation_start"] for request in sandbox.requests]
    assert asked == ["1971-01-04", "2026-09-08"]  # 45 days before 2026-10-23


def test_a_row_dated_far_ahead_does_not_hide_the_days_before_it(bench, sandbox):
    sandbox.override(FRED, b'{"observations": [{"date": "2206-10-23", "value": "1.1"}]}')
    for _ in range(2):
        bench.refresh(FX, "DEXUSEU")
    assert sandbox.requests[-1].query["observation_start"].startswith("2026-10-08")


def test_a_partition_that_is_replaced_is_always_asked_for_whole(bench, sandbox):
    spec = FX.model_copy(update={"load": FX.load.model_copy(update={"mode": "replace_partition"})})
    for _ in range(2):
        bench.refresh(spec, "DEXUSEU")
    assert {request.query["observation_start"] for request in sandbox.requests} == {"1971-01-04"}
    assert len(bench.rows("fred_economic")) == 24


def test_force_asks_without_validators_and_reads_again(bench, sandbox):
    first = bench.refresh(FX, "DEXUSEU")
    with duckdb.connect(str(bench.file)) as connection:
        connection.execute("DELETE FROM raw.fred_economic WHERE obs_date > '2026-10-20'")
    outcome = bench.refresh(FX, "DEXUSEU", force=True)
    assert "If-None-Match" not in sandbox.requests[1].headers
    assert sandbox.requests[1].query["observation_start"] == "1971-01-04"
    assert (outcome.counts.added, outcome.counts.unchanged) == (3, 21)
    assert outcome.data_version == first.data_version


def test_a_dropped_table_is_loaded_again_although_the_upstream_has_not_changed(bench):
    bench.refresh(FX, "DEXUSEU")
    with duckdb.connect(str(bench.file)) as connection:
        connection.execute("DROP TABLE raw.fred_economic")
    assert bench.refresh(FX, "DEXUSEU").counts.added == 24


def test_an_edited_yaml_reads_the_same_bytes_again(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    first = bench.refresh(csv_spec())
    columns = {**csv_spec().model_dump(by_alias=True)["columns"], "copy": {"type": "text", "from": "t"}}
    second = bench.refresh(csv_spec(columns=columns))
    assert second.counts == Counts(fetched=1, updated=1)
    assert bench.rows("mini")[0][:4] == ("a", 1, "x", "x")
    other = csv_spec(columns=columns, load={"mode": "replace_partition"})
    third = bench.refresh(other)
    assert (third.outcome, third.counts) == ("unchanged", Counts(fetched=1, unchanged=1))
    assert third.data_version == second.data_version != first.data_version


def test_a_volatile_column_alone_changes_nothing(bench, sandbox):
    spec = csv_spec(load={"volatile": ["t"]})
    for stamp in ("10:00", "11:00"):
        sandbox.override(HOST, f"k,n,t\na,1,{stamp}\n".encode())
        outcome = bench.refresh(spec)
    assert (outcome.outcome, outcome.counts) == ("unchanged", Counts(fetched=1, unchanged=1))
    sandbox.override(HOST, b"k,n,t\na,2,12:00\n")
    assert bench.refresh(spec).counts.updated == 1
    assert bench.rows("mini")[0][:3] == ("a", 2, "12:00")


def test_an_empty_answer_is_a_success_where_it_is_allowed(bench, sandbox):
    sandbox.override(HOST, b"[]")
    outcome = bench.refresh(spec_of())
    assert (outcome.outcome, outcome.success, outcome.counts, outcome.table_rows) == ("empty", True, Counts(), 0)
    assert bench.refresh(spec_of()).outcome == "unchanged"
    sandbox.override(HOST, b'[{"k": "a", "n": "1", "t": null}]')
    assert bench.refresh(spec_of()).outcome == "loaded"


def test_the_state_that_is_stored_is_told_before_anything_is_asked(bench, sandbox):
    first = bench.refresh(FX, "DEXUSEU")
    told = []
    sandbox.override(FRED, b"gone", 404)
    tools = replace(bench.tools(), recover=lambda state: told.append((state, len(sandbox.requests))))
    bench.tools = lambda: tools
    with pytest.raises(Exception, match="is not there"):
        bench.refresh(FX, "DEXUSEU")
    assert [(state.run_id, state.counts, asked) for state, asked in told] == [("run-0001", first.counts, 1)]
    assert bench.recovered == []


# A period that is not published yet.

RUNNING, LIMIT = "2026-01-01", datetime(2026, 5, 16, tzinfo=timezone.utc)  # 135 days after the first of January


def last_years_rows_in_the_running_file(sandbox):
    sandbox.override(f"{BSEE}/ogora2026delimit.zip", b"<html>", 200)
    good = (SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes()
    sandbox.override(f"{BSEE}/ogoradelimit.zip", good)


def test_last_years_rows_mean_not_yet_until_the_limit(bench, sandbox):
    last_years_rows_in_the_running_file(sandbox)
    bench.now = LIMIT - timedelta(seconds=1)
    outcome = bench.refresh(OGORA, RUNNING)
    assert (outcome.outcome, outcome.success, outcome.counts) == ("not_yet", False, Counts())
    assert outcome.message.startswith(
        "worldenergy/bsee_ogora[2026-01-01]: the payload holds only rows of another period"
    )
    assert outcome.notes == ["counts as unpublished until 2026-05-16"]
    assert not bench.file.exists()
    assert bench.staging() == []


def test_nothing_at_any_address_means_not_yet_until_the_limit(bench, sandbox):
    for name in ("ogora2026delimit", "ogoradelimit"):
        sandbox.override(f"{BSEE}/{name}.zip", b"", 404)
    bench.now = LIMIT - timedelta(seconds=1)
    assert bench.refresh(OGORA, RUNNING).outcome == "not_yet"


def test_the_running_year_comes_from_the_second_address(bench, sandbox):
    outcome = bench.refresh(OGORA, RUNNING)
    assert (outcome.outcome, outcome.counts.added) == ("loaded", 10)
    assert [request.path.rpartition("/")[2] for request in sandbox.requests] == [
        "ogora2026delimit.zip",
        "ogoradelimit.zip",
    ]
    assert bench.refresh(OGORA, RUNNING).outcome == "unchanged"
    assert sandbox.requests[-1].status == 304


def test_staging_of_killed_runs_is_swept_after_a_day_and_not_before(bench):
    staging = bench.folder / "data" / "staging"
    for name, age in (("old", timedelta(days=1, hours=1)), ("young", timedelta(hours=23))):
        (staging / name / "all").mkdir(parents=True)
        (staging / name / "all" / "payload").write_text("x")
        at = (NOW - age).timestamp()
        os.utime(staging / name, (at, at))
    bench.refresh(FX, "DEXUSEU")
    assert [path.name for path in staging.iterdir()] == ["young"]


def test_one_run_over_two_partitions_leaves_the_folder_of_the_other_alone(bench):
    other = bench.folder / "data" / "staging" / "run-0001" / "DEXUSUK"
    other.mkdir(parents=True)
    bench.refresh(FX, "DEXUSEU")
    assert other.exists()


def test_a_folder_that_another_process_sweeps_at_the_same_moment_is_no_trouble(bench):
    staging = bench.folder / "data" / "staging"
    staging.mkdir(parents=True)
    (staging / "swept").symlink_to(staging / "gone")  # listed, and no longer there when looked at
    assert bench.refresh(FX, "DEXUSEU").outcome == "loaded"
