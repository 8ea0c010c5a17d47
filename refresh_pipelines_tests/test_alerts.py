"""Alerts on their way: routes, signatures, Slack, order, and what a store of the version before holds."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone

import pytest

from refresh_pipelines.alert_body import slack
from refresh_pipelines.incident import Failure, Good, Rule
from refresh_pipelines.notices import REFUSED, Look, Notices, route_for
from refresh_pipelines.ops import instant_text
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines_tests.catalogues import MINI, errors, load
from refresh_pipelines_tests.dagster_bench import Receiver
from refresh_pipelines_tests.workbench import spec_of

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


class Sender:
    """Notices with a clock that stands still, for two routes."""

    def __init__(self, folder, **environ):
        self.folder, self.environ, self.now = folder, environ, NOW

    @property
    def notices(self):
        return Notices(Settings.load(self.environ, root=self.folder), lambda: self.now)

    def fail(self, run, source="a", route="default", message="it broke"):
        return self.notices.report(Failure(source, run, (), "transient", message, self.now, Rule(route=route)))

    def good(self, source="a", rows=1):
        self.now += MINUTE
        return self.notices.look(Look([(spec_of(source), [Good(None, self.now, rows, "good")])]))


@pytest.fixture
def receivers():
    with ExitStack() as stack:
        yield [stack.enter_context(Receiver()) for _ in range(2)]


@pytest.fixture
def sender(tmp_path, receivers):
    return Sender(tmp_path, REFRESH_WEBHOOK_URL=receivers[0].url, REFRESH_WEBHOOK_DESK=receivers[1].url)


def told(receiver):
    return [(body["event"], body["source"]) for body in receiver.delivered]


def test_a_route_leads_to_its_own_webhook_and_all_others_to_the_common_one(sender, receivers):
    for source, route in zip("abc", ("default", "desk", "unheard_of"), strict=True):
        sender.fail("1", source, route)
    assert sender.notices.deliver() == []
    assert told(receivers[0]) == [("incident.opened", "a"), ("incident.opened", "c")]
    assert told(receivers[1]) == [("incident.opened", "b")]


def test_without_a_common_webhook_only_named_routes_are_told(tmp_path, receivers):
    sender = Sender(tmp_path, REFRESH_WEBHOOK_DESK=receivers[1].url)
    assert [sender.fail("1", "a"), sender.fail("1", "b", "desk")] == [True, True]
    assert sender.notices.waiting() == 1
    assert sender.notices.deliver() == []
    assert told(receivers[1]) == [("incident.opened", "b")]


def test_a_receiver_that_is_down_or_refuses_holds_no_other_route_back(sender, receivers):
    for number, status in enumerate((500, 404)):
        receivers[0].status = status
        sender.fail("1", f"a{number}")
        sender.fail("1", f"b{number}", "desk")
        assert set(sender.notices.deliver()) == {f"the webhook answered HTTP {status}"}
        assert len(receivers[1].delivered) == number + 1


def test_the_route_is_that_of_the_group_the_source_or_the_tenant(tmp_path):
    files = {
        "desk/group.yaml": "alerts: {route: desk}\n",
        "desk/a.yaml": MINI,
        "desk/b.yaml": MINI + "alerts: {route: other}\n",
        "acme/group.yaml": "tenant: Acme Ltd\n",
        "acme/c.yaml": MINI,
        "acme/d.yaml": MINI + "alerts: {route: default}\n",
        "acme/e.yaml": MINI.replace("data.csv", "e.csv") + "tenant: unheard-of\n",
    }
    sources = load(tmp_path / "catalog", files).sources
    settings = Settings.load({"REFRESH_WEBHOOK_ACME_LTD": "http://127.0.0.1:9/x"}, root=tmp_path)
    routes = {name: route_for(spec, settings) for name, spec in sources.items()}
    assert routes == {"a": "desk", "b": "other", "c": "acme_ltd", "d": "default", "e": "default"}


@pytest.mark.parametrize("route", ["url", "secret", "format", "desk_format"])
def test_a_route_that_would_be_another_setting_is_a_problem(tmp_path, route):
    [problem] = errors(load(tmp_path, {"g/a.yaml": MINI + f"alerts: {{route: {route}}}\n"}))
    assert "REFRESH_WEBHOOK_" in problem.message


def test_the_signature_is_that_of_the_bytes_that_were_sent(tmp_path, receivers):
    sender = Sender(tmp_path, REFRESH_WEBHOOK_URL=receivers[0].url, REFRESH_WEBHOOK_SECRET="planted")
    sender.fail("1", message="größer «x»")
    sender.notices.deliver()
    [(_, headers, _)] = receivers[0].received
    expected = hmac.new(b"planted", receivers[0].raw[0], hashlib.sha256).hexdigest()
    assert headers["X-Refresh-Signature"] == f"sha256={expected}"


def test_without_a_secret_nothing_is_signed(sender, receivers):
    sender.fail("1")
    sender.notices.deliver()
    assert "X-Refresh-Signature" not in receivers[0].received[0][1]


def test_what_waited_for_hours_is_delivered_in_order_and_an_ended_incident_behind_its_opening(sender, receivers):
    receivers[0].status = 503
    sender.fail("1", "a")
    sender.fail("1", "b")
    sender.good("a", rows=42)
    for _ in range(3):
        sender.now += timedelta(hours=1)
        assert len(sender.notices.deliver()) == 1
    receivers[0].status = 200
    assert sender.notices.deliver() == []
    assert told(receivers[0]) == [("incident.opened", "a"), ("incident.opened", "b"), ("incident.recovered", "a")]
    assert len({body["event_id"] for _, _, body in receivers[0].received}) == 3
    last = receivers[0].delivered[-1]
    assert (last["rows"], last["duration_seconds"], last["count"]) == (42, 60, 1)
    assert last["message"] == "Recovered after 1m: a (transient); 42 rows caught up."


def test_a_recovery_waits_for_its_refused_opening_and_others_do_not(sender, receivers):
    receivers[0].status = 400
    sender.fail("1", "a")
    sender.notices.deliver()
    receivers[0].status = 200
    sender.good("a")
    sender.fail("1", "b")
    sender.notices.deliver()
    assert told(receivers[0]) == [("incident.opened", "b")]
    sender.now += REFUSED
    sender.notices.deliver()
    assert told(receivers[0])[1:] == [("incident.opened", "a"), ("incident.recovered", "a")]


def test_a_replayed_outbox_repeats_the_ids(sender, receivers):
    sender.fail("1")
    sender.notices.deliver()
    with sqlite3.connect(sender.notices.path) as connection:
        connection.execute("UPDATE outbox SET delivered_at = NULL")
    sender.notices.deliver()
    first, again = receivers[0].delivered
    assert first["event_id"] == again["event_id"]


def test_a_lost_store_generates_the_same_event_under_the_same_id(sender, receivers):
    sender.fail("1")
    sender.notices.deliver()
    sender.notices.path.unlink()
    sender.fail("1")
    sender.notices.deliver()
    first, again = receivers[0].delivered
    assert (first["event_id"], first["incident_id"]) == (again["event_id"], again["incident_id"])


def test_two_senders_do_not_disturb_the_order_of_a_route(sender, receivers):
    for number in range(2):
        sender.fail("1", f"s{number}")
    path = sender.notices.path
    with sqlite3.connect(path) as connection:  # another process is sending the first one
        connection.execute(
            "UPDATE outbox SET claimed_until = ? WHERE source = 's0'", [instant_text(sender.now + MINUTE)]
        )
    assert sender.notices.deliver() == []
    assert receivers[0].received == []
    sender.now += MINUTE
    sender.notices.deliver()
    assert [source for _, source in told(receivers[0])] == ["s0", "s1"]


def test_slack_gets_text_and_blocks_with_the_event_id_in_the_header(tmp_path, receivers):
    sender = Sender(tmp_path, REFRESH_WEBHOOK_DESK=receivers[0].url, REFRESH_WEBHOOK_DESK_FORMAT="slack")
    sender.fail("1", route="desk", message="expected <table> & got nothing")
    sender.notices.deliver()
    [(_, headers, body)] = receivers[0].received
    assert set(body) == {"text", "blocks"}
    assert "expected &lt;table&gt; &amp; got nothing" in body["blocks"][0]["text"]["text"]
    assert headers["X-Refresh-Event-Id"] in json.dumps(body)


def test_a_slack_message_stays_within_what_slack_takes():
    body = {"event": "incident.opened", "source": "a", "error_class": "contract", "partition": "x" * 9000,
            "url": "http://127.0.0.1:3000", "event_id": "1", "message": "<" * 9000}  # fmt: skip
    section, context = slack(body)["blocks"]
    assert len(section["text"]["text"]) <= 3000
    assert len(context["elements"][0]["text"]) <= 3000


def test_the_address_says_whether_it_is_slack_and_a_setting_overrules_it(tmp_path):
    url = "https://hooks.slack.com/services/T0/B0/x"
    assert Settings.load({"REFRESH_WEBHOOK_URL": url}, root=tmp_path).webhook("default").form == "slack"
    environ = {"REFRESH_WEBHOOK_URL": url, "REFRESH_WEBHOOK_FORMAT": "json"}
    assert Settings.load(environ, root=tmp_path).webhook("default").form == "json"
    with pytest.raises(SettingsError, match="REFRESH_WEBHOOK_DESK_FORMAT='yaml': expected json or slack"):
        Settings.load({"REFRESH_WEBHOOK_DESK": url, "REFRESH_WEBHOOK_DESK_FORMAT": "yaml"}, root=tmp_path)


FORMER = """
CREATE TABLE outbox (
    event_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, source TEXT NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, not_before TEXT NOT NULL, delivered_at TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT, UNIQUE (run_id, source));
