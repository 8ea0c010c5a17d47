"""A day of trouble in seconds: Dagster's own scheduler and sensor daemon at its hours, an upstream and a receiver."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from refresh_pipelines_tests.dagster_bench import Receiver
from refresh_pipelines_tests.knocking import GOOD, REFUSED, Knocking
from refresh_pipelines_tests.upstream import Upstream

# Chains of whole runs, one after the other: too long beside the others.
pytestmark = pytest.mark.e2e

SECRET = "between us"
AGREED = ("last_outcome", "breaker", "consecutive_failures", "score", "incident", "next_probe_at", "last_success_at")


def on(time):
    return f"2026-11-22T{time}"


class Day:
    """One source that is due every hour, and what a receiver hears of it."""

    def __init__(self, knocking, receiver, restarted):
        self.knocking, self.receiver, self.restarted = knocking, receiver, restarted
        knocking.tick(on("05:05"))
        self.pass_by("05:05")

    def pass_by(self, time):
        """Let the sensors look; where the daemon is killed at each step, by a process that knows nothing yet."""
        if self.restarted:
            self.knocking.start_daemon()
        return self.knocking.sense(on(time))

    def hour(self, hour):
        """Let an hour's tick and the looks after it pass; return the triggers of what was refreshed."""
        done = []
        wanted = [*self.knocking.tick(on(f"{hour:02}:00:01")), *self.pass_by(f"{hour:02}:01:10")]
        for minute in (2, 4, 6):
            for run in wanted:
                self.knocking.run(run, on(f"{hour:02}:{minute:02}"))
                done.append(run.tags["refresh/trigger"])
            wanted = self.pass_by(f"{hour:02}:{minute + 1:02}:20")
        assert wanted == []
        return done

    def told(self):
        bodies = [body for status, _, body in self.receiver.received if status == 200]
        return [(body["event"], body["error_class"], body["count"]) for body in bodies]

    def state(self, time):
        """Return the source's item of `refresh status SOURCE --json` and that of status.json."""
        result = self.knocking.refresh(on(time), "status", "a", "--json")
        [shown] = json.loads(result.stdout)["items"]
        file = json.loads((self.knocking.home.folder / "data/status.json").read_text())
        [written] = [item for item in file["sources"] if item["source"] == "a"]
        return shown, {name: written[name] for name in AGREED}


@pytest.fixture(params=["plain", "receiver dead until noon", "daemon killed at each step"])
def day(request, tmp_path, empty_history):
    with Upstream(REFUSED) as upstream, Receiver() as receiver:
        receiver.status = 503 if "dead" in request.param else 200
        environ = {"REFRESH_WEBHOOK_URL": receiver.url, "REFRESH_WEBHOOK_SECRET": SECRET}
        with Knocking(tmp_path, empty_history, upstream, all_sensors=True, **environ) as knocking:
            yield Day(knocking, receiver, "killed" in request.param)


def test_five_failures_are_told_once_left_alone_probed_and_well_again(day):
    upstream, alive = day.knocking.upstream, day.receiver.status == 200
    for hour in range(6, 11):
        assert day.hour(hour) == ["schedule"]
    opened = ("incident.opened", "permanent", 1)
    assert len(upstream.seen) == 5
    assert day.told() == ([opened] if alive else [])
    # The breaker is open: no request leaves but that of a probe, which fails.
    assert day.hour(11) == ["probe"]
    assert len(upstream.seen) == 6
    assert day.hour(12) == []
    reasons = [reason for status, reason in day.knocking.ticks("a_schedule") if status == "SKIPPED"]
    assert all(
        "breaker open since 2026-11-22 10:02 UTC after 5 failures in a row (permanent" in one for one in reasons[:1]
    )
    assert len(reasons) >= 2
    assert len(upstream.seen) == 6
    shown, written = day.state("12:30")
    assert (shown["breaker"], shown["incident"]) == ("half_open", "permanent")
    assert {name: shown[name] for name in AGREED} == written
    # Healed, and the receiver is back.
    upstream.script[:] = [GOOD]
    day.receiver.status = 200
    assert day.hour(13) == ["probe"]
    assert len(upstream.seen) == 7
    recovered = ("incident.recovered", "permanent", 6)
    assert day.told() == [opened, recovered]
    assert day.hour(14) == ["schedule"]
    shown, written = day.state("14:30")
    assert (shown["breaker"], shown["consecutive_failures"], shown["incident"]) == ("closed", 0, None)
    assert 0 < shown["score"] < 1
    assert {name: shown[name] for name in AGREED} == written
    each_event_has_one_id_and_is_signed(day.receiver)


def each_event_has_one_id_and_is_signed(receiver):
    ids: dict[tuple[str, str], set[str]] = {}
    for (_, headers, body), raw in zip(receiver.received, receiver.raw, strict=True):
        digest = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        assert headers["X-Refresh-Signature"] == f"sha256={digest}"
        assert headers["X-Refresh-Event-Id"] == body["event_id"]
        ids.setdefault((body["incident_id"], body["event"]), set()).add(body["event_id"])
    assert [len(found) for found in ids.values()] == [1, 1]
