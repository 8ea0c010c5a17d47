"""Every event of the log: its name, how loud it is, and its own fields. `docs/logs.md` is the same table for people."""

from __future__ import annotations

from typing import NamedTuple

from refresh_pipelines.settings import LogLevel as Level

LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# What any line may have, in this order; a field without a value is left out.
BASE = ("time", "level", "event", "message", "source", "group", "partition", "run_id", "trigger", "pid", "traceback")
_COUNTS = ("fetched", "added", "updated", "unchanged", "deleted", "rejected", "duplicates", "filtered")
_SECONDS = ("seconds", "seconds_fetch", "seconds_parse", "seconds_load", "seconds_wait")
_INCIDENT = ("incident_id", "event_id", "error_class", "count", "route")


class Kind(NamedTuple):
    """One kind of event; `levels` has more than one where what happened decides."""

    levels: tuple[Level, ...]
    fields: tuple[str, ...] = ()


EVENTS: dict[str, Kind] = {
    "refresh.started": Kind(("info",), ("attempt", "partitions")),
    "refresh.ended": Kind(
        ("info", "warning", "error"), ("outcome", "error_class", *_COUNTS, "bytes", "sha256", *_SECONDS, "attempt")
    ),
    "refresh.retried": Kind(("warning",), ("error_class", "attempt", "attempts")),
    "refresh.divided": Kind(("warning",), ("error_class", "partitions")),
    "refresh.recovered": Kind(("warning",), ("lost_run_id",)),
    "validators.distrusted": Kind(("warning",), ("validator",)),
    "validators.trusted": Kind(("info",), ("validator",)),
    "validators.restless": Kind(("info",), ("validator",)),
    "quarantine.accepted": Kind(("info", "warning"), ("quarantine", "user", "outcome")),
    "quarantine.rejected": Kind(("info",), ("quarantine", "user")),
    "tick.requested": Kind(("info",), ("by", "due_at", "run_key")),
    "tick.skipped": Kind(("info", "debug"), ("by", "due_at", "reason")),
    "drop.found": Kind(("info",), ("files", "days")),
    "breaker.opened": Kind(("warning",), ("failures", "since", "probe_at", "error_class")),
    "breaker.probe_requested": Kind(("info",), ("by", "probe", "run_key")),
    "breaker.closed": Kind(("info",)),
    "breaker.reset": Kind(("info",), ("failures", "user")),
    "run.expired": Kind(("warning",), ("due_at",)),
    "run.broke_off": Kind(("error",)),
    "run.not_started": Kind(("error",)),
    "incident.opened": Kind(("warning",), _INCIDENT),
    "incident.reminder": Kind(("warning",), _INCIDENT),
    "incident.recovered": Kind(("info",), (*_INCIDENT, "seconds", "rows")),
    "notice.delivered": Kind(("info",), ("event_id", "incident_id", "notice", "route", "http_status")),
    "notice.waiting": Kind(("warning",), ("event_id", "incident_id", "notice", "route", "http_status")),
    "notice.nobody": Kind(("warning",), ("route",)),
    "warehouse.waited": Kind(("info", "warning"), ("lock", "owner", "seconds")),
    "catalogue.broken": Kind(("error",), ("file", "line")),
    "catalogue.reloaded": Kind(("info",), ("problems",)),
    "catalogue.not_reloaded": Kind(("warning",), ("again",)),
    "retention.ended": Kind(
        ("info",), ("runs", "rows", "bytes", "orphans", "staging", "locks", "payloads", "oldest", "finished")
    ),
    "log": Kind(("info", "debug", "warning", "error"), ("logger",)),
}
