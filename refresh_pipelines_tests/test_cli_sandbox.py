"""`refresh sandbox` as a person starts it."""

from __future__ import annotations

import signal
import subprocess
import sys

import requests
from click.testing import CliRunner

from refresh_pipelines.cli.sandbox import sandbox as command
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES

PATH = "/api.stlouisfed.org/fred/series/observations?series_id=DEXUSEU&api_key={}&file_type=json"


def test_the_command_serves_until_interrupted_and_masks_keys():
    code = "from refresh_pipelines.cli.sandbox import sandbox; sandbox(['--port', '0', '--verbose'])"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        requests.get(first.split()[2] + PATH.format("abc"), timeout=10)
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        last = process.stdout.read()
    assert first.startswith("Sandbox at http://127.0.0.1:")
    assert "REFRESH_UPSTREAM=sandbox REFRESH_SANDBOX_PORT=" in first
    assert line == f"200 GET {PATH.format('***')}\n"
    assert (process.returncode, last) == (0, "Sandbox stopped.\n")


def test_the_command_says_when_its_port_is_taken():
    with Sandbox(SAMPLES) as other:
        result = CliRunner().invoke(command, ["--port", other.base.rpartition(":")[2]])
    assert result.exit_code == 1
    assert "set REFRESH_SANDBOX_PORT" in result.output
