"""What is remembered of a payload that was accepted, and what its commit says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.outcome import Counts, Outcome
from refresh_pipelines.parse import Notes
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.warehouse import LoadState, Merged
from refresh_pipelines.window import Window


def first_state(
    spec: SourceSpec, window: Window, run_id: str, staged: Staged, known: LoadState | None, now: datetime
) -> LoadState:
    """Return the load state of a commit before anything is known of its payload and its merge."""
    return LoadState(
        source=spec.source,
        partition=window.partition or "",
        spec_hash=spec.spec_hash,
        run_id=run_id,
        outcome="loaded",
        counts=Counts(),
        raw_sha256="",
        content_hash=staged.content_hash,
        data_version=known.data_version if known else "",
        bytes=0,
        committed_at=now,
        changed_at=known.changed_at if known else now,
        profiles=known.profiles if known else "",
    )


def loaded(outcome: Outcome, merged: Merged, notes: Notes) -> Outcome:
    """Write into an outcome what its commit did, and return it."""
    state = merged.state
    outcome.outcome = state.outcome
    outcome.counts, outcome.data_version, outcome.changed_at = state.counts, state.data_version, state.changed_at
    outcome.published_at = state.published_at
    outcome.partition_rows, outcome.table_rows = merged.partition_rows, merged.table_rows
    outcome.notes += [*notes.texts(), *merged.notes]
    return outcome


def with_missing(outcome: Outcome, answer: Delivery) -> Outcome:
    """Call an outcome partial when some of what it needed did not come."""
    if answer.missing and outcome.outcome != "quarantined":
        outcome.outcome = "partial"
        outcome.error_class = answer.missing[0][1].error_class
        asked = [error.retry_at for _, error in answer.missing if error.retry_at]
        outcome.retry_at = max(asked, default=None)
        values = ", ".join(value for value, _ in answer.missing)
        first = answer.missing[0][1].at(f"{outcome.group}/{outcome.source}", outcome.partition)
        what = "files" if answer.files else "requests"
        outcome.message = f"{len(answer.missing)} of the {what} failed ({values}); the first: {first}"
    return outcome


def remembered(payload: Delivery) -> str:
    """Return the hash that makes the next refresh skip reading; none where a part is missing."""
    return "" if payload.missing else payload.sha256


def with_validators(spec: SourceSpec, notes: Notes, state: LoadState, payload: Delivery) -> LoadState:
    """Return the state with what the upstream said of this payload."""
    known = payload.validators
    return replace(
        state,
        url=payload.url,
        etag=known.etag if known else None,
        last_modified=known.last_modified if known else None,
        signal=known.signal if known else None,
        published_at=published(spec, notes, state, payload),
    )


def published(spec: SourceSpec, notes: Notes, state: LoadState, payload: Delivery) -> datetime | None:
    """Return when the upstream published a payload, as far as it says so."""
    # Where the document names its day, Last-Modified is often only the time of the answer.
    if spec.format is not None and spec.format.published is not None:
        return _date(notes.published) or state.published_at
    return _http_date(payload.last_modified)


def _date(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None
    return at and at.replace(tzinfo=at.tzinfo or timezone.utc)


def _http_date(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return at and at.replace(tzinfo=at.tzinfo or timezone.utc)
