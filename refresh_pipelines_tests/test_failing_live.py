"""Trouble and recovery with live daemons, an upstream and a webhook's receiver; run by `make e2e`.

Two places at once, since most of the time is waiting for minutes to pass: in one the receiver is dead for the first
half, in the other the daemon is killed at each step and started again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.notices import Notices
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import write
from refresh_pipelines_tests.dagster_bench import Receiver, wait_until
from refresh_pipelines_tests.served import command, copied, daemon_of, instance_of
from refresh_pipelines_tests.upstream import Upstream, answer

pytestmark = pytest.mark.e2e

SECRET = "between us"
ASSET = dg.AssetKey(["benin", "patient"])
SOURCE = """\
description: a source that is refused for a while
request: {url: "https://example.org/data.csv"}
format: csv
columns: {day: {type: date}, n: {type: int}}
merge_key: [day]
schedule: {cron: "* * * * *", catch_up: latest}
retry: {attempts: 1}
breaker: {failures: 5, probe: 1m, probe_max: 2m}
"""


class Asked:
    """What the upstream was asked for, and when; it refuses until it is healed."""

    def __init__(self):
        self.times: list[datetime] = []
        self.healed = False

    def __call__(self, handler):
        self.times.append(datetime.now(timezone.utc))
        handler.wfile.write(answer(b"day,n\n2026-01-01,1\n") if self.healed else answer(b"no", 403))


class Place:
    """A copy of the repository with one source and a daemon."""

    def __init__(self, root, upstream, receiver, asked):
        copied(root)
        write(root / "mine", {"benin/patient.yaml": SOURCE})
        # A run whose launch was killed half-way counts as never started after this long, and only then the next may be.
        settings = root / "dagster.yaml"
        usual = settings.read_text()
        settings.write_text(usual.replace("start_timeout_seconds: 180", "start_timeout_seconds: 60"))
        assert settings.read_text() != usual
        self.root, self.log, self.asked, self.receiver = root, root / "daemon.log", asked, receiver
        self.more = {
            "REFRESH_UPSTREAM": upstream.base,
            "REFRESH_CATALOG": "mine",
            "REFRESH_WEBHOOK_URL": receiver.url,
            "REFRESH_WEBHOOK_SECRET": SECRET,
            "DAGSTER_HOME": str(root),
        }
        self.instance = instance_of(root)
        self.notices = Notices(Settings.load(self.more, root=root))
        self.start()

    def start(self):
        self.process = daemon_of(self.root, self.log, **self.more)

    def kill(self):
        """End the daemon, its code server and its runs as a power cut does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def refresh(self, *args):
        return command(self.root, ".venv/bin/refresh", *args, **self.more)

    def items(self, *args):
        return json.loads(self.refresh(*args, "--json").stdout)["items"]

    def failures(self):
        assert self.process.poll() is None, self.log.read_text()
        return len(self.instance.fetch_observations(ASSET, limit=100).records)

    def skip(self):
        """Return the reason of the newest tick that was skipped because of the breaker."""
        [state] = [one for one in self.instance.all_instigator_state() if one.instigator_name == "patient_schedule"]
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        return next((tick.skip_reason for tick in ticks if "breaker open since" in (tick.skip_reason or "")), None)

    def runs(self, trigger):
        return self.instance.get_runs(dg.RunsFilter(tags={"refresh/source": "patient", "refresh/trigger": trigger}))

    def good(self, trigger):
        return next((run for run in self.runs(trigger) if run.is_success), None)

    def at_rest(self):
        return not any(not run.is_finished for run in self.instance.get_runs(limit=20))

    def told(self):
        """Return the notices that were taken, each id once, in the order in which they came first."""
        return list({body["event_id"]: body for body in self.receiver.delivered}.values())