"""


def test_notices_that_wait_since_the_version_before_are_delivered_under_their_own_id(sender, receivers):
    path = sender.notices.path
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.executescript(FORMER)
        for run, delivered in (("old", instant_text(NOW)), ("waiting", None)):
            body = {"event_id": f"id-{run}", "incident_id": f"in-{run}", "source": "a", "event": "incident.opened"}
            row = (body["event_id"], run, "a", json.dumps(body), instant_text(NOW), instant_text(NOW), delivered)
            connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, 0, NULL)", row)
    assert sender.notices.waiting() == 1
    assert not sender.fail("old")
    assert sender.notices.deliver() == []
    assert [body["event_id"] for body in receivers[0].delivered] == ["id-waiting"]
    sender.notices.deliver()
    assert len(receivers[0].received) == 1


def test_a_forgotten_source_is_told_of_no_more(sender, receivers):
    sender.fail("1")
    sender.notices.forget("a")
    sender.good()
    assert (sender.notices.open(), sender.notices.waiting()) == ([], 0)
    sender.notices.deliver()
    assert receivers[0].received == []


def test_two_hundred_sources_of_one_dead_host_are_one_notice_that_names_them_all(sender, receivers):
    rule = Rule(host="example.org")
    for number in range(200):
        sender.notices.report(Failure(f"s{number:03}", "1", (), "transient", "no answer", sender.now, rule))
        sender.now += timedelta(seconds=1)
    sender.now += timedelta(minutes=5)
    sender.notices.look(Look())
    for number in range(200, 210):
        sender.notices.report(Failure(f"s{number:03}", "1", (), "transient", "no answer", sender.now, rule))
    sender.notices.deliver()
    [body] = receivers[0].delivered
    assert (body["count"], len(body["sources"]), body["host"]) == (200, 200, "example.org")
    sender.now += MINUTE
    goods = [(spec_of(f"s{number:03}"), [Good(None, sender.now, 3, "good")]) for number in range(210)]
    sender.notices.look(Look(goods))
    sender.notices.deliver()
    assert told(receivers[0])[1:] == [("incident.recovered", None)]
    assert receivers[0].delivered[1]["rows"] == 630
