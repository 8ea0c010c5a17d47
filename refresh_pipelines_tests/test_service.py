"""The service without its processes: the list, supervisor's file, taken ports, a daemon that is there already."""

from __future__ import annotations

import configparser
import os
import shlex
import socket
import subprocess
import sys

import pytest

from refresh_pipelines.errors import InternalError
from refresh_pipelines.service.config import config_text
from refresh_pipelines.service.launch import wait_for
from refresh_pipelines.service.processes import code_socket, processes
from refresh_pipelines.service.supervised import forget, running, was_started
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines_tests.served import free_port


def settings_of(folder, **environ):
    return Settings.load(environ, root=folder)


def test_the_sandbox_is_one_of_the_processes_only_where_it_stands_in(tmp_path):
    live = [process.name for process in processes(settings_of(tmp_path))]
    assert live == ["code", "webserver", "daemon", "watch", "api"]
    assert [p.name for p in processes(settings_of(tmp_path, REFRESH_UPSTREAM="sandbox"))] == [*live, "sandbox"]


@pytest.mark.parametrize("setting", ["REFRESH_API_PORT", "REFRESH_SANDBOX_PORT"])
def test_two_processes_on_one_port_are_a_wrong_setting(tmp_path, setting):
    settings = settings_of(tmp_path, REFRESH_UI_PORT="4000", REFRESH_UPSTREAM="sandbox", **{setting: "4000"})
    with pytest.raises(SettingsError, match=f"REFRESH_UI_PORT and {setting} are both 4000"):
        processes(settings)


def test_a_path_too_long_for_a_socket_is_told(tmp_path):
    with pytest.raises(InternalError, match="too long for a socket"):
        code_socket(settings_of(tmp_path, REFRESH_DATA_DIR=str(tmp_path / ("x" * 100))))


def test_the_file_of_the_supervisor_holds_no_secret_and_survives_odd_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("50% of it")
    settings = settings_of(folder, FRED_API_KEY="planted5ecret", REFRESH_WEBHOOK_URL="http://127.0.0.1/pathsecret")
    text = config_text(settings)
    assert "secret" not in text.lower()
    read = configparser.RawConfigParser()
    read.read_string(text)
    for process in processes(settings):
        section = read[f"program:{process.name}"]
        assert shlex.split(section["command"]) == [
            sys.executable,
            "-m",
            "refresh_pipelines.service.launch",
            process.name,
        ]
        assert section["stdout_logfile"] == f"{folder}/data/log/{process.name}.log".replace("%", "%%")


def test_a_code_server_that_does_not_answer_is_told_after_a_while(tmp_path):
    times = iter([0.0, 1.0, 100.0])
    with pytest.raises(InternalError, match="the code server does not answer"):
        wait_for(tmp_path / "none.sock", 60, lambda: next(times))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "code.sock"))
        server.listen()
        wait_for(tmp_path / "code.sock", 0)


def test_where_nothing_was_started_nothing_runs_and_nothing_is_taken_away(tmp_path):
    settings = settings_of(tmp_path)
    forget(settings)
    assert running(settings) is None
    assert not was_started(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_starts_nothing_and_names_the_setting(home):
    with socket.create_server(("127.0.0.1", 0)) as server:
        home.environ |= {"REFRESH_UI_PORT": str(server.getsockname()[1]), "REFRESH_API_PORT": str(free_port())}
        result = home.refresh("start")
    assert result.exit_code == 1
    assert f"(PID {os.getpid()}). Stop it, or set REFRESH_UI_PORT to a free port: " in result.output
    assert result.output.endswith(" refresh start\n")
    assert not (home.folder / "data/run").exists()


def test_where_a_daemon_looks_already_nothing_is_started(home):
    home.environ |= {"REFRESH_UI_PORT": str(free_port()), "REFRESH_API_PORT": str(free_port())}
    words = [sys.executable, "-c", "import sys; sys.stdin.read()", "dagster-daemon", "run"]
    env = {**os.environ, "DAGSTER_HOME": str(home.folder)}
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE) as daemon:
        result = home.refresh("start")
        daemon.stdin.close()
    assert result.exit_code == 1
    assert f"a daemon already looks after {home.folder}/data (PID {daemon.pid}: " in result.output


def test_status_says_that_what_was_started_is_gone_and_ends_with_1(home):
    folder = home.folder / "data/run"
    folder.mkdir()
    (folder / "started").touch()
    (folder / "supervisor.lock").touch()
    result = home.refresh("status")
    assert result.exit_code == 1
    assert result.output.startswith("The service was started, and its supervisor is gone")
    assert home.refresh("stop").output.startswith("Nothing runs for ")
    assert not (folder / "started").exists()
