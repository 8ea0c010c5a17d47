"""What a refresh does with a payload that is a surprise: it waits as a record, and the outcome says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.outcome import Counts, Outcome
from refresh_pipelines.plausible import Implausible, judged
from refresh_pipelines.quarantine import Accept, Quarantine, Record, judged_by, known_surprise, record_id, stamp
from refresh_pipelines.quarantine_words import sentence
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import Commit, Warehouse
from refresh_pipelines.window import Window


def held_before(spec: SourceSpec, data_dir: Path, outcome: Outcome, sha256: str, now: datetime) -> Record | None:
    """Return the record of bytes that waited or were rejected before, None where these have to be read."""
    if not judged(spec):
        return None
    quarantine = Quarantine(data_dir)
    known = known_surprise(spec, quarantine.of(spec.source), outcome.partition, sha256)
    return quarantine.seen_again(known, sha256, now) if known else None


def hold(
    commit: Commit, window: Window, surprise: Implausible, payload: Delivery, warehouse: Warehouse, data_dir: Path
) -> Record:
    """Write the record of a payload that surprised, or find the one that its rows have already.

    Args:
        commit: what was to be done, and where its payload lies in the archive; the table is as it was.
        window: what was asked for.
        surprise: why it was not.
        payload: the bytes.
        warehouse: asked for examples of rows.
        data_dir: where records lie.
    """
    spec, quarantine, now = commit.spec, Quarantine(data_dir), commit.state.committed_at
    known = quarantine.get(spec.source, record_id(spec.source, commit.partition, commit.staged.content_hash))
    if known and known.state != "accepted" and known.judged_by == judged_by(spec):
        record = quarantine.seen_again(known, payload.sha256, now)
    else:
        record = _record(commit, window, surprise, payload)
        record = quarantine.write(replace(record, differences=warehouse.compare(commit).item()))
    quarantine.supersede(spec.source, commit.partition, now, by=record.id, but=record.id)
    return record


def _record(commit: Commit, window: Window, surprise: Implausible, payload: Delivery) -> Record:
    spec, staged, at = commit.spec, commit.staged, stamp(commit.state.committed_at)
    return Record(
        id=record_id(spec.source, commit.partition, staged.content_hash),
        source=spec.source,
        group=spec.group,
        partition=commit.partition,
        payload=commit.state.payload,
        content_hash=staged.content_hash,
        sha256=(payload.sha256,),
        judged_by=judged_by(spec),
        run_id=commit.state.run_id,
        at=at,
        seen_at=at,
        rows_before=surprise.rows_before,
        rows_now=staged.rows,
        reasons=surprise.reasons,
        counts=surprise.counts,
        bytes=payload.bytes,
        start=window.start.isoformat() if window.start else None,
    )


def accepted_window(window: Window, accept: Accept) -> Window:
    """Return what was asked for when the accepted payload came; reading may have gone on since."""
    start = accept.record.start
    return replace(window, start=datetime.fromisoformat(start)) if start else window


def quarantined(outcome: Outcome, record: Record) -> Outcome:
    """Make an outcome say that its payload waits, or is one that was rejected; return it."""
    outcome.outcome, outcome.error_class = "quarantined", "quarantined"
    outcome.quarantine, outcome.message = record.id, sentence(record)
    outcome.counts = Counts(fetched=record.rows_now)
    return outcome


def close_waiting(spec: SourceSpec, data_dir: Path, outcome: Outcome, now: datetime) -> None:
    """Close what waits of a partition that was refreshed well: the table now holds what the upstream serves."""
    if not judged(spec) or not outcome.success:
        return
    quarantine = Quarantine(data_dir)
    record = quarantine.get(spec.source, outcome.quarantine) if outcome.accepted_by else None
    if record:
        quarantine.accept(record, outcome.accepted_by, outcome.run_id, now)
    quarantine.supersede(spec.source, outcome.partition, now)
