"""The code server ends when the server inside it has gone, and for no other reason; that one outlives its history."""

from __future__ import annotations

import logging
import subprocess
import sys
from threading import Event, Lock
from types import SimpleNamespace

import psutil
import pytest
from dagster._core.instance import InstanceRef
from dagster._grpc.server import DagsterApiServer

from refresh_pipelines.orchestration.internals_servers import outlive_outages
from refresh_pipelines.service.code_server import count_inner, watch_inner


class Looks:
    """How many servers there are at one look after the other; it notes how often was looked."""

    def __init__(self, *found):
        self.found, self.taken = list(found), 0

    def __call__(self):
        self.taken += 1
        return self.found.pop(0)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ((1, 0, 0, 1), 3),
        ((0, 0, 0, 0, 1, 2, 1, 0, 0), 9),  # one that came up late, and a reload
        ((1, 0, 1, 0, 0), 5),  # a reload that took its time
    ],
)
def test_it_returns_at_the_second_look_that_misses_a_server_that_was_there(found, taken):
    looks = Looks(*found)
    watch_inner(looks, sleep=lambda _: None)
    assert looks.taken == taken


def test_a_server_that_never_came_up_is_waited_for():
    looks = Looks(*[0] * 50)
    with pytest.raises(IndexError):
        watch_inner(looks, sleep=lambda _: None)
    assert looks.taken == 51


def test_what_counts_are_living_children_that_serve():
    def child(*words):
        return subprocess.Popen([sys.executable, "-S", "-c", "input()", *words], stdin=subprocess.PIPE)

    with child("api", "grpc") as server, child("spawn_main") as run:
        assert count_inner(psutil.Process()) == 1
        server.kill()
        while psutil.Process(server.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert count_inner(psutil.Process()) == 0
        run.kill()


@pytest.fixture
def server(tmp_path):
    """As much of Dagster's server as its look for dead runs needs: one is dead, and its history cannot be opened."""
    (tmp_path / "file").touch()
    away = {"storage": {"sqlite": {"base_dir": str(tmp_path / "file" / "history")}}}
    dead = (SimpleNamespace(is_alive=lambda: False, exitcode=-9), InstanceRef.from_dir(str(tmp_path), overrides=away))
    return SimpleNamespace(
        _execution_lock=Lock(),
        _executions={"a run": dead},
        _shutdown_once_executions_finish_event=Event(),
        _server_termination_event=Event(),
        _logger=logging.getLogger("server"),
    )


def test_a_server_whose_history_is_away_goes_on_looking_after_its_runs(server, caplog):
    outlive_outages()
    outlive_outages()
    # What Dagster does by itself, which ends the thread that looks. Without it the rest is needless.
    with pytest.raises(OSError, match="Not a directory"):
        DagsterApiServer.refresh_check(server)
    server._shutdown_once_executions_finish_event.set()
    DagsterApiServer._check_for_orphaned_runs(server)
    assert "could not be looked after; trying again" in caplog.text
    assert not server._server_termination_event.is_set()
    server._executions.clear()
    DagsterApiServer._check_for_orphaned_runs(server)
    assert server._server_termination_event.is_set()
