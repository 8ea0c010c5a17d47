"""`refresh alerts`: whether the webhooks work, and what has been told, is open, or waits. Needs no Dagster."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from refresh_pipelines.alert_body import trial_body
from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.clock import utc_now
from refresh_pipelines.deliver import new_session, post
from refresh_pipelines.incident import Incident
from refresh_pipelines.notices import Notices
from refresh_pipelines.ops import telling
from refresh_pipelines.outbox import Notice
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings, Webhook

_TRIED = ("ROUTE", "RECEIVER", "FORMAT", "SIGNED", "ANSWER")
_OPEN = ("SINCE", "SOURCE", "CLASS", "COUNT", "ROUTE", "STATE", "MESSAGE")
_NOTICES = ("WRITTEN", "EVENT", "SOURCE", "CLASS", "ROUTE", "STATE", "ID")
_NOBODY = "Nobody is told: REFRESH_WEBHOOK_URL is not set."


@click.group()
def alerts() -> None:
    """Try the webhooks, and see what is open, told or waiting."""


@alerts.command("test")
@click.option("--route", metavar="ROUTE", help="Only this route: `desk` is REFRESH_WEBHOOK_DESK.")
@json_option
def test_routes(route: str | None, as_json: bool) -> None:
    """Send one test to each route and say what the receiver answered.

    A route without a webhook of its own goes to REFRESH_WEBHOOK_URL, as its alerts do. Exit code 1 if a receiver did
    not take it, or if there is none.
    """
    settings = load_settings()
    items = [_try(settings, name) for name in ([route] if route else settings.routes) if settings.webhook(name)]
    ok = bool(items) and all(item["ok"] for item in items)
    if as_json:
        print_json(items, ok)
    elif not items:
        click.echo(_NOBODY)
    else:
        rows = [tuple(item[name] for name in ("route", "receiver", "format", "signed", "answer")) for item in items]
        print_table(_TRIED, [(*row[:3], "yes" if row[3] else "no", row[4]) for row in rows])
    sys.exit(0 if ok else 1)


@alerts.command("list")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(0, 1_000), help="Delivered notices.")
@json_option
def list_alerts(limit: int, as_json: bool) -> None:
    """Show open incidents, the last notices, and those that wait and why. Times are UTC."""
    settings = load_settings()
    with _told(settings) as notices:
        incidents, written = notices.open(), notices.newest(limit)
    now, waiting = utc_now(), {one.incident_id for one in written if not one.delivered_at}
    opened = [_incident(one, settings, waiting, now) for one in incidents]
    if as_json:
        items = opened + [_notice(one, settings, now) for one in written]
        print_json(items, ok=True)
        return
    if not settings.routes:
        click.echo(f"{_NOBODY}\n")
    print_table(_OPEN, [tuple(one[name.lower()] for name in _OPEN) for one in opened])
    click.echo()
    rows = [_notice(one, settings, now) for one in written]
    print_table(_NOTICES, [tuple(row[name.lower()] for name in _NOTICES) for row in rows])


def _try(settings: Settings, route: str) -> dict[str, Any]:
    """Post a test to a route, past the outbox: what waits there is not a matter of this one."""
    hook = settings.webhook(route) or Webhook("")
    port = settings.environ.get("REFRESH_UI_PORT") or "3000"
    body = trial_body(str(uuid.uuid4()), utc_now(), route, port)
    answer = post(new_session(), settings, hook, body, listen=True)
    said = answer.problem or f"HTTP {answer.status}"
    return {
        "route": route,
        "receiver": hook.host,
        "format": hook.form,
        "signed": bool(settings.webhook_secret),
        "event_id": body["event_id"],
        "status": answer.status,
        "ok": answer.problem is None,
        "answer": redact(f"{said}: {answer.said}" if answer.said else said, _secrets(settings)),
    }


def _secrets(settings: Settings) -> list[str]:
    """Return what a receiver that repeats its request could show."""
    urls = [hook.url for route in settings.routes if (hook := settings.webhook(route))]
    return [*urls, *([settings.webhook_secret] if settings.webhook_secret else [])]


@contextmanager
def _told(settings: Settings) -> Iterator[Notices]:
    notices = Notices(settings)
    with telling(notices.path, "the store of incidents and notices"):
        yield notices


def _incident(one: Incident, settings: Settings, waiting: Collection[str], now: datetime) -> dict[str, Any]:
    return {
        "item": "incident",
        "incident_id": one.id,
        "since": _minute(one.began_at),
        "source": one.source or (f"several of {one.rule.host}" if one.rule.host != "*" else "several"),
        "class": one.kind,
        "count": one.count,
        "route": one.rule.route,
        "state": _state(one, settings, waiting, now),
        "partition": one.partition,
        "message": one.message,
    }


def _state(one: Incident, settings: Settings, waiting: Collection[str], now: datetime) -> str:
    if (one.group or one.id) in waiting:
        return "its notice waits"
    if one.group:
        return "told with others"
    if one.told_at:
        return f"told, reminded {one.reminders} times" if one.reminders else "told"
    return f"{'waits' if _will_be_told(one, settings) else 'not told'}{_why_untold(one, settings, now)}"


def _will_be_told(one: Incident, settings: Settings) -> bool:
    return not one.silent and one.opened_at is not None and settings.webhook(one.rule.route) is not None


def _why_untold(one: Incident, settings: Settings, now: datetime) -> str:
    if one.silent:
        return ": older than the first start"
    if one.opened_at is None:
        behind = ": another incident of the source is open"
        return behind if one.standing else f": {one.failures} of alerts.after {one.rule.after}"
    if settings.webhook(one.rule.route) is None:
        return ": its route has no webhook"
    seconds = max(0, int(((one.hold_until or now) - now).total_seconds()))
    return f" {seconds} s for others of {one.rule.host}"


def _notice(one: Notice, settings: Settings, now: datetime) -> dict[str, Any]:
    body: Mapping[str, Any] = json.loads(one.body)
    return {
        "item": "notice",
        "id": one.event_id,
        "incident_id": one.incident_id,
        "written": _minute(datetime.fromisoformat(one.created_at)),
        "event": body["event"],
        "source": one.source or f"{body['count']} sources",
        "class": body["error_class"],
        "route": one.route,
        "state": _fate(one, settings, now),
        "attempts": one.attempts,
        "message": body["message"],
    }


def _fate(one: Notice, settings: Settings, now: datetime) -> str:
    if one.delivered_at:
        return f"delivered {_minute(datetime.fromisoformat(one.delivered_at))}"
    if settings.webhook(one.route) is None:
        return "waits: its route has no webhook"
    why = one.last_error or "not tried yet"
    later = datetime.fromisoformat(one.not_before)
    return f"waits until {_minute(later)}: {why}" if later > now else f"waits: {why}"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
