"""`refresh start`, `status`, `logs`, `stop` with real processes: kept running, one instance only, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest

from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.served import Served, command, copied, environment, free_port
from refresh_pipelines_tests.upstream import Upstream, answer

pytestmark = pytest.mark.e2e
GOOD = answer(b"day,n\n2026-01-01,1\n")
SOURCE = """\
description: a test
request: {{url: "https://{name}.example.org/data.csv"}}
format: csv
columns: {{day: {{type: date}}, n: {{type: int}}}}
merge_key: [day]
schedule: {{frequency: daily}}
"""
NAMES = ("code", "webserver", "daemon", "watch", "api")


class Place(Served):
    """A copy of the repository with two sources, one quick and one that takes its time, and its service."""

    def __init__(self, root, upstream):
        self.root, self.upstream, self.port = copied(root), upstream, free_port()
        write(root / "mine", {f"benin/{name}.yaml": SOURCE.format(name=name) for name in ("quick", "slow")})
        upstream.script.append(self.serve)
        self.more = {
            "REFRESH_UPSTREAM": upstream.base,
            "REFRESH_CATALOG": "mine",
            "REFRESH_UI_PORT": str(self.port),
            "REFRESH_API_PORT": str(free_port()),
            "REFRESH_STOP_TIMEOUT": "5s",
        }

    def serve(self, handler):
        if handler.path.startswith("/slow."):
            self.upstream.released.wait(100)
        handler.wfile.write(GOOD)

    def refresh(self, *args, code=0):
        # In the background of a shell, as scripts do, which has it and all it starts ignore SIGINT.
        words = ["sh", "-c", '"$@" & wait $!', "sh", str(self.root / ".venv/bin/refresh"), *args]
        env = environment(self.root, **self.more)
        # A start loads Dagster into five processes: minutes, where others do the same.
        done = subprocess.run(words, cwd=self.root, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def processes(self):
        document = json.loads(command(self.root, ".venv/bin/refresh", "status", "--json", **self.more).stdout)
        return {one["name"]: one for one in document.get("processes", [])}

    def loaded_here(self):
        """Whether the UI knows the sources."""
        found = self.ask("{repositoriesOrError {... on RepositoryConnection {nodes {name}}}}")
        return found["repositoriesOrError"].get("nodes")

    def supervisor(self):
        return json.loads((self.root / "data/run/supervisor.lock").read_text())["pid"]

    def kill_all(self):
        for process in psutil.process_iter():
            try:
                mine = str(self.root) in " ".join(process.cmdline()) or process.cwd() == str(self.root)
            except psutil.Error:
                continue
            if mine and process.pid != os.getpid():
                process.kill()


@pytest.fixture
def place(tmp_path_factory):
    # Not below the folder of the test, whose long name leaves too little for those of sockets.
    with Upstream() as upstream:
        place = Place(tmp_path_factory.mktemp("p") / "p", upstream)
        try:
            yield place
        finally:
            place.kill_all()


def test_a_service_is_started_once_kept_running_and_stopped_without_losing_a_run(place):
    both = [
        subprocess.Popen(
            [".venv/bin/refresh", "start"], cwd=place.root, env=environment(place.root, **place.more),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = {process.communicate(timeout=240)[0]: process.returncode for process in both}
    assert sorted(said.values()) == [0, 1], said
    refused = next(text for text, code in said.items() if code)
    pid = place.supervisor()
    assert "Error: " in refused
    assert psutil.Process(pid).terminal() is None
    again = place.refresh("start", code=1)
    assert f"runs already: PID {pid} since " in again and f"webserver on port {place.port}" in again

    first = place.processes()
    assert tuple(first) == NAMES
    assert {one["state"] for one in first.values()} == {"running"}
    assert place.refresh("status", code=0).startswith("PROCESS")
    assert "Serving dagster-webserver" in place.refresh("logs", "webserver")
    wait_until(place.loaded_here, 150, "the location to be loaded")

    a_killed_process_comes_back(place, first["daemon"]["pid"])
    run = place.launch("benin", "quick")
    assert wait_until(lambda: place.ended(run), 120, "a run")[0] == "SUCCESS"

    slow = place.launch("benin", "slow")
    wait_until(lambda: any(path.startswith("/slow.") for _, path, *_ in place.upstream.seen), 120, "the slow run")
    text = place.refresh("stop")
    assert f"Waiting for 1: slow ({slow[:8]})" in text
    assert f"cancelled: run {slow[:8]}" in text and text.endswith("Stopped.\n")
    assert gone(pid)
    [item] = json.loads(place.refresh("history", "slow", "--json"))["items"]
    assert (item["outcome"], item["error_class"]) == ("failed", "interrupted")
    assert place.refresh("stop").startswith("Nothing runs for ")
    assert not list((place.root / "data/run").glob("*.sock"))


def a_killed_process_comes_back(place, pid):
    os.kill(pid, signal.SIGKILL)

    def back():
        one = place.processes()["daemon"]
        return one["state"] == "running" and one["pid"] != pid

    wait_until(back, 150, "the daemon to come back")
    assert "exited: daemon" in place.refresh("logs", "supervisor")


def test_a_run_that_ends_in_time_is_waited_for(place):
    place.more["REFRESH_STOP_TIMEOUT"] = "90s"
    place.refresh("start")
    wait_until(place.loaded_here, 150, "the location to be loaded")
    run = place.launch("benin", "slow")
    wait_until(lambda: any(path.startswith("/slow.") for _, path, *_ in place.upstream.seen), 120, "the slow run")
    stopping = subprocess.Popen(
        [".venv/bin/refresh", "stop"], cwd=place.root, env=environment(place.root, **place.more),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert stopping.stdout.readline().startswith("Stopping (PID ")
    assert stopping.stdout.readline().startswith("Waiting for 1: slow")
    place.upstream.released.set()
    assert "cancelled" not in stopping.communicate(timeout=120)[0]
    [item] = json.loads(place.refresh("history", "slow", "--json"))["items"]
    assert item["outcome"] == "loaded" and item["run_id"] == run


def test_what_a_killed_supervisor_leaves_is_told_and_ended(place):
    place.refresh("start")
    pid, left = place.supervisor(), {one["pid"] for one in place.processes().values()}
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), 60, "its death")
    assert "its supervisor is gone" in place.refresh("status", code=1)
    assert "service-gone" in place.refresh("doctor", code=1)
    assert "what a killed supervisor has left, PID " in place.refresh("start", code=1)
    assert "what a killed supervisor has left, PID " in place.refresh("stop")
    assert all(map(gone, left))


def gone(pid):
    """Whether a process has ended, also where nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
