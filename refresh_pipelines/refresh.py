"""One refresh of one partition, from asking the upstream to the committed table.

    state → fetch → same? → parse and check → same? → commit

Knows neither Dagster nor a particular warehouse; clock, session and warehouse are handed in. Every
way out is an `Outcome`, or a `RefreshError` after which the table is as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from refresh_pipelines.absent import behind_a_page, unpublished_until
from refresh_pipelines.clock import utc_now
from refresh_pipelines.credentials import unspoken
from refresh_pipelines.delivery import Delivery, deliver
from refresh_pipelines.derive import derive
from refresh_pipelines.drop.delivery import DropTools, NothingToRead, take_files
from refresh_pipelines.drop.story import read_dropped, settle
from refresh_pipelines.errors import Interrupted, RefreshError, WrongPeriod
from refresh_pipelines.fetch import Fetcher, NotHere, NotModified, Validators
from refresh_pipelines.outcome import Counts, Outcome, Seconds
from refresh_pipelines.parse import Notes
from refresh_pipelines.scratch import scratch
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, Staged, naming, require_rows, stage
from refresh_pipelines.warehouse import Commit, LoadState, Merged, Warehouse
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines.window import Window, since


@dataclass(frozen=True)
class Tools:
    """What a refresh works with.

    Attributes:
        progress: told "fetched", "staged", "merged" (transaction open) and "committed" as it goes.
        recover: told the stored load state before anything is fetched, so that the caller can emit
            an event that was lost between an earlier commit and its report.
        tables: the raw tables that the query of a derived source may read.
    """

    settings: Settings
    warehouse: Warehouse
    fetcher: Fetcher
    clock: Callable[[], datetime] = utc_now
    tables: Collection[str] = ()
    progress: Callable[[str], None] = lambda _: None
    recover: Callable[[LoadState], None] = lambda _: None


@dataclass
class _Story:
    """What is known so far about this refresh."""

    spec: SourceSpec
    window: Window
    run_id: str
    outcome: Outcome
    known: LoadState | None = None
    notes: Notes = field(default_factory=Notes)


def refresh(
    spec: SourceSpec, window: Window, tools: Tools, *, run_id: str, trigger: str = "manual", force: bool = False
) -> Outcome:
    """Bring one partition up to date and say exactly what that took.

    Args:
        spec: the source.
        window: what to refresh; see `window_of`.
        tools: where from, where to, and what time it is.
        run_id: written beside every row that changes.
        trigger: why this refresh happens, for the record.
        force: ask and read anew even if validators and hashes say that nothing changed.

    Raises:
        RefreshError: the refresh failed and the table is as it was; source and partition are named.
    """
    outcome = Outcome(spec.source, spec.group, window.partition, "failed", run_id=run_id, trigger=trigger)
    outcome.started_at = tools.clock().isoformat(timespec="seconds")
    story = _Story(spec, window, run_id, outcome)
    try:
        where = scratch(tools.settings.data_dir, run_id, window.partition, tools.clock())
        with unspoken(spec, tools.settings), where as folder:
            return _refresh(story, tools, folder, force)
    except RefreshError as error:
        error.at(spec.name, window.partition)
        error.bytes, error.sha256, error.seconds = outcome.bytes, outcome.sha256, asdict(outcome.seconds)
        raise


def _refresh(story: _Story, tools: Tools, folder: Path, force: bool) -> Outcome:
    known = _load_state(story, tools)
    # What was accepted under another YAML says nothing about what this one would read.
    story.known = known if known and known.spec_hash == story.spec.spec_hash and not force else None
    story.window = since(story.spec, story.window, _cursor(story, tools.clock()))
    try:
        with _timed(story.outcome.seconds, "fetch"):
            answer = _answer(story, tools, folder, force)
        tools.progress("fetched")
        if isinstance(answer, NotModified | NothingToRead):
            return _as_it_was(story, known, answer)
        story.outcome.sha256, story.outcome.bytes = answer.sha256, answer.bytes
        if answer.files:
            return _load_files(story, tools, answer, folder, known)
        if story.known and story.known.raw_sha256 == answer.sha256:
            return _same_bytes(story, tools, answer)
        staged, answer = _stage(story, answer, folder)
    except (NotHere, WrongPeriod) as error:
        return _not_yet(story, tools.clock(), error)
    tools.progress("staged")
    if story.known and story.known.content_hash == staged.content_hash:
        return with_missing(_same_rows(story, tools, answer, staged), answer)
    return with_missing(_commit(story, tools, answer, staged, known), answer)


def _answer(story: _Story, tools: Tools, folder: Path, force: bool) -> Delivery | NotModified | NothingToRead:
    """Return what the upstream gives, or was dropped, or the query over what other sources have loaded."""
    if story.spec.request.drop:
        return take_files(story.spec, story.window, _drop_tools(story, tools, force), folder)
    if not story.spec.derived:
        return deliver(story.spec, story.window, tools.fetcher, folder, _validators(story.known))
    result, wait = derive(story.spec, tools.tables, tools.warehouse, folder)
    story.outcome.seconds.wait += wait
    story.outcome.seconds.fetch -= wait  # of the time this function takes
    return result


def _drop_tools(story: _Story, tools: Tools, force: bool = False) -> DropTools:
    return DropTools(tools.settings, tools.warehouse, tools.clock(), story.run_id, force)


def _as_it_was(story: _Story, known: LoadState | None, answer: NotModified | NothingToRead) -> Outcome:
    """Return `unchanged`; `not_yet` for a day without files to read that was never loaded."""
    if isinstance(answer, NotModified):
        return _unchanged(story, Counts())
    story.known, story.outcome.message, story.outcome.outcome = known, answer.why, "not_yet"
    return _unchanged(story, Counts()) if known else story.outcome


def _load_files(story: _Story, tools: Tools, answer: Delivery, folder: Path, known: LoadState | None) -> Outcome:
    """Read dropped files one by one, and commit the rows of those that are good with what became of each."""
    with _timed(story.outcome.seconds, "parse"):
        read, answer = read_dropped(story.spec, answer, story.window, folder, story.notes, _drop_tools(story, tools))
    tools.progress("staged")
    outcome = _commit(story, tools, answer, read, known)
    settle(story.spec, tools.settings, answer.files)
    outcome.notes += answer.remarks
    return with_missing(outcome, answer)


def with_missing(outcome: Outcome, answer: Delivery) -> Outcome:
    """Call an outcome partial when some of what it needed did not come."""
    if answer.missing:
        outcome.outcome = "partial"
        outcome.error_class = answer.missing[0][1].error_class
        asked = [error.retry_at for _, error in answer.missing if error.retry_at]
        outcome.retry_at = max(asked, default=None)
        values = ", ".join(value for value, _ in answer.missing)
        first = answer.missing[0][1].at(f"{outcome.group}/{outcome.source}", outcome.partition)
        what = "files" if answer.files else "requests"
        outcome.message = f"{len(answer.missing)} of the {what} failed ({values}); the first: {first}"
    return outcome


def _cursor(story: _Story, now: datetime) -> str | None:
    """Return where reading may go on from, None where all must be read.

    A partition that is replaced would lose the rows before it. And one row dated far ahead by
    mistake must not keep every later row from being asked for.
    """
    cursor = story.known.cursor if story.known and story.spec.load.mode == "merge" else None
    if cursor is None:
        return None
    newest = datetime.fromisoformat(cursor)
    return min(newest.replace(tzinfo=newest.tzinfo or timezone.utc), now).isoformat()


def _load_state(story: _Story, tools: Tools) -> LoadState | None:
    tools.warehouse.adopt(story.spec)
    states, wait = tools.warehouse.states(story.spec.source, story.spec.raw_table)
    story.outcome.seconds.wait += wait
    known = states.get(story.window.partition or "")
    if known:
        tools.recover(known)
    return known


def _validators(known: LoadState | None) -> Validators | None:
    return Validators(known.url, known.etag, known.last_modified) if known else None


def _stage(story: _Story, answer: Delivery, folder: Path) -> tuple[Staged, Delivery]:
    """Return the staged rows, and the delivery without the parts that could not be read and need not be."""
    spec, rows = story.spec, folder / "rows.arrow"
    with _timed(story.outcome.seconds, "parse"):
        if spec.request.each and spec.request.each.on_error == "keep_rest":
            answer = _readable(story, answer, rows)
        try:
            staged = stage(spec, answer.parts, story.window, rows, story.notes)
        except WrongPeriod as wrong:
            raise behind_a_page(wrong, answer.url, answer.passed_over) from wrong
    require_rows(spec, staged)
    return staged, answer


def _readable(story: _Story, answer: Delivery, rows: Path) -> Delivery:
    """Leave out values whose payload cannot be read; raise the first error if none is left."""
    missing = list(answer.missing)
    good: list[Part] = []
    by_value: dict[tuple[tuple[str, str], ...], list[Part]] = {}
    for part in answer.parts:
        by_value.setdefault(tuple(part.names.items()), []).append(part)
    for ((_, value),), parts in by_value.items():
        try:
            with naming(parts[0].names):
                stage(story.spec, parts, story.window, rows, Notes())
        except RefreshError as error:
            if isinstance(error, Interrupted):
                raise
            missing.append((value, error))
        else:
            good += parts
    if not good:
        raise missing[0][1]
    return replace(answer, parts=tuple(good), missing=tuple(missing))


def _not_yet(story: _Story, now: datetime, error: NotHere | WrongPeriod) -> Outcome:
    """Return `not_yet` for a period that may still be unpublished; raise `error` otherwise."""
    until = unpublished_until(story.spec, story.window, now, error)
    if until is None:
        raise error
    story.outcome.outcome = "not_yet"
    story.outcome.message = f"{error.at(story.spec.name, story.window.partition)}"
    story.outcome.notes.append(f"counts as unpublished until {until.date()}")
    return story.outcome


def _unchanged(story: _Story, counts: Counts) -> Outcome:
    outcome = story.outcome
    outcome.outcome, outcome.counts = "unchanged", counts
    outcome.notes += story.notes.texts()
    if story.known:
        outcome.data_version, outcome.changed_at = story.known.data_version, story.known.changed_at
        outcome.published_at = outcome.published_at or story.known.published_at
        outcome.sha256 = outcome.sha256 or story.known.raw_sha256
    return outcome


def _same_bytes(story: _Story, tools: Tools, payload: Delivery) -> Outcome:
    known = story.known
    assert known is not None  # noqa: S101 - the caller compared with it
    last = known.counts
    renewed = _with_validators(story, known, payload)
    story.outcome.published_at = renewed.published_at
    if renewed != known:
        story.outcome.seconds.wait += tools.warehouse.touch(renewed)
    counts = replace(last, added=0, updated=0, deleted=0, unchanged=last.fetched - last.rejected - last.duplicates)
    return _unchanged(story, counts)


def _same_rows(story: _Story, tools: Tools, payload: Delivery, staged: Staged) -> Outcome:
    """Remember the new bytes, so that the next refresh need not read them."""
    known = story.known
    assert known is not None  # noqa: S101 - the caller compared with it
    counts = Counts(
        fetched=staged.fetched, unchanged=staged.rows, duplicates=staged.duplicates, filtered=staged.filtered
    )
    renewed = replace(
        _with_validators(story, known, payload),
        raw_sha256=_remembered(payload),
        bytes=payload.bytes,
        counts=counts,
        outcome="unchanged",
        run_id=story.run_id,
    )
    story.outcome.published_at = renewed.published_at
    story.outcome.seconds.wait += tools.warehouse.touch(renewed)
    return _unchanged(story, counts)


def _commit(story: _Story, tools: Tools, payload: Delivery, staged: Staged, known: LoadState | None) -> Outcome:
    state = first_state(story.spec, story.window, story.run_id, staged, known, tools.clock())
    state = replace(_with_validators(story, state, payload), raw_sha256=_remembered(payload), bytes=payload.bytes)
    begun = time.monotonic()
    commit = Commit(story.spec, story.window.partition, staged, state, tools.progress, payload.files)
    merged = tools.warehouse.commit(commit)
    tools.progress("committed")
    story.outcome.seconds.wait += merged.wait
    story.outcome.seconds.load = max(0.0, time.monotonic() - begun - merged.wait)
    return loaded(story.outcome, merged, story.notes)


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
    )


def loaded(outcome: Outcome, merged: Merged, notes: Notes) -> Outcome:
    """Write into an outcome what its commit did, and return it."""
    state = merged.state
    outcome.outcome = state.outcome
    outcome.counts, outcome.data_version, outcome.changed_at = state.counts, state.data_version, state.changed_at
    outcome.published_at = state.published_at
    outcome.partition_rows, outcome.table_rows = merged.partition_rows, merged.table_rows
    outcome.notes += notes.texts()
    return outcome


def _remembered(payload: Delivery) -> str:
    """Return the hash that makes the next refresh skip reading; none where a part is missing."""
    return "" if payload.missing else payload.sha256


def _with_validators(story: _Story, state: LoadState, payload: Delivery) -> LoadState:
    """Return the state with what the upstream said of this payload."""
    known = payload.validators
    return replace(
        state,
        url=payload.url,
        etag=known.etag if known else None,
        last_modified=known.last_modified if known else None,
        published_at=published(story.spec, story.notes, state, payload),
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


@contextmanager
def exclusive(spec: SourceSpec, partition: str | None, settings: Settings) -> Iterator[float]:
    """Let one process at a time refresh a partition, until its event is written; yield the seconds waited.

    Raises:
        WarehouseBusy: another process refreshed it for longer than REFRESH_LOCK_TIMEOUT.
    """
    name = spec.source + (f"@{quote(partition, safe='')}" if partition else "")
    lock = settings.data_dir / "locks" / f"{name}.lock"
    where = f"{spec.name}[{partition}]" if partition else spec.name
    with held(lock, settings.lock_timeout.total_seconds(), f"{where} is being refreshed: its lock") as wait:
        yield wait


@contextmanager
def _timed(seconds: Seconds, part: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        setattr(seconds, part, getattr(seconds, part) + time.monotonic() - begun)
