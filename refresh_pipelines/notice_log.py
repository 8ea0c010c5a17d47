"""What incidents and their delivery leave in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from refresh_pipelines import log
from refresh_pipelines.deliver import Answer
from refresh_pipelines.incident import Event, Failure


def log_incidents(events: Iterable[Event]) -> None:
    """Log what was decided to be told, once it is in the store."""
    for event in events:
        one = event.incident
        ended = event.kind == "recovered" and one.recovered_at
        log.event(
            f"incident.{event.kind}",
            one.message,
            source=one.source or ",".join(sorted({member.source for member in event.members})),
            partition=one.partition,
            run_id=one.run_id,
            incident_id=one.id,
            event_id=event.id,
            error_class=one.kind,
            count=one.count,
            route=one.rule.route,
            seconds=(one.recovered_at - one.began_at).total_seconds() if ended and one.recovered_at else None,
            rows=one.rows if ended else None,
        )


def log_found(failure: Failure) -> None:
    """Log a run that could not tell itself what became of it."""
    name = {"interrupted": "run.broke_off", "not_started": "run.not_started"}.get(failure.error_class)
    if name:
        partition = failure.shown or ",".join(failure.partitions)
        log.event(name, failure.message, source=failure.source, partition=partition, run_id=failure.run_id)


def log_notice(body: Mapping[str, object], route: str, answer: Answer) -> None:
    """Log that a notice was delivered, or why it waits."""
    log.event(
        "notice.waiting" if answer.problem else "notice.delivered",
        answer.problem or "",
        source=_text(body, "source"),
        run_id=_text(body, "run_id"),
        event_id=_text(body, "event_id"),
        incident_id=_text(body, "incident_id"),
        notice=_text(body, "event"),
        route=route,
        http_status=answer.status or None,
    )


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    return "" if value is None else str(value)
