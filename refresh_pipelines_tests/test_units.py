"""The systemd units start what the list of processes names, sandboxed, and leave time for a stop."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from refresh_pipelines.service.launch import DRAIN
from refresh_pipelines.service.processes import launch_words, processes
from refresh_pipelines.settings import Settings
from refresh_pipelines.units import parse_duration
from refresh_pipelines_tests.command_home import ROOT

UNITS = {path.stem.removeprefix("refresh-"): path for path in (ROOT / "deploy/systemd").glob("*.service")}
PYTHON = "%h/refresh_pipelines/.venv/bin/python"
NAMES = [process.name for process in processes(Settings.load({}, root=ROOT))]


def keys(name):
    """Return what a unit says, the last word for each key."""
    lines = re.findall(r"^(\w+)=(.*)$", UNITS[name].read_text(), re.M)
    assert len(lines) == len(dict(lines)), "a key twice"
    return dict(lines)


def test_there_is_one_unit_for_each_process_that_is_no_stand_in():
    assert sorted(UNITS) == sorted(NAMES)
    wanted = re.search(r"^Wants=(.*)$", (ROOT / "deploy/systemd/refresh.target").read_text(), re.M)[1].split()
    assert sorted(wanted) == sorted(path.name for path in UNITS.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_starts_the_process_as_the_supervisor_does(name):
    _, *words = launch_words(name)
    assert keys(name)["ExecStart"] == " ".join([PYTHON, *words])


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_may_write_the_data_folder_alone_and_is_stopped_gently(name):
    said = keys(name)
    assert said["ProtectSystem"] == "strict" and said["ProtectHome"] == "read-only"
    assert said["ReadWritePaths"] == "-%h/refresh_pipelines/data"
    assert said["NoNewPrivileges"] == said["PrivateTmp"] == "yes"
    # Runs that the daemon has forked go on without it, and are the code server's to wait for.
    assert said["KillMode"] == ("process" if name == "daemon" else "mixed") and said["Restart"] == "always"


def test_the_code_server_waits_for_its_runs_and_has_more_time_than_they_get():
    said = keys("code")
    assert said["ExecStop"].endswith(f"refresh_pipelines.service.launch {DRAIN}")
    stop = parse_duration(said["TimeoutStopSec"].replace("min", "m"))
    assert stop > Settings.load({}, root=ROOT).stop_timeout + timedelta(minutes=1)


@pytest.mark.parametrize("name", ["daemon", "webserver"])
def test_what_asks_the_code_server_stops_before_it(name):
    assert keys(name)["After"] == "refresh-code.service"
