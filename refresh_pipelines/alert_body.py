"""What a receiver reads: the body of a notice, the same as a Slack message, and the signature over its bytes. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from refresh_pipelines.incident import Event, Incident
from refresh_pipelines.redact import redact
from refresh_pipelines.units import format_duration

# As many as a person reads; `sources` of the body has all.
_NAMED = 20
# Slack refuses a section that is longer than 3,000.
_SLACK_TEXT = 2_800
_MARKS = {"incident.opened": ":red_circle:", "incident.reminder": ":large_orange_circle:"}


def body_of(event: Event, now: datetime, ui_port: str) -> dict[str, Any]:
    """Return the body of a notice; `sent_at` and `event_id` are filled in as they are at its first writing.

    A recovery has `duration_seconds` and `rows` beside the fixed fields; a notice for several sources has `host` and
    `sources`, and null in place of the source.
    """
    one = event.incident
    body: dict[str, Any] = {
        "version": 1,
        "event_id": event.id,
        "sent_at": now.isoformat(timespec="seconds"),
        "event": f"incident.{event.kind}",
        "incident_id": one.id,
        "source": one.source or None,
        "partition": one.partition,
        "error_class": one.kind,
        "message": redact(_message(event, now)),
        "run_id": one.run_id or None,
        "opened_at": (one.opened_at or now).isoformat(timespec="seconds"),
        "count": one.count,
        "url": f"http://127.0.0.1:{ui_port}" + (f"/runs/{one.run_id}" if one.run_id else ""),
    }
    if event.kind == "recovered":
        body |= {"duration_seconds": int(_duration(one).total_seconds()), "rows": one.rows}
    if one.grouped:
        body |= {"host": None if one.rule.host == "*" else one.rule.host, "sources": _names(event)}
    return body


def trial_body(event_id: str, now: datetime, route: str, ui_port: str) -> dict[str, Any]:
    """Return a body with which a route is tried: all fixed fields, most of them null."""
    message = f"A test of the route {route}, sent by `refresh alerts test`. Nothing is wrong."
    values = {"version": 1, "event_id": event_id, "sent_at": now.isoformat(timespec="seconds"), "event": "test"}
    nothing = dict.fromkeys(("incident_id", "source", "partition", "error_class"))
    return {
        **values,
        **nothing,
        "message": message,
        "run_id": None,
        "opened_at": None,
        "count": 0,
        "url": f"http://127.0.0.1:{ui_port}",
    }


def encoded(body: Mapping[str, Any], form: str) -> bytes:
    """Return the bytes to send; `form` is json or slack."""
    return json.dumps(slack(body) if form == "slack" else body).encode()


def signature(secret: str, payload: bytes) -> str:
    """Return the value of X-Refresh-Signature: the HMAC-SHA256 of exactly these bytes."""
    return f"sha256={hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()}"


def slack(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body as Slack's incoming webhooks take it: `text` for notifications, `blocks` for the message."""
    where = body.get("source") or body.get("host") or ("several sources" if body.get("sources") else "")
    kind = str(body["event"]).removeprefix("incident.")
    title = " · ".join(filter(None, (f"{_MARKS.get(body['event'], ':large_green_circle:')} {kind}", where)))
    facts = [body["error_class"], body["partition"], f"<{body['url']}|Dagster>", f"event {body['event_id']}"]
    return {
        "text": f"{title}: {_escaped(body['message'])[:300]}",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*\n{_escaped(body['message'])}"}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": " | ".join(_shown(facts))}]},
        ],
    }


def _shown(facts: Sequence[str | None]) -> list[str]:
    return [fact if fact.startswith("<") else _escaped(fact)[:200] for fact in facts if fact]


def _escaped(text: str) -> str:
    short = text if len(text) <= _SLACK_TEXT else f"{text[:_SLACK_TEXT]} …"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")[: _SLACK_TEXT + 100]


def _message(event: Event, now: datetime) -> str:
    one, names = event.incident, _names(event)
    many = f"{len(names)} source{'' if len(names) == 1 else 's'}"
    many += f" of {one.rule.host}" if one.rule.host not in (None, "*") else ""
    if event.kind == "recovered":
        rows = f"{one.rows} row{'' if one.rows == 1 else 's'} caught up"
        what = f"{many} ({_listed(names)})" if one.grouped else f"{one.source} ({one.kind})"
        return f"Recovered after {format_duration(_duration(one))}: {what}; {rows}."
    text = one.message
    if one.grouped:
        first = next(iter(one.message.splitlines()), "")
        text = f"The same trouble ({one.kind}) with {many}: {_listed(names)}. The first: {first}"
    if event.kind == "reminder":
        text = f"Still open after {format_duration(now - one.began_at)}: {text}"
    return text


def _names(event: Event) -> list[str]:
    """Return the sources a notice is about; a reminder is about those that still fail."""
    gone = event.kind == "reminder"
    return sorted({one.source for one in event.members if not (gone and one.recovered_at)})


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _duration(one: Incident) -> timedelta:
    return (one.recovered_at or one.last_at) - one.began_at
