"""`refresh alerts`: a test to every route, and what is open, told or waiting and why."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from refresh_pipelines.clock import utc_now
from refresh_pipelines.incident import Failure, Rule
from refresh_pipelines.notices import Notices
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.dagster_bench import Receiver


@pytest.fixture
def receivers():
    with ExitStack() as stack:
        yield [stack.enter_context(Receiver()) for _ in range(2)]


@pytest.fixture
def routed(home, receivers):
    home.environ |= {"REFRESH_WEBHOOK_URL": receivers[0].url, "REFRESH_WEBHOOK_DESK": receivers[1].url}
    return home


def fail(home, run="1", source="fred_fx", rule=None):
    notices = Notices(Settings.load(home.environ, root=home.folder))
    notices.report(Failure(source, run, (), "transient", "it broke", utc_now(), rule or Rule()))
    return notices


def test_each_route_gets_one_test_with_all_fields_and_the_answer_is_said(routed, receivers):
    routed.environ["REFRESH_WEBHOOK_SECRET"] = "planted"
    receivers[1].status = 404
    result = routed.refresh("alerts", "test")
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["default", "127.0.0.1", "json", "yes", "HTTP", "200"]
    assert lines[2][:4] == ["desk", "127.0.0.1", "json", "yes"]
    assert "the webhook answered HTTP 404" in result.stdout
    assert "pathsecret" not in result.stdout
    for receiver in receivers:
        [(_, headers, body)] = receiver.received
        assert body["event"] == "test"
        assert headers["X-Refresh-Event-Id"] == body["event_id"]
        assert headers["X-Refresh-Signature"].startswith("sha256=")


def test_one_route_is_tried_alone_and_one_without_a_webhook_goes_where_its_alerts_go(routed, receivers):
    assert routed.refresh("alerts", "test", "--route", "desk").exit_code == 0
    assert [len(receiver.received) for receiver in receivers] == [0, 1]
    assert routed.refresh("alerts", "test", "--route", "unheard_of").exit_code == 0
    assert [len(receiver.received) for receiver in receivers] == [1, 1]


def test_without_a_webhook_the_test_says_that_nobody_is_told(home):
    result = home.refresh("alerts", "test")
    assert (result.exit_code, result.stdout) == (1, "Nobody is told: REFRESH_WEBHOOK_URL is not set.\n")
    assert home.refresh("alerts", "list").exit_code == 0


def test_the_list_shows_what_is_open_told_and_waiting_and_why(routed, receivers):
    fail(routed).deliver()
    receivers[0].status = 400
    fail(routed, source="bsee_ogora").deliver()
    fail(routed, source="early", rule=Rule(after=3))
    fail(routed, source="held", rule=Rule(host="example.org"))
    text = routed.refresh("alerts", "list").stdout
    assert "waits until" in text
    assert "the webhook answered HTTP 400" in text
    items = routed.items("alerts", "list")
    incidents = {item["source"]: item["state"] for item in items if item["item"] == "incident"}
    assert incidents["fred_fx"] == "told"
    assert incidents["early"] == "not told: 1 of alerts.after 3"
    assert incidents["held"].endswith("s for others of example.org")
    notices = [(item["source"], item["state"].split()[0]) for item in items if item["item"] == "notice"]
    assert notices == [("bsee_ogora", "waits"), ("fred_fx", "delivered")]


def test_a_store_that_is_no_database_is_one_message(routed):
    (routed.folder / "data/ops.sqlite").write_bytes(b"no database" * 100)
    result = routed.refresh("alerts", "list")
    assert result.exit_code == 1
    assert "the store of incidents and notices cannot be used" in result.stderr


def test_a_command_that_ends_leaves_no_notice_waiting_for_other_sources(routed, receivers):
    for name in ("x", "y", "z"):
        text = 'description: a test\nrequest: {url: "https://example.org/x.csv"}\nformat: csv\n'
        text += "columns: {day: {type: date}}\nmerge_key: [day]\nschedule: {frequency: daily}\n"
        routed.add({f"benin/{name}.yaml": text + "retry: {attempts: 1}\n"})
    routed.sandbox.override("/example.org/x.csv", b"no", status=403)
    began = utc_now()
    assert routed.refresh("run", "x", "y", "z", "--json").exit_code == 1
    assert utc_now() - began < timedelta(minutes=1)
    [body] = receivers[0].delivered
    assert (body["event"], body["sources"]) == ("incident.opened", ["x", "y", "z"])