def live_through(place, *, between, halfway):
    """Have the source fail five times, be left alone, be probed and be well again.

    Args:
        between: called between two steps.
        halfway: called when the upstream is healed.
    """
    wait_until(lambda: place.failures() and place.at_rest(), 180, "the first failure")
    between()
    while place.failures() < 4:  # ticks go on meanwhile
        assert place.refresh("run", "patient").returncode == 1
    between()
    wait_until(lambda: place.failures() >= 5, 300, "the fifth failure")
    wait_until(place.at_rest, 240, "the run of the fifth failure to end")
    between()
    reason = wait_until(place.skip, 180, "a tick that the breaker holds back")
    before = len(place.asked.times)
    assert before >= 5
    assert f"after {before} failures in a row (permanent: " in reason
    place.asked.healed = True
    halfway()
    between()
    probe = wait_until(lambda: place.good("probe"), 240, "a good probe")
    wait_until(place.at_rest, 240, "what goes on after the probe")
    between()
    wait_until(lambda: [one["event"] for one in place.told()][-1:] == ["incident.recovered"], 120, "the recovery")
    wait_until(lambda: len(place.runs("schedule")) > 2 and place.at_rest(), 180, "the tick after it")
    # The open breaker, of which nobody was told beside the failures, goes with the sensor's next look.
    wait_until(lambda: not place.notices.open(), 120, "the last incident to end")
    return probe, before


@contextmanager
def placed(root):
    """Make a place with its upstream and its receiver."""
    asked = Asked()
    with Upstream(asked) as upstream, Receiver() as receiver:
        place = Place(root, upstream, receiver, asked)
        try:
            yield place
        finally:
            place.kill()
            place.instance.dispose()


def lived(place, *, killed):
    """Live through it in a place, and return the place with what is to be looked at."""

    def again():
        place.kill()
        place.start()

    receiver = place.receiver
    receiver.status = 200 if killed else None
    probe, before = live_through(
        place, between=again if killed else lambda: None, halfway=lambda: setattr(receiver, "status", 200)
    )
    place.kill()
    return place, probe, before, _states(place)


def _states(place):
    """Return the source's state as the command says it, and as the file had it when the daemon was killed."""
    file = json.loads((place.root / "data/status.json").read_text())
    [written] = [item for item in file["sources"] if item["source"] == "patient"]
    [shown] = place.items("status", "patient")
    return shown, written, place.items("alerts", "list", "--limit", "100")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What became of the two places, lived through at the same time."""
    root = tmp_path_factory.mktemp("live")
    # Made one after the other: an instance takes its folders from the folder that the process is in.
    with placed(root / "dead") as dead, placed(root / "killed") as killed, ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(lived, dead, killed=False), pool.submit(lived, killed, killed=True)]
        yield dict(zip(("dead", "killed"), [future.result() for future in futures], strict=True))


@pytest.fixture(params=["dead", "killed"])
def story(both, request):
    return both[request.param]


def test_trouble_is_told_once_and_its_end_once_whoever_was_dead_meanwhile(story):
    place, _, before, _ = story
    opened, recovered = place.told()
    assert [one["event"] for one in (opened, recovered)] == ["incident.opened", "incident.recovered"]
    assert opened["incident_id"] == recovered["incident_id"]
    assert (opened["source"], opened["error_class"]) == ("patient", "permanent")
    assert (recovered["count"], recovered["rows"]) == (before, 1)
    for (_, headers, body), raw in zip(place.receiver.received, place.receiver.raw, strict=True):
        expected = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        assert headers["X-Refresh-Signature"] == f"sha256={expected}"
        assert headers["X-Refresh-Event-Id"] == body["event_id"]
    ids = {(body["incident_id"], body["event"]): set() for _, _, body in place.receiver.received}
    for _, _, body in place.receiver.received:
        ids[body["incident_id"], body["event"]].add(body["event_id"])
    assert {len(found) for found in ids.values()} == {1}


def test_an_open_breaker_lets_no_request_leave_until_the_probe(story):
    place, probe, before, _ = story
    last, next_one = place.asked.times[before - 1 : before + 1]
    assert next_one - last >= timedelta(minutes=1)
    assert probe.tags["refresh/probe"] == "1"
    assert probe.run_id == place.instance.get_runs(dg.RunsFilter(updated_after=next_one))[-1].run_id


def test_afterwards_status_and_status_file_agree_that_all_is_well(story):
    *_, (shown, written, alerts) = story
    assert (shown["breaker"], shown["consecutive_failures"], shown["incident"]) == ("closed", 0, None)
    assert 0 < shown["score"] < 1
    assert {
        name: written[name] for name in ("score", "breaker", "incident", "last_outcome", "consecutive_failures")
    } == {name: shown[name] for name in ("score", "breaker", "incident", "last_outcome", "consecutive_failures")}
    assert [item["item"] for item in alerts] == ["notice", "notice"]
    assert all(item["state"].startswith("delivered") for item in alerts)
