"""Ports that are taken: who holds them, which setting moves us, and that nothing was started."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.ports import PortInUse, holder, ports_of_up, taken
from refresh_pipelines.cli.sandbox import sandbox as sandbox_command
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES, Settings, SettingsError
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.served import environment, free_port


@contextmanager
def listening(host="127.0.0.1"):
    """Hold a port as some other program would."""
    with socket.create_server((host, 0)) as server:
        yield server.getsockname()[1]


def settings_of(folder, **environ):
    return Settings.load({"REFRESH_UPSTREAM": "sandbox", **environ}, root=folder)


def ports(**environ):
    return {name: str(port) for name, port in environ.items()}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_who_holds_a_port_is_named_with_program_and_pid(host):
    with listening(host) as port:
        assert taken(port)
        assert f"(PID {os.getpid()})" in holder(port)
    assert not taken(port)
    assert holder(port) is None


def test_free_ports_are_taken_as_they_are_set(tmp_path):
    ui, sandbox = free_port(), free_port()
    environ = ports(REFRESH_UI_PORT=ui, REFRESH_SANDBOX_PORT=sandbox)
    assert ports_of_up(settings_of(tmp_path, **environ)) == (ui, sandbox, True)
    assert ports_of_up(settings_of(tmp_path, **environ, REFRESH_UPSTREAM="live")) == (ui, sandbox, False)


def test_a_taken_port_of_the_ui_names_setting_holder_and_a_free_port(tmp_path):
    with listening() as port:
        settings = settings_of(tmp_path, **ports(REFRESH_UI_PORT=port, REFRESH_SANDBOX_PORT=free_port()))
        with pytest.raises(PortInUse) as caught:
            ports_of_up(settings)
    text = str(caught.value)
    assert text.startswith(f"port {port} is in use by `")
    assert f"(PID {os.getpid()}). Stop it, or set REFRESH_UI_PORT to a free port: REFRESH_UI_PORT=" in text
    assert text.endswith(" make up")
    assert not taken(int(text.split("REFRESH_UI_PORT=")[1].split(maxsplit=1)[0]))


def test_a_port_of_the_sandbox_held_by_another_program_is_named(tmp_path):
    with listening() as port:
        settings = settings_of(tmp_path, **ports(REFRESH_UI_PORT=free_port(), REFRESH_SANDBOX_PORT=port))
        with pytest.raises(PortInUse, match=f"port {port} .* set REFRESH_SANDBOX_PORT"):
            ports_of_up(settings)


def test_a_sandbox_that_is_served_already_is_used(tmp_path):
    ui = free_port()
    with Sandbox(SAMPLES) as served:
        port = int(served.base.rpartition(":")[2])
        settings = settings_of(tmp_path, **ports(REFRESH_UI_PORT=ui, REFRESH_SANDBOX_PORT=port))
        assert ports_of_up(settings) == (ui, port, False)


@pytest.mark.parametrize("value", ["ui", "0", "70000", "-1", "8088"])
def test_a_port_that_is_none_or_the_other_one_is_a_wrong_setting(tmp_path, value):
    with pytest.raises(SettingsError, match="REFRESH_UI_PORT"):
        ports_of_up(settings_of(tmp_path, REFRESH_UI_PORT=value))


def test_the_sandbox_command_names_the_holder_too():
    with listening() as port:
        result = CliRunner().invoke(sandbox_command, ["--port", str(port)])
    assert result.exit_code == 1
    assert f"(PID {os.getpid()})" in result.output
    assert "set REFRESH_SANDBOX_PORT" in result.output


@pytest.mark.parametrize("setting", ["REFRESH_UI_PORT", "REFRESH_SANDBOX_PORT"])
def test_make_up_on_a_taken_port_starts_nothing_and_leaves_nothing(tmp_path, setting):
    with listening() as port:
        chosen = {"REFRESH_UI_PORT": str(free_port()), "REFRESH_SANDBOX_PORT": str(free_port()), setting: str(port)}
        env = environment(ROOT, REFRESH_DATA_DIR=str(tmp_path / "data"), **chosen)
        done = subprocess.run(
            ["deploy/up.sh"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Nothing was started: port {port} is in use by `")
    assert f"set {setting} to a free port" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
    assert not any(taken(int(value)) for name, value in chosen.items() if name != setting)
