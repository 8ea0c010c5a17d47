"""Stuck work below a real daemon: a hung upstream, runs killed and suspended, a killed command; run by `make e2e`.

All at once, for most of the time is waiting for a minute's time limit and for ticks.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.worker import workers
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import Receiver, wait_until
from refresh_pipelines_tests.served import copied, daemon_of, environment, instance_of
from refresh_pipelines_tests.upstream import Upstream, answer

pytestmark = pytest.mark.e2e
SOURCE = """\
description: a test
request: {{url: "https://{name}.example.org/data.csv"}}
format: csv
columns: {{day: {{type: date}}, n: {{type: int}}}}
merge_key: [day]
time_limit: 1m
schedule: {{cron: "{minutes} * * * *", catch_up: latest}}
"""
GOOD = answer(b"day,n\n2026-01-01,1\n")


class Place:
    """A copy of the repository whose sources hang so many times before they are well, a daemon, and a receiver."""

    def __init__(self, root, upstream, receiver, **hangs):
        copied(root)
        # Nobody but the command asks for that one until it has been killed.
        late = ",".join(str((datetime.now(timezone.utc) + timedelta(minutes=n)).minute) for n in (4, 5, 6))
        minutes = {name: late if name == "command" else "*" for name in hangs}
        texts = {name: SOURCE.format(name=name, minutes=minutes[name]) for name in hangs}
        write(root / "mine", {f"benin/{name}.yaml": text for name, text in texts.items()})
        self.root, self.hangs, self.upstream, self.receiver = root, hangs, upstream, receiver
        self.hung = dict.fromkeys(hangs, 0)
        upstream.script.append(self.serve)
        self.more = {
            "REFRESH_UPSTREAM": upstream.base,
            "REFRESH_CATALOG": "mine",
            "REFRESH_WEBHOOK_URL": receiver.url,
            "DAGSTER_HOME": str(root),
        }
        self.log = root / "daemon.log"
        self.instance = instance_of(root)

    def serve(self, handler):
        name = handler.path.split("/")[1].partition(".")[0]
        if self.hangs[name] == 0:
            handler.wfile.write(GOOD)
            return
        self.hangs[name] -= 1
        self.hung[name] += 1
        handler.wfile.write(answer(b"", headers={"Content-Length": "1000"}))
        with_a_pulse(handler, self.upstream.released)

    @contextmanager
    def daemon(self):
        process = daemon_of(self.root, self.log, **self.more)
        try:
            yield
        finally:
            for number in (signal.SIGCONT, signal.SIGKILL):
                os.killpg(process.pid, number)
            process.wait(30)

    def runs(self, name):
        """Return the runs of a source, oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags={"refresh/source": name}))))

    def process_of(self, name, number):
        """Return the process that is at a source's nth request that hangs."""
        if self.hung[name] < number:
            return None
        tasks = {found.task.source: found.pid for found in workers(self.root / "data") if found.task and found.alive}
        return tasks.get(f"benin/{name}")

    def told(self, name):
        """Return what was told of a source, as (event, class)."""
        bodies = [body for body in self.receiver.delivered if body["source"] == name]
        return [(body["event"].removeprefix("incident."), body["error_class"]) for body in bodies]

    def is_over(self, name, error_class):
        """Whether trouble of a class was told and is over, by a run of a later tick."""
        told = self.told(name)
        return [("opened", error_class), ("recovered", error_class)] == [one for one in told if one[1] != "overdue"]


def with_a_pulse(handler, released):
    while not released.wait(1):
        try:
            handler.wfile.write(b"a")
            handler.wfile.flush()
        except OSError:
            return


@pytest.fixture
def place(tmp_path):
    with Receiver() as receiver, Upstream() as upstream:
        place = Place(tmp_path / "place", upstream, receiver, hung=1, killed=2, stopped=1, command=1)
        with place.daemon():
            yield place
        place.instance.dispose()


def test_whatever_is_stuck_ends_is_told_once_and_the_next_tick_is_right(place):
    wait_until(lambda: place.process_of("killed", 1), 120, f"the first run; see {place.log}")
    os.kill(wait_until(lambda: place.process_of("stopped", 1), 150, "the run to suspend"), signal.SIGSTOP)
    a_command_is_killed(place)
    for number in (1, 2):
        pid = wait_until(lambda number=number: place.process_of("killed", number), 180, f"try {number}")
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: place.is_over("hung", "transient"), 180, "the hung one to be over")
    wait_until(lambda: place.is_over("killed", "interrupted"), 180, "what was killed twice to be over")
    wait_until(lambda: place.is_over("command", "interrupted"), 240, "the killed command to be over")
    wait_until(lambda: place.is_over("stopped", "transient"), 180, "what was suspended to be over")
    runs = {name: place.runs(name) for name in place.hangs}
    assert runs["killed"][1].parent_run_id == runs["killed"][0].run_id
    assert not any(run.status is dg.DagsterRunStatus.CANCELED for some in runs.values() for run in some)
    for name, bad in (("hung", 1), ("killed", 2), ("stopped", 1), ("command", 1)):
        failed = [run for run in runs[name] if run.status is dg.DagsterRunStatus.FAILURE]
        assert len(failed) == bad, name
    assert list((place.root / "data/staging").glob("*")) == []


def a_command_is_killed(place):
    process = subprocess.Popen(
        [".venv/bin/refresh", "run", "command"],
        cwd=place.root,
        env=environment(place.root, **place.more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: place.hung["command"], 150, "its request")
    process.kill()
    process.wait()
