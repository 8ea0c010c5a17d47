"""Changes of the catalogue and pauses while everything is up, with the daemon's own ticks; run by `make e2e`."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone

import pytest

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.catalogues import MINI, write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.served import Served, command, copied

pytestmark = pytest.mark.e2e

MINUTELY = MINI.replace("{frequency: daily}", '{cron: "* * * * *"}')
# The promise, in seconds, to a machine that has the time for it.
LIVE = 15
TICK = 150

LOCATION = """{repositoriesOrError {... on RepositoryConnection {nodes {
    assetNodes {assetKey {path} description tags {key value}} schedules {name scheduleState {status}}}}}}"""
TICKS = """query ($name: String!) {scheduleOrError(scheduleSelector: {scheduleName: $name,
    repositoryLocationName: "refresh_pipelines", repositoryName: "__repository__"}) {
    ... on Schedule {scheduleState {ticks(limit: 50) {timestamp status}}}}}"""


def promised():
    """Return the promise in seconds, stretched where more wants to run than there are processors."""
    return LIVE * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Live:
    """What webserver and daemon have of the sources in `mine`."""

    def __init__(self, root, served):
        self.root, self.served = root, served

    def write(self, name, text):
        write(self.root / "mine", {f"benin/{name}.yaml": text})

    def asset(self, name):
        [node] = self.served.ask(LOCATION)["repositoriesOrError"]["nodes"]
        return next((each for each in node["assetNodes"] if each["assetKey"]["path"] == ["benin", name]), None)

    def shows(self, name, text):
        """Wait, as long as is promised, until the description of a source holds the text."""

        def found():
            asset = self.asset(name)
            return asset and text in asset["description"]

        wait_until(found, promised(), f"{name} to show {text!r}; see {self.served.log}")

    def state(self, name):
        [node] = self.served.ask(LOCATION)["repositoriesOrError"]["nodes"]
        states = {each["name"]: each["scheduleState"]["status"] for each in node["schedules"]}
        return states.get(f"{name}_schedule")

    def ticks(self, name):
        """Return the due times of the ticks that requested runs, newest first."""
        found = self.served.ask(TICKS, name=f"{name}_schedule")["scheduleOrError"]["scheduleState"]["ticks"]
        return [tick["timestamp"] for tick in found if tick["status"] == "SUCCESS"]

    def ticks_again(self, name):
        """Wait until a tick that is due from now on has requested a run; return when it was due."""
        now = datetime.now(timezone.utc).timestamp()

        def newest():
            ticks = self.ticks(name)
            return ticks[0] if ticks and ticks[0] > now else None

        due = wait_until(newest, TICK, f"the next tick of {name}; see {self.served.log}")
        wait_until(lambda: self.served.scheduled(f"{name}_schedule"), TICK, "its run to end")
        return due

    def command(self, *args):
        done = command(self.root, ".venv/bin/refresh", *args, REFRESH_CATALOG="mine")
        assert "Traceback" not in done.stderr
        return done


def test_a_change_is_live_in_time_a_broken_one_runs_on_and_a_pause_holds(tmp_path):
    root, log = copied(tmp_path / "a copy"), tmp_path / "up.log"
    write(root / "mine", {"benin/steady.yaml": MINUTELY})
    with Sandbox(SAMPLES) as sandbox:
        sandbox.override("/example.org/data.csv", b"day,value\n2026-01-01,1\n")
        with Served(root, sandbox, log, REFRESH_CATALOG="mine") as served:
            live = Live(root, served)
            live.write("fresh", MINUTELY)
            live.shows("fresh", "a test")
            live.ticks_again("fresh")

            a_broken_file_runs_on_and_says_so(live, log)
            a_pause_by_the_command_holds_until_it_is_ended(live)

            live.write("fresh", MINUTELY.replace("a test", "mended"))
            live.shows("fresh", "mended")
            assert "problems" not in live.asset("fresh")["description"]
            (root / "mine/benin/fresh.yaml").unlink()
            wait_until(lambda: live.asset("fresh") is None, promised(), "the deleted source to go")
            assert served.stop() == []
    assert "Traceback" not in log.read_text()


def a_broken_file_runs_on_and_says_so(live, log):
    live.write("fresh", MINUTELY + "ownr: me\n")
    live.shows("fresh", "it runs on its last good version")
    assert {"key": "refresh/stale_yaml", "value": "last_good"} in live.asset("fresh")["tags"]
    assert "benin/fresh.yaml:9:1: unknown key ownr (did you mean owner?)" in log.read_text()
    done = live.command("status", "fresh", "--json")
    [item] = json.loads(done.stdout)["items"]
    assert (done.returncode, bool(item["stale_yaml"])) == (1, True)


def a_pause_by_the_command_holds_until_it_is_ended(live):
    assert "benin/fresh paused" in live.command("pause", "fresh", "--reason", "a test").stdout
    assert live.state("fresh") == "STOPPED"
    paused_at = datetime.now(timezone.utc).timestamp()
    live.ticks_again("steady")
    assert not [due for due in live.ticks("fresh") if due > paused_at]
    assert "benin/fresh resumed" in live.command("resume", "fresh").stdout
    assert live.state("fresh") == "RUNNING"
    due = live.ticks_again("fresh")  # on its last good version: its file is broken still
    assert [each for each in live.ticks("fresh") if each > paused_at] == [due]
