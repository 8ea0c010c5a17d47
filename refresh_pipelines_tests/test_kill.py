"""A refresh killed at any moment: the next one is right, nothing is doubled, no lock stays."""

from __future__ import annotations

import signal

import pytest

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import HOST, NOW, Bench, builtin, csv_spec, start

pytestmark = pytest.mark.e2e
OGORA, YEAR = builtin("bsee_ogora"), "2025-01-01"
REVISED = Counts(fetched=41, added=3, updated=3, unchanged=34, deleted=2, duplicates=1)


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base, lock_timeout=2)


def die(bench, sandbox, stage, *rest):
    child = start("refreshing_child", bench.folder, sandbox.base, stage, *rest)
    assert child.communicate(timeout=60)[0] == ""
    assert child.returncode == -signal.SIGKILL


def rows_without_run(bench):
    return [row[:-3] for row in bench.rows("bsee_ogora")]


@pytest.mark.parametrize("stage", ["fetched", "staged", "merged"])
def test_killed_before_the_commit_a_first_load_has_not_happened(bench, sandbox, stage):
    die(bench, sandbox, stage, OGORA.source, YEAR)
    assert bench.refresh(OGORA, YEAR).counts == Counts(fetched=40, added=39, duplicates=1)
    assert bench.recovered == []
    assert len(bench.rows("bsee_ogora")) == 39


@pytest.mark.parametrize("stage", ["fetched", "staged", "merged"])
def test_killed_before_the_commit_a_revision_has_not_happened(bench, sandbox, stage):
    bench.refresh(OGORA, YEAR)
    before, known = bench.rows("bsee_ogora"), bench.warehouse.states("bsee_ogora")[0]
    sandbox.revision = "revised"
    die(bench, sandbox, stage, OGORA.source, YEAR)
    assert (bench.rows("bsee_ogora"), bench.warehouse.states("bsee_ogora")[0]) == (before, known)
    assert bench.refresh(OGORA, YEAR).counts == REVISED
    assert [state.run_id for state in bench.recovered] == ["run-0001"]


@pytest.mark.parametrize("revised", [False, True])
def test_killed_after_the_commit_the_next_refresh_is_told_what_was_committed(bench, sandbox, revised):
    if revised:
        bench.refresh(OGORA, YEAR)
        sandbox.revision = "revised"
    die(bench, sandbox, "committed", OGORA.source, YEAR)
    rows = bench.rows("bsee_ogora")
    outcome = bench.refresh(OGORA, YEAR)
    assert (outcome.outcome, bench.rows("bsee_ogora")) == ("unchanged", rows)
    told = bench.recovered[-1]
    assert (told.run_id, told.outcome, told.data_version) == ("child-run", "loaded", outcome.data_version)
    assert told.counts == (REVISED if revised else Counts(fetched=40, added=39, duplicates=1))


def test_what_a_killed_run_left_in_staging_is_no_part_of_the_next(bench, sandbox):
    die(bench, sandbox, "staged", OGORA.source, YEAR)
    (left,) = (bench.folder / "data" / "staging").iterdir()
    assert {path.name for path in left.glob("*/*")} > {"rows.arrow"}
    bench.refresh(OGORA, YEAR, run_id="child-run")
    assert bench.staging() == []


def test_killed_in_the_middle_of_the_commit_a_big_load_is_there_whole_or_not_at_all(bench, sandbox):
    def payload(number):
        return b"k,n,t\n" + b"".join(b"key-%06d,%d,%d\n" % (n, n, n * number) for n in range(60_000))

    sandbox.override(HOST, payload(1))
    bench.refresh(csv_spec())
    sandbox.override(HOST, payload(2))
    child = start("refreshing_child", bench.folder, sandbox.base, "pause")
    assert child.stdout.readline() == "merged\n"
    child.stdin.close()
    # The transaction is now being written; no moment of it is special, and each must do.
    log = bench.file.with_name(bench.file.name + ".wal")
    while child.poll() is None and not (log.exists() and log.stat().st_size):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    new = bench.warehouse.query("SELECT count(*) FROM raw.mini WHERE t::INT = 2 * n AND n > 0")[1][0][0]
    state = bench.warehouse.states("mini")[0][""]
    assert (new, state.run_id) in {(0, "run-0001"), (59_999, "child-run")}
    outcome = bench.refresh(csv_spec())
    assert outcome.counts.updated == 59_999 - new
    rows = bench.rows("mini")
    assert (len(rows), len({row[0] for row in rows})) == (60_000, 60_000)
    assert sum(row[2] == str(2 * row[1]) for row in rows) == 60_000


@pytest.mark.parametrize("stage", ["merged", "committed"])
def test_killed_around_the_commit_rows_and_versions_agree(bench, sandbox, stage):
    spec = csv_spec(load={"mode": "snapshot", "history": True})
    sandbox.override(HOST, b"k,n,t\na,1,x\nb,1,x\n")
    bench.refresh(spec)
    before = everything(bench)
    sandbox.override(HOST, b"k,n,t\na,2,x\nc,1,x\n")
    die(bench, sandbox, stage, "snapshot")
    assert (everything(bench) == before) == (stage == "merged")
    bench.refresh(spec)
    versions = bench.warehouse.query("SELECT k, n, _valid_to IS NULL, _ended FROM history.mini ORDER BY 1, 2")[1]
    assert versions[:2] == [("a", 1, False, "update"), ("a", 2, True, None)]
    assert versions[2:] == [("b", 1, False, "delete"), ("c", 1, True, None)]


def everything(bench):
    versions = bench.warehouse.query("SELECT * FROM history.mini ORDER BY 1, 2")[1]
    return bench.rows("mini"), versions, bench.warehouse.states("mini")[0]
