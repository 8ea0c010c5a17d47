"""The files around the package hold what the README and the design promise of them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import requests
import yaml
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from refresh_pipelines.service.processes import MARKER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SETTING = re.compile(r"\bREFRESH_[A-Z][A-Z_]*[A-Z]\b")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def holds(requirement, python):
    """Whether a requirement applies on this platform to a Python such as 3.10."""
    environment = {"python_version": python, "python_full_version": f"{python}.99", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def load_instance(tmp_path, monkeypatch):
    """Return the instance Dagster makes of our dagster.yaml in an empty folder."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return dg.DagsterInstance.get()


def test_dagster_keeps_everything_it_writes_below_data(tmp_path, monkeypatch):
    with load_instance(tmp_path, monkeypatch) as instance:
        instance.add_dynamic_partitions("days", ["2026-01-01"])
    assert (tmp_path / "data/dagster/history/runs.db").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"dagster.yaml", "data"}


def test_dagster_reads_the_promised_limits(tmp_path, monkeypatch):
    with load_instance(tmp_path, monkeypatch) as instance:
        concurrency = instance.get_concurrency_config()
        assert concurrency.run_queue_config.max_concurrent_runs == 4
        assert concurrency.pool_config.pool_granularity.value == "run"
        assert concurrency.pool_config.default_pool_limit == 2
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled


def test_schedule_ticks_are_kept_longer_than_a_year():
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert settings["retention"]["schedule"]["purge_after_days"] == 400


def test_workspace_and_pyproject_name_the_same_location(project):
    [entry] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert entry == {
        "python_module": {"module_name": "refresh_pipelines.definitions", "location_name": "refresh_pipelines"}
    }
    # Plain `dagster dev` reads pyproject.toml even where a workspace.yaml lies beside it.
    assert project["tool"]["dagster"] == {
        "module_name": entry["python_module"]["module_name"],
        "code_location_name": entry["python_module"]["location_name"],
    }


def test_lock_holds_pins_and_no_address(pins):
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|^-| @ |\bfile:|--", text, re.MULTILINE)
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_dependency(project, pins, python):
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins if holds(pin, python)}
    declared = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    for wanted in filter(lambda each: holds(each, python), map(Requirement, declared)):
        version = str(pinned.get(canonicalize_name(wanted.name), "")).removeprefix("==")
        assert version, f"{wanted.name} is not in requirements.lock; run `make lock`"
        assert wanted.specifier.contains(version), f"{wanted} is pinned to {version}; run `make lock`"


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_a_package_once(pins, python):
    names = [canonicalize_name(pin.name) for pin in pins if holds(pin, python)]
    assert sorted(names) == sorted(set(names))


def test_env_example_names_exactly_the_settings_that_exist():
    files = ("refresh_pipelines/settings.py", "refresh_pipelines/service/processes.py", "deploy/up.sh")
    readers = [ROOT / file for file in files]
    existing = {name for reader in readers for name in SETTING.findall(reader.read_text())}
    offered = set(re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert offered == existing - {MARKER} | {"FRED_API_KEY"}


def test_env_example_changes_nothing_when_copied():
    assert dict(dotenv_values(ROOT / ".env.example")) == {}


@pytest.mark.parametrize("target", ["run", "up", "test", "e2e", "check", "lock", "clean"])
def test_make_alone_lists_the_target(target):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    listed = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"  make {target} " in listed


def test_settings_of_the_person_who_runs_the_tests_are_gone():
    assert not [name for name in os.environ if name.startswith("REFRESH_") or name == "FRED_API_KEY"]


def test_tests_cannot_leave_this_machine(refused_connections):
    with pytest.raises(RuntimeError, match="do not leave this machine"):
        requests.get("http://192.0.2.1/", timeout=1)
    with pytest.raises(RuntimeError, match="do not leave this machine"):
        socket.create_connection(("example.org", 80), timeout=1)
    assert len(refused_connections) == 2
    refused_connections.clear()
