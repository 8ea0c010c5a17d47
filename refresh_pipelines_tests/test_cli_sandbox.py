"""`refresh sandbox` as a person starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import requests
from click.testing import CliRunner

from refresh_pipelines.cli.sandbox import sandbox as command
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.sandbox_kinds import KINDS
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


def test_faults_are_told_at_the_start_and_in_each_line():
    args = ["--port", "0", "--verbose", "--fault", "fred_fx=status:429,7*1", "--fault", "*=empty"]
    code = f"from refresh_pipelines.cli.sandbox import sandbox; sandbox({args})"
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = process.stdout.readline().split()[2]
        told = [process.stdout.readline() for _ in range(2)]
        statuses = [requests.get(base + PATH.format("abc"), timeout=10).status_code for _ in range(2)]
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert told == ["Fault: fred_fx=status:429,7*1\n", "Fault: *=empty\n"]
    assert statuses == [429, 200]
    shown = f"GET {PATH.format('***')}"
    assert lines == [f"429 {shown} (status:429,7)\n", f"200 {shown} (empty)\n"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("fred_fx=statsu", "unknown fault 'statsu' (did you mean status?); the kinds are status, redirect,"),
        ("fred_fx", "'fred_fx' is not written TARGET=KIND[:ARGUMENT][*TIMES]"),
        ("fred_fy=empty", "'fred_fy' is no source with samples; there are"),
        ("fred_fx=status:99", "expected an HTTP status from 200 to 599"),
    ],
)
def test_a_fault_that_does_not_exist_is_a_usage_error(fault, said):
    result = CliRunner().invoke(command, ["--port", "0", "--fault", fault])
    assert result.exit_code == 2
    assert "Invalid value for '--fault'" in result.output
    assert said in result.output


def test_every_kind_of_fault_is_listed_with_what_it_does():
    result = CliRunner().invoke(command, ["--list-faults"])
    assert result.exit_code == 0
    assert [line.partition("[")[0].split()[0] for line in result.output.splitlines()] == list(KINDS)
    assert all(kind.says in result.output for kind in KINDS.values())


def test_the_command_serves_samples_beside_the_own_catalogue(tmp_path):
    place = tmp_path / "samples" / "mini"
    place.mkdir(parents=True)
    (place / "sandbox.yaml").write_text(
        "modified: {good: 2026-01-01T00:00:00Z, revised: 2026-01-02T00:00:00Z}\n"
        "routes: [{path: /example.org/data.csv, good: data.csv}]\n"
    )
    (place / "data.csv").write_text("day,value\n2026-01-01,1\n")
    environ = {**os.environ, "REFRESH_CATALOG": str(tmp_path / "catalog")}
    code = "from refresh_pipelines.cli.sandbox import sandbox; sandbox(['--port', '0'])"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        base = process.stdout.readline().split()[2]
        mine = requests.get(base + "/example.org/data.csv", timeout=10)
        bundled = requests.get(base + PATH.format("abc"), timeout=10)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert mine.text == "day,value\n2026-01-01,1\n"
    assert bundled.status_code == 200
