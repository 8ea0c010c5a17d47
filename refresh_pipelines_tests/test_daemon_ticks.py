"""Real daemons with a schedule of every minute, one killed and one suspended across due ticks; run by `make e2e`.

Both at once, each with a history of its own: most of the time is waiting for minutes to pass.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import wait_until
from refresh_pipelines_tests.served import command, copied, daemon_of, instance_of

pytestmark = pytest.mark.e2e
MINUTE = timedelta(minutes=1)


class Ticking:
    """A copy of the repository with one source that is due each minute, and a daemon in a session of its own."""

    def __init__(self, root, sandbox):
        copied(root)
        source = (root / "refresh_pipelines/catalog/worldenergy/sodir_facilities.yaml").read_text()
        start = source.index("schedule:")
        end = source.index("\n", start)
        text = source[:start] + 'schedule: {cron: "* * * * *", catch_up: latest}\ntable: ticking' + source[end:]
        write(root / "mine", {"worldenergy/ticking.yaml": text})
        self.root, self.log = root, root / "daemon.log"
        self.more = {"REFRESH_UPSTREAM": sandbox.base, "REFRESH_CATALOG": "mine", "DAGSTER_HOME": str(root)}
        self.instance = instance_of(root)

    def start(self):
        self.process = daemon_of(self.root, self.log, **self.more)

    def signal(self, number):
        """Send a signal to the daemon, its code server and its runs: all that a machine takes with it."""
        os.killpg(self.process.pid, number)

    def runs(self):
        assert self.process.poll() is None, self.log.read_text()
        return self.instance.get_runs(dg.RunsFilter(tags={"refresh/source": "ticking"}))

    def at_rest(self):
        """Whether a run has ended, none is under way, and none is about to be for some time."""
        runs = self.runs()
        return runs and all(run.is_finished for run in runs) and 5 < datetime.now(timezone.utc).second < 45

    def run_for_more_than(self, ticks):
        """Return the first run that stands for so many ticks and has ended well.

        Where its launch failed, because a code server had ended while it was suspended, that is Dagster's second try.
        """
        found = [run for run in self.runs() if int(run.tags.get("refresh/coalesced", "1")) >= ticks]
        return next((run for run in found if run.is_success), None)

    def gaps(self):
        done = command(self.root, ".venv/bin/refresh", "gaps", "ticking", "--json", **self.more)
        return json.loads(done.stdout)["items"]


@pytest.fixture
def ticking(tmp_path):
    """Return a function that makes a place with a daemon, all of which end with the test."""
    made = []
    with Sandbox(SAMPLES) as sandbox:

        def make(name):
            made.append(Ticking(tmp_path / name, sandbox))
            made[-1].start()
            return made[-1]

        yield make
        for one in made:
            for number in (signal.SIGCONT, signal.SIGKILL):
                try:
                    one.signal(number)
                except ProcessLookupError:
                    break
            one.process.wait(30)
            one.instance.dispose()


def passed(until):
    return lambda: datetime.now(timezone.utc) >= until


def test_killed_and_suspended_daemons_leave_no_tick_unexplained(ticking):
    killed, suspended = ticking("killed"), ticking("suspended")
    # A run that is broken off holds later ones up until it is told dead, which is another test's.
    wait_until(lambda: killed.at_rest() and suspended.at_rest(), 400, "the first runs to end")
    killed.signal(signal.SIGKILL)
    suspended.signal(signal.SIGSTOP)
    killed.process.wait(30)

    away = datetime.now(timezone.utc)
    back = away.replace(second=5, microsecond=0) + 3 * MINUTE
    wait_until(passed(back), 240, "two ticks to be missed, or three")
    killed.start()
    suspended.signal(signal.SIGCONT)
    for one in (killed, suspended):
        wait_until(lambda one=one: one.run_for_more_than(2), 480, "a run for several ticks")
        everything_is_explained(one, away, back)


def everything_is_explained(one, away, back):
    first_tries = [run for run in one.runs() if run.parent_run_id is None]
    run_keys = Counter(run.tags["dagster/run_key"] for run in first_tries)
    assert set(run_keys.values()) == {1}
    items = one.gaps()
    ticks = [datetime.fromisoformat(item["tick"].replace("Z", "+00:00")) for item in items if item["tick"]]
    due = [away.replace(second=0, microsecond=0) + n * MINUTE for n in range(1, 4)]
    assert {at for at in due if at <= back} <= set(ticks)
    verdicts = Counter(item["verdict"] for item in items)
    assert set(verdicts) <= {"run", "skipped", "coalesced", "pending", "expired", "gap", "made_up"}, verdicts
    assert verdicts["run"] >= 2, items
    assert verdicts["coalesced"] >= 1, items
    assert verdicts["gap"] == 0, items
    assert len(ticks) == len(set(ticks))
    assert all(later - earlier == MINUTE for earlier, later in zip(sorted(ticks), sorted(ticks)[1:], strict=False))
