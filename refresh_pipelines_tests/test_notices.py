"""The outbox: one notice for each failure, kept until it is delivered, delivered once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from refresh_pipelines.notices import CLAIM, REFUSED, Failure, Look, Notices
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.dagster_bench import Receiver

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
FIELDS = [
    "version", "event_id", "sent_at", "event", "incident_id", "source", "partition", "error_class", "message",
    "run_id", "opened_at", "count", "url",
]  # fmt: skip


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def clock():
    return Clock()


def outbox(folder, url, clock=lambda: NOW, **environ):
    return Notices(Settings.load({"REFRESH_WEBHOOK_URL": url, **environ}, root=folder), clock)


def failure(run_id="run-1", source="fred_fx", keys=("DEXUSEU", "DEXBZUS"), message="it broke"):
    return Failure(source, run_id, keys, "transient", message)


def test_a_failure_is_posted_with_the_fixed_body_and_header(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url, REFRESH_UI_PORT="3001")
    assert notices.report(failure())
    assert notices.deliver() == []
    [(_, headers, body)] = receiver.received
    assert list(body) == FIELDS
    assert headers["X-Refresh-Event-Id"] == body["event_id"]
    assert headers["Content-Type"] == "application/json"
    assert {name: body[name] for name in FIELDS if name not in ("event_id", "incident_id")} == {
        "version": 1,
        "sent_at": "2026-11-22T12:00:00+00:00",
        "event": "incident.opened",
        "source": "fred_fx",
        "partition": "DEXUSEU, DEXBZUS",
        "error_class": "transient",
        "message": "it broke",
        "run_id": "run-1",
        "opened_at": "2026-11-22T12:00:00+00:00",
        "count": 2,
        "url": "http://127.0.0.1:3001/runs/run-1",
    }


def test_a_source_without_partitions_names_none(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    notices.report(failure(keys=()))
    notices.deliver()
    [body] = receiver.delivered
    assert (body["partition"], body["count"]) == (None, 1)


def test_the_same_failure_reported_twice_is_one_notice(tmp_path, receiver):
    first, second = outbox(tmp_path, receiver.url), outbox(tmp_path, receiver.url)
    assert [first.report(failure()), second.report(failure(message="seen by the sensor"))] == [True, False]
    first.deliver()
    second.deliver()
    assert [body["message"] for body in receiver.delivered] == ["it broke"]


def test_two_sources_of_one_run_are_two_notices(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    notices.report(failure(source="fred_fx"))
    notices.report(failure(source="bsee_ogora"))
    notices.deliver()
    assert [body["source"] for body in receiver.delivered] == ["fred_fx", "bsee_ogora"]


@pytest.mark.parametrize("status", [500, 503, 429, None])
def test_what_the_receiver_could_not_take_is_delivered_later_under_the_same_id(tmp_path, receiver, clock, status):
    notices = outbox(tmp_path, receiver.url, clock)
    notices.report(failure())
    receiver.status = status
    assert len(notices.deliver()) == 1
    assert notices.waiting() == 1
    receiver.status, clock.now = 200, NOW + timedelta(minutes=5)
    assert outbox(tmp_path, receiver.url, clock).deliver() == []
    assert notices.waiting() == 0
    assert len({body["event_id"] for _, _, body in receiver.received}) == 1
    assert receiver.delivered[0]["opened_at"] == "2026-11-22T12:00:00+00:00"
    assert receiver.delivered[0]["sent_at"] == "2026-11-22T12:05:00+00:00"


def test_a_receiver_that_is_down_is_asked_once_and_not_once_a_notice(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    for number in range(3):
        notices.report(failure(run_id=f"run-{number}", source=f"source_{number}"))
    receiver.status = 500
    assert notices.deliver() == ["the webhook answered HTTP 500"]
    assert len(receiver.received) == 1


def test_a_notice_the_receiver_refuses_holds_no_other_one_back_and_is_kept(tmp_path, receiver, clock):
    notices = outbox(tmp_path, receiver.url, clock)
    notices.report(failure(run_id="refused", source="other"))
    receiver.status = 400
    notices.deliver()
    receiver.status = 200
    notices.report(failure(run_id="next"))
    notices.deliver()
    assert [body["run_id"] for body in receiver.delivered] == ["next"]
    clock.now = NOW + REFUSED
    notices.deliver()
    assert [body["run_id"] for body in receiver.delivered] == ["next", "refused"]


def test_a_redirect_is_not_followed(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    notices.report(failure())
    receiver.status = 302
    assert notices.deliver() == ["the webhook answered HTTP 302"]
    assert len(receiver.received) == 1


def test_the_address_of_the_webhook_is_a_secret(tmp_path, receiver):
    notices = outbox(tmp_path, "http://127.0.0.1:9/services/T0/B0/pathsecret")
    notices.report(failure())
    [problem] = notices.deliver()
    assert problem == "the webhook could not be reached: ConnectionError"
    assert "pathsecret" not in (tmp_path / "data/ops.sqlite").read_bytes().decode("latin-1")


def test_oldest_notices_go_first_and_few_at_a_time(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    for number in range(6):
        notices.report(failure(run_id=f"run-{number}", source=f"source_{number}"))
    notices.deliver()
    assert [body["run_id"] for body in receiver.delivered] == ["run-0", "run-1", "run-2", "run-3"]
    notices.deliver()
    assert len(receiver.delivered) == 6


def test_a_notice_whose_sender_died_is_taken_up_after_a_minute(tmp_path, receiver, clock):
    notices = outbox(tmp_path, receiver.url, clock)
    notices.report(failure())
    with sqlite3.connect(tmp_path / "data/ops.sqlite") as connection:
        connection.execute("UPDATE outbox SET not_before = ?", ((NOW + CLAIM).isoformat(timespec="microseconds"),))
    notices.deliver()
    assert receiver.delivered == []
    clock.now = NOW + CLAIM
    notices.deliver()
    assert len(receiver.delivered) == 1


def test_threads_that_deliver_at_once_deliver_once(tmp_path, receiver):
    notices = [outbox(tmp_path, receiver.url) for _ in range(8)]
    for number in range(4):
        notices[0].report(failure(run_id=f"run-{number}", source=f"source_{number}"))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(Notices.deliver, notices)) == [[]] * 8
    assert sorted(body["run_id"] for body in receiver.delivered) == ["run-0", "run-1", "run-2", "run-3"]


def report_and_deliver(folder, url, start):
    start.wait()
    notices = outbox(folder, url)
    notices.report(failure())
    notices.deliver()


def test_processes_that_start_on_an_empty_folder_at_once_tell_once(tmp_path, receiver):
    context = multiprocessing.get_context("fork")
    start = context.Event()
    arguments = (tmp_path, receiver.url, start)
    processes = [context.Process(target=report_and_deliver, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(receiver.delivered) == 1


def test_without_a_webhook_incidents_are_kept_and_what_is_over_goes_untold(tmp_path):
    notices = Notices(Settings.load({}, root=tmp_path))
    assert notices.report(failure())
    assert [one.kind for one in notices.open()] == ["transient"]
    assert notices.deliver() == []
    assert notices.waiting() == 0


def test_an_incident_that_is_open_when_the_webhook_is_set_is_told_then(tmp_path, receiver):
    Notices(Settings.load({}, root=tmp_path), lambda: NOW).report(failure())
    notices = outbox(tmp_path, receiver.url)
    notices.look(Look())
    assert notices.deliver() == []
    assert [body["event"] for body in receiver.delivered] == ["incident.opened"]


def test_credentials_in_a_message_are_masked(tmp_path, receiver):
    notices = outbox(tmp_path, receiver.url)
    notices.report(failure(message="https://host/path?api_key=abcdef failed"))
    notices.deliver()
    assert receiver.delivered[0]["message"] == "https://host/path?api_key=*** failed"
