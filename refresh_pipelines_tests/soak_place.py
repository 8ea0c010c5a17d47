"""The place of the soak: a hundred sources, a service, two PostgreSQL servers, and what befalls them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import psutil
import requests

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.service import supervised
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.served import Served, copied, environment, free_port
from refresh_pipelines_tests.soak_upstream import Source

# A run that the daemon launches costs four seconds of CPU, a refresh of a command over many a tenth of that.
SOURCES, TICKING, MINUTES = 100, 18, 3
# What is killed in the course of the soak, in an order that is drawn; `inner` is the server that the code server's own
# process has started, `run` a process of a run, `command` a `refresh run` over many sources.
VICTIMS = ("run",) * 7 + ("command",) * 2 + ("code", "inner", "daemon", "webserver", "api", "watch")
LONG_LIVED = ("supervisor", "code", "inner", "daemon", "webserver", "api")
# What Dagster waits for before it gives a run up, in proportion to a soak of minutes.
PATIENCE = {
    "poll_interval_seconds: 60": "poll_interval_seconds: 15",
    "start_timeout_seconds: 180": "start_timeout_seconds: 90",
    "cancel_timeout_seconds: 180": "cancel_timeout_seconds: 60",
}
_FAMILY = ("code", "webserver", "daemon", "watch", "api")


def sources_at(begin):
    """Return the sources: of the ticking ones a part is due at each of some minutes from `begin` on."""
    minutes = [(begin + timedelta(minutes=n)).minute for n in range(MINUTES)]
    kinds = ("grow",) * 7 + ("window",) * 2 + ("halves",)
    return [
        Source(f"s{n:02}", n, kinds[n % 10], *(("ticking", minutes[n % MINUTES]) if n < TICKING else ("bulk", None)))
        for n in range(SOURCES)
    ]


class Soak(Served):
    """A copy of the repository with the sources and its service, whose history and tables are in PostgreSQL.

    Attributes:
        killed: when what was killed, and which process that was.
        commands: exit code, output and errors of each `refresh run` over many sources.
        memory: by name and PID the seconds a process had lived, and the bytes that were its own.
        answers: what the API answered, by status; 0 for no answer.
        up_at: when the service was up; ticks due before were nobody's.
    """

    def __init__(self, root, growing, upstream, receiver, history, warehouse, seed):
        self.root, self.port, self.api = copied(root), free_port(), free_port()
        idle = (datetime.now(timezone.utc) - timedelta(minutes=5)).minute
        self.growing = growing
        write(root / "mine", {f"{one.group}/{one.name}.yaml": one.yaml(idle) for one in growing.sources.values()})
        config = self.root / "dagster.yaml"
        config.write_text(re.sub("|".join(PATIENCE), lambda found: PATIENCE[found[0]], config.read_text()))
        self.history, self.warehouse, self.random = history, warehouse, random.Random(seed)
        self.more = {
            "REFRESH_UPSTREAM": upstream.base,
            "REFRESH_CATALOG": "mine",
            "REFRESH_WEBHOOK_URL": receiver.url,
            "REFRESH_INSTANCE": history.url("dagster"),
            "REFRESH_WAREHOUSE": warehouse.url("warehouse"),
            "REFRESH_UI_PORT": str(self.port),
            "REFRESH_API_PORT": str(self.api),
            "REFRESH_LOCK_TIMEOUT": "6s",
            "REFRESH_STOP_TIMEOUT": "30s",
            # SOAK_LAUNCHER=prefork: the same soak with forked runs.
            "REFRESH_LAUNCHER": os.environ.get("SOAK_LAUNCHER", "default"),
        }
        self.settings = Settings.load(self.more, root=self.root)
        self.killed: list[tuple[datetime, str, int]] = []
        self.commands: list[tuple[int, str, str]] = []
        self.memory: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        self.answers: dict[int, int] = defaultdict(int)
        self.up_at: datetime | None = None
        self.calm, self.over = threading.Event(), threading.Event()
        self._command: subprocess.Popen | None = None

    def refresh(self, *args, patience=600):
        words = [str(self.root / ".venv/bin/refresh"), *args]
        env = environment(self.root, **self.more)
        return subprocess.run(
            words, cwd=self.root, env=env, capture_output=True, text=True, timeout=patience, check=False
        )

    def items(self, *args):
        done = self.refresh(*args, "--json")
        return json.loads(done.stdout)["items"]

    # What goes on beside the daemon, each in a thread of its own until the soak is over.

    def run_many(self):
        """Refresh the group without ticks again and again, all its sources in one process, until it is calm."""
        while not self.calm.is_set():
            self._command = subprocess.Popen(
                [str(self.root / ".venv/bin/refresh"), "run", "--group", "bulk", "--json"],
                cwd=self.root, env=environment(self.root, **self.more),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            said, errors = self._command.communicate()
            self.commands.append((self._command.returncode, said, errors))
            self.calm.wait(5)

    def end_command(self):
        """Kill the command that refreshes many, and start no other."""
        self.calm.set()
        pid = self._find("command")
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
                self.killed.append((datetime.now(timezone.utc), "command", pid))

    def kill_some(self, seconds):
        """Kill one after the other of the victims, spread over so many seconds."""
        order = self.random.sample(VICTIMS, len(VICTIMS))
        for victim in order:
            until = time.monotonic() + seconds / len(order)
            while not self.calm.is_set() and time.monotonic() < until:
                pid = self._find(victim)
                if pid is not None:
                    with suppress(psutil.NoSuchProcess):
                        psutil.Process(pid).kill()
                        self.killed.append((datetime.now(timezone.utc), victim, pid))
                    break
                self.calm.wait(0.2)  # of runs there is not one at each moment
            self.calm.wait(max(0.0, until - time.monotonic()))

    def watch_memory(self):
        while not self.over.wait(3):
            for name, process in self.processes().items():
                with suppress(psutil.Error):
                    own = process.memory_full_info().uss
                    self.memory[name, process.pid].append((time.time() - process.create_time(), own))

    def ask_api(self):
        while not self.over.wait(5):
            for path in ("/healthz", "/readyz", "/api/sources?limit=100", "/metrics", "/"):
                try:
                    status = requests.get(f"http://127.0.0.1:{self.api}{path}", timeout=20).status_code
                except requests.RequestException:
                    status = 0
                self.answers[status] += 1

    # Processes.

    def processes(self):
        """Return the processes of the service that live, by name."""
        found = {}
        try:
            states = {one.name: one.pid for one in supervised.states(self.settings) if one.pid}
        except RefreshError:
            return found
        states["supervisor"] = supervised.running(self.settings).pid
        for name, pid in states.items():
            with suppress(psutil.NoSuchProcess):
                found[name] = psutil.Process(pid)
        with suppress(psutil.Error, KeyError, StopIteration):
            found["inner"] = next(one for one in found["code"].children() if "grpc" in one.cmdline())
        return found

    def _find(self, victim):
        if victim == "command":
            return self._command.pid if self._command and self._command.poll() is None else None
        processes = self.processes()
        if victim == "run":
            runs = self._runs(processes.get("inner"))
            return self.random.choice(runs) if runs else None
        process = processes.get(victim)
        return process.pid if process else None

    def _runs(self, inner):
        """Return the processes of runs, whatever they are at: those of a server, and forks wherever they are."""
        found = []
        for child in inner.children() if inner else ():
            with suppress(psutil.Error):
                found += [child.pid] if "spawn_main" in " ".join(child.cmdline()) else []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == "refresh-run" and process.cwd() == str(self.root):
                    found.append(process.pid)
        return sorted(found)

    def all_up(self):
        states = {one.name: one.state for one in supervised.states(self.settings)}
        return set(states) == set(_FAMILY) and set(states.values()) == {"running"}

    def loaded_here(self):
        """Whether the UI knows the sources."""
        with suppress(requests.RequestException):
            found = self.ask("{repositoriesOrError {... on RepositoryConnection {nodes {name}}}}")
            return found["repositoriesOrError"].get("nodes")

    def away(self, server, seconds, how):
        """Take a PostgreSQL server away for a while."""
        server.stop(how)
        wait_until(passed(seconds), seconds + 5, "the outage to be over")
        server.start()

    def kill_all(self):
        """End what is left, whoever has started it."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = str(self.root) in " ".join(process.cmdline()) or process.cwd() == str(self.root)
                if mine and process.pid != os.getpid():
                    process.kill()


def passed(seconds):
    """Return a condition that is true once so many seconds have passed."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until
