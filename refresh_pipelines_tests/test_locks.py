"""Many processes and one warehouse file: ours take turns, strangers are waited for and then named."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from datetime import datetime, timezone

import duckdb
import pytest

from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.exclusive import exclusive
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.warehouse import DuckDBWarehouse
from refresh_pipelines.warehouse.lock import held, owner
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, commit_of, spec_of, start

FX = builtin("fred_fx")
SERIES = FX.partitions.static["series_id"]
A1 = {"k": "a", "n": "1", "t": None}


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@contextmanager
def child(*args):
    """A child that has said it is ready, and that goes on when its input is closed."""
    process = start(*args)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        if process.poll() is None:
            process.stdin.close()
            process.wait()
        process.stdout.close()


def refreshed_at_once(tmp_path, sandbox, keys):
    said = start("refreshing_child", tmp_path, sandbox.base, "crowd", "fred_fx", *keys).communicate(timeout=60)[0]
    return [line.split() for line in said.splitlines()]


@pytest.mark.e2e
def test_ten_processes_with_a_partition_each_all_load_and_say_how_long_they_waited(tmp_path, sandbox):
    said = refreshed_at_once(tmp_path, sandbox, SERIES)
    assert [line[:2] for line in said] == [["loaded", "24"]] * 10
    waits = sorted(float(line[2]) for line in said)
    assert waits[0] >= 0 and waits[-1] > 0
    rows = Bench(tmp_path, sandbox.base).rows("fred_economic")
    assert len({row[:2] for row in rows}) == len(rows) == 240


@pytest.mark.e2e
def test_ten_processes_with_one_partition_load_each_row_once(tmp_path, sandbox):
    said = refreshed_at_once(tmp_path, sandbox, ["DEXUSEU"] * 10)
    assert sorted(line[:2] for line in said) == [["loaded", "24"], *[["unchanged", "0"]] * 9]
    assert len(Bench(tmp_path, sandbox.base).rows("fred_economic")) == 24


@pytest.fixture
def warehouse(tmp_path):
    warehouse = DuckDBWarehouse(tmp_path / "warehouse.duckdb", 0.2)
    warehouse.commit(commit_of(spec_of(), [A1], tmp_path / "scratch"))
    return warehouse


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_strangers_program_is_named_with_its_pid_and_nothing_changes(warehouse, tmp_path, how):
    commit = commit_of(spec_of(), [{**A1, "n": "2"}], tmp_path / "scratch")
    with child("holding_child", how, warehouse.path) as stranger:
        with pytest.raises(WarehouseBusy) as caught:
            warehouse.commit(commit)
        text = str(caught.value)
        assert text.startswith(
            "the warehouse warehouse.duckdb is open in another program; expected the file to be free"
        )
        assert "within 0.2 s (REFRESH_LOCK_TIMEOUT)" in text
        assert "python" in caught.value.came and f"(PID {stranger.pid})" in caught.value.came
        assert (caught.value.error_class, caught.value.retryable) == ("busy", True)
    assert warehouse.commit(commit).state.counts.updated == 1


def test_a_strangers_reader_does_not_keep_us_from_reading(warehouse):
    with child("holding_child", "read", warehouse.path):
        assert set(warehouse.states("mini")[0]) == {""}


def test_a_strangers_writer_keeps_us_from_reading_and_is_named(warehouse):
    with child("holding_child", "write", warehouse.path) as stranger, pytest.raises(WarehouseBusy) as caught:
        warehouse.states("mini")
    assert f"(PID {stranger.pid})" in caught.value.came


@pytest.mark.parametrize("ends", ["exits", "is killed"])
def test_a_stranger_who_leaves_in_time_is_waited_for(warehouse, tmp_path, ends):
    patient = DuckDBWarehouse(warehouse.path, 60)
    commit = commit_of(spec_of(), [{**A1, "n": "2"}], tmp_path / "scratch")
    with child("holding_child", "read", warehouse.path, "until-asked-for") as stranger:
        # It leaves when it sees that our lock is taken, that is, when we have begun to wait.
        if ends == "is killed":
            stranger.kill()
        merged = patient.commit(commit)
        assert merged.state.counts.updated == 1
        assert merged.wait < 60


def test_a_connection_of_this_very_process_is_told_as_such(warehouse):
    with duckdb.connect(str(warehouse.path)), pytest.raises(WarehouseBusy, match="a connection of this very process"):
        warehouse.states("mini")
    assert set(warehouse.states("mini")[0]) == {""}


def test_one_of_ours_is_named_with_its_program_pid_and_since_when(warehouse, tmp_path):
    lock = tmp_path / "warehouse.duckdb.lock"
    before = datetime.now(timezone.utc)
    with child("holding_child", "lock", lock) as holder:
        with pytest.raises(WarehouseBusy) as caught:
            warehouse.states("mini")
        assert str(caught.value).startswith("the warehouse warehouse.duckdb is in use; expected the lock within 0.2 s")
        assert f"held by PID {holder.pid} (" in caught.value.came and "holding_child" in caught.value.came
        since = datetime.fromisoformat(owner(lock).rpartition("since ")[2])
        assert abs((since - before).total_seconds()) < 60
    assert owner(lock) == "another process"


def test_the_lock_of_a_killed_process_is_free_at_once(warehouse, tmp_path):
    lock = tmp_path / "warehouse.duckdb.lock"
    with child("holding_child", "lock", lock) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert str(holder.pid) in owner(lock)  # what the dead one wrote, which is read only while the lock is held
        states, wait = warehouse.states("mini")
    assert (set(states), wait < 0.2) == ({""}, True)


def test_an_unreadable_side_file_still_leaves_a_message(tmp_path):
    lock = tmp_path / "x.lock"
    with held(lock, 0, "x"):
        (tmp_path / "x.lock.owner").write_text("{")
        with pytest.raises(WarehouseBusy, match=r"x is in use.*held by another process"), held(lock, 0, "x"):
            pass
    with held(lock, 0, "x") as wait:
        assert wait < 1


def test_a_lock_is_free_after_an_error_under_it(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), held(tmp_path / "x.lock", 0, "x"):
            raise KeyError


def test_a_lock_that_cannot_be_made_is_the_machines_trouble(tmp_path):
    (tmp_path / "x.lock").mkdir()
    lock = held(tmp_path / "x.lock", 0, "x")
    with pytest.raises(InternalError, match=r"the lock x\.lock cannot be made; expected a folder /.*"), lock:
        pass


def test_a_partition_is_refreshed_by_one_process_at_a_time_and_others_are_free(tmp_path, sandbox):
    settings = Bench(tmp_path, sandbox.base, lock_timeout=0).settings
    with exclusive(FX, "DEXUSEU", settings) as wait:
        assert wait < 1
        said = r"commodities/fred_fx\[DEXUSEU\] is being refreshed: its lock is in use"
        with pytest.raises(WarehouseBusy, match=said), exclusive(FX, "DEXUSEU", settings):
            pass
        with exclusive(FX, "DEXUSUK", settings), exclusive(FX, None, settings):
            pass


def test_a_partition_named_like_a_path_has_its_lock_beside_the_others(tmp_path, sandbox):
    settings = Bench(tmp_path, sandbox.base).settings
    with exclusive(FX, "../../x y|é", settings):
        (lock, _) = sorted((tmp_path / "data" / "locks").iterdir())
        assert lock.name == "fred_fx@..%2F..%2Fx%20y%7C%C3%A9.lock"
