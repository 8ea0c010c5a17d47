"""The API as a process: it starts, answers and stops, and the daemon launches what it queues; run by `make e2e`."""

from __future__ import annotations

import signal
import subprocess

import pytest
import requests

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.served import Served, copied, environment, free_port

pytestmark = pytest.mark.e2e
TOKEN = "planted-t0ken"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}


def answered(url, **headers):
    try:
        return requests.get(url, headers=headers, timeout=10)
    except requests.ConnectionError:
        return None


def test_the_command_serves_until_it_is_asked_to_stop(tmp_path):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    more = {"REFRESH_DATA_DIR": str(tmp_path / "data"), "REFRESH_API_PORT": str(port), "REFRESH_API_TOKEN": TOKEN}
    env = environment(ROOT, **more)
    with subprocess.Popen(
        [".venv/bin/refresh", "api"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            wait_until(lambda: answered(f"{base}/healthz"), 150, "the API to answer")
            assert answered(f"{base}/api/sources").status_code == 401
            body = answered(f"{base}/api/sources?limit=1", **SHOWN).json()
            assert (body["ok"], body["limit"], len(body["items"])) == (True, 1, 1)
            assert answered(f"{base}/readyz", **SHOWN).status_code == 503
            second = subprocess.run(
                [".venv/bin/refresh", "api"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
            )
            assert second.returncode == 1
            assert f"port {port} is in use by `" in second.stderr
        finally:
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
    assert said.splitlines() == [f"API and status page: {base}/ (Ctrl-C stops it)"]
    assert not (tmp_path / "data/warehouse.duckdb").exists()


def test_what_the_api_queues_the_daemon_launches(tmp_path):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    root = copied(tmp_path / "a copy")
    (root / "mine").mkdir()
    log = tmp_path / "up.log"
    with Sandbox(SAMPLES) as sandbox, Served(root, sandbox, log, REFRESH_API_PORT=str(port)) as served:
        wait_until(lambda: (found := answered(f"{base}/readyz")) is not None and found.ok, 120, "the daemon to look")
        path = f"{base}/api/sources/fred_fx"
        answer = requests.post(f"{path}/run", json={"partition": "DEXUSEU"}, timeout=30)
        assert (answer.status_code, answer.json()["message"]) == (202, "")
        run_id = answer.json()["item"]["run_id"]
        status, tags = wait_until(lambda: served.ended(run_id), 120, "the queued run to end")
        assert (status, tags["refresh/trigger"]) == ("SUCCESS", "manual"), log.read_text()
        item = wait_until(lambda: (one := answered(path).json()["item"])["last_run_id"] and one, 90, "it to be seen")
        assert (item["last_run_id"], item["last_outcome"]) == (run_id, "loaded")
        assert served.stop() == []
    assert "Traceback" not in log.read_text()
