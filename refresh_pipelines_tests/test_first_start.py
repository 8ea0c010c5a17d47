"""The first start of several programs at once on an empty folder: all of them work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.served import Served, environment, free_port

pytestmark = pytest.mark.e2e

COUNTS = "SELECT source, count(*) AS n FROM refresh.load_state GROUP BY 1 ORDER BY 1"
ROWS = "SELECT count(*) AS n FROM raw.bsee_ogora"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    for name in ("commodities/fred_fx", "worldenergy/bsee_ogora"):
        target = tmp_path / "catalog" / f"{name}.yaml"
        target.parent.mkdir(parents=True)
        shutil.copy(BUILTIN_CATALOG / f"{name}.yaml", target)
    return tmp_path


def started(folder, *args, **more):
    env = environment(ROOT, **{"REFRESH_CATALOG": str(folder / "catalog"), "REFRESH_UPSTREAM": "sandbox", **more})
    return subprocess.Popen(
        [sys.executable, "-m", "refresh_pipelines", *args],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out)["items"]


def test_two_terminals_that_refresh_everything_at_once_on_an_empty_folder_both_work(folder):
    port = str(free_port())
    both = [started(folder, "run", "--all", "--json", REFRESH_SANDBOX_PORT=port) for _ in range(2)]
    items = [item for process in both for item in ended(process)]
    outcomes = sorted((item["source"], item["partition"], item["outcome"]) for item in items)
    assert len(outcomes) == 24
    # Each partition was loaded by one of them and found unchanged by the other.
    assert [outcome for _, _, outcome in outcomes] == ["loaded", "unchanged"] * 12
    assert ended(started(folder, "sql", COUNTS, "--json")) == [
        {"source": "bsee_ogora", "n": 2}, {"source": "fred_fx", "n": 10},
    ]  # fmt: skip
    assert ended(started(folder, "sql", ROWS, "--json")) == [{"n": 49}]
    assert len(ended(started(folder, "history", "--limit", "100", "--json"))) == 24


def test_make_up_and_a_refresh_that_start_at_once_on_an_empty_folder_both_work(folder, tmp_path):
    more = {"REFRESH_DATA_DIR": str(tmp_path / "data"), "REFRESH_CATALOG": str(folder / "catalog")}
    with Sandbox(SAMPLES) as sandbox:
        served = Served(ROOT, sandbox, tmp_path / "up.log", **more)
        refreshing = started(ROOT, "run", "bsee_ogora", "--json", REFRESH_UPSTREAM=sandbox.base, **more)
        with served:
            assert [item["outcome"] for item in ended(refreshing)] == ["loaded", "loaded"]
            assert served.materializations("worldenergy", "bsee_ogora") == ["2026-01-01", "2025-01-01"]
            assert served.stop() == []
    assert "Traceback" not in (tmp_path / "up.log").read_text()
