"""Which Dagster instance our commands use, and that starting it is safe."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from refresh_pipelines.orchestration.instance import open_instance, prepare
from refresh_pipelines.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DAGSTER_HOME", "to be put back")
    return folder


def settings_of(root, **environ):
    return Settings.load(environ, root=root)


def test_the_instance_is_that_of_the_root(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert prepare(settings_of(root)) == root
    assert os.environ["DAGSTER_HOME"] == str(root)
    assert Path.cwd() == root


def test_a_home_that_somebody_has_set_is_kept_and_made_absolute(root):
    assert prepare(settings_of(root, DAGSTER_HOME="elsewhere")) == root / "elsewhere"
    assert os.environ["DAGSTER_HOME"] == str(root / "elsewhere")


def test_with_another_data_folder_its_storage_is_there_and_all_else_as_in_the_root(root):
    home = prepare(settings_of(root, REFRESH_DATA_DIR="other data"))
    moved, original = (yaml.safe_load((folder / "dagster.yaml").read_text()) for folder in (home, root))
    assert home == root / "other data"
    assert moved["storage"]["custom"]["config"]["base_dir"] == str(home / "dagster")
    assert moved["compute_logs"]["config"]["base_dir"] == str(home / "dagster/logs")
    assert moved["concurrency"] == original["concurrency"]


@pytest.mark.parametrize(
    "storage",
    [
        {"postgres": {"postgres_db": {"hostname": "db", "db_name": {"env": "DB"}}}},
        {"sqlite": {"base_dir": "/var/lib/dagster"}},
        {"sqlite": {"base_dir": {"env": "WHERE"}}},
        None,
    ],
)
def test_another_store_in_dagster_yaml_stays_as_somebody_wrote_it(root, storage):
    config = yaml.safe_load((root / "dagster.yaml").read_text())
    (root / "dagster.yaml").write_text(yaml.safe_dump({**config, "storage": storage}))
    home = prepare(settings_of(root, REFRESH_DATA_DIR="other"))
    assert yaml.safe_load((home / "dagster.yaml").read_text())["storage"] == storage


def start(root, go):
    go.wait()
    with open_instance(settings_of(root)) as instance:
        assert instance.get_runs_count() == 0


def test_processes_that_start_on_an_empty_folder_at_once_all_work(root):
    context = multiprocessing.get_context("fork")
    go = context.Event()
    processes = [context.Process(target=start, args=(root, go)) for _ in range(3)]
    for process in processes:
        process.start()
    go.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (root / "data/dagster/history/runs.db").exists()


def test_a_script_learns_where_history_lies_when_the_data_are_elsewhere(tmp_path):
    environ = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    environ["REFRESH_DATA_DIR"] = str(tmp_path / "far away")
    command = [sys.executable, "-m", "refresh_pipelines.orchestration.instance"]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'far away'}\n"
    assert (tmp_path / "far away/dagster").is_dir()
