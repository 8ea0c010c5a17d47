"""One refresh of one partition, from asking the upstream to the committed table.

    state → fetch → same? → archive → parse and check → same? → commit

Knows neither Dagster nor a particular warehouse; clock, session and warehouse are handed in. Every
way out is an `Outcome`, or a `RefreshError` after which the table is as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from refresh_pipelines.absent import unpublished_until
from refresh_pipelines.accepted import first_state, loaded, remembered, with_missing, with_validators
from refresh_pipelines.archive.journal import Load
from refresh_pipelines.archive.keep import open_entry
from refresh_pipelines.archive.moved import follow_name
from refresh_pipelines.archive.story import Keeper
from refresh_pipelines.clock import utc_now
from refresh_pipelines.clocks import remarks
from refresh_pipelines.credentials import unspoken
from refresh_pipelines.delivery import Delivery, deliver
from refresh_pipelines.derive import derive
from refresh_pipelines.doubt import Doubt
from refresh_pipelines.drop.delivery import DropTools, NothingToRead, take_files
from refresh_pipelines.drop.story import read_dropped, settle
from refresh_pipelines.errors import RefreshError, WrongPeriod
from refresh_pipelines.fetch import Fetcher, NotHere, NotModified
from refresh_pipelines.outcome import Counts, Outcome, Seconds
from refresh_pipelines.parse import Notes
from refresh_pipelines.plausible import Implausible
from refresh_pipelines.quarantine import Accept
from refresh_pipelines.quarantine_hold import accepted_window, close_waiting, held_before, hold, quarantined
from refresh_pipelines.reading import read_payload
from refresh_pipelines.scratch import scratch
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.warehouse import Commit, LoadState, Warehouse
from refresh_pipelines.weigh import Weight, weigh
from refresh_pipelines.window import Window, since


@dataclass(frozen=True)
class Tools:
    """What a refresh works with.

    Attributes:
        progress: told "fetched", "archived", "staged", "merged" (transaction open) and "committed" as it goes; "held"
            in place of the last two when the payload waits in quarantine.
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
    doubt: Doubt | None = None
    answer: Delivery | None = None
    profiles: Mapping[str, str] = field(default_factory=dict)
    accept: Accept | None = None
    stored: Load | None = None
    keeper: Keeper = field(default_factory=Keeper)


def refresh(
    spec: SourceSpec,
    window: Window,
    tools: Tools,
    *,
    run_id: str,
    trigger: str = "manual",
    force: bool = False,
    accept: Accept | None = None,
    stored: Load | None = None,
) -> Outcome:
    """Bring one partition up to date and say exactly what that took.

    Args:
        spec: the source.
        window: what to refresh; see `window_of`.
        tools: where from, where to, and what time it is.
        run_id: written beside every row that changes.
        trigger: why this refresh happens, for the record.
        force: ask and read anew even if validators and hashes say that nothing changed.
        accept: load the payload that waits, which a person has looked at, and ask nobody.
        stored: a payload of the archive that is loaded anew in place of asking the upstream; say `force` with it.

    Raises:
        RefreshError: the refresh failed and the table is as it was; source and partition are named.
    """
    outcome = Outcome(spec.source, spec.group, window.partition, "failed", run_id=run_id, trigger=trigger)
    outcome.started_at = tools.clock().isoformat(timespec="seconds")
    story = _Story(spec, window, run_id, outcome, accept=accept, stored=stored)
    if accept:
        outcome.quarantine, outcome.accepted_by = accept.record.id, accept.by
    try:
        where = scratch(tools.settings.data_dir, run_id, spec.source, window.partition, tools.clock())
        with unspoken(spec, tools.settings), where as folder:
            outcome = _refresh(story, tools, folder, force)
            if story.doubt and story.answer and outcome.success and not accept:
                story.doubt.accepted(outcome, story.answer)
                outcome.notes += remarks(story.doubt.published_at, outcome.published_at, tools.clock())
            if not stored:  # which says nothing of what the upstream serves
                close_waiting(spec, tools.settings.data_dir, outcome, tools.clock())
            return outcome
    except RefreshError as error:
        error.at(spec.name, window.partition)
        error.bytes, error.sha256, error.seconds = outcome.bytes, outcome.sha256, asdict(outcome.seconds)
        raise


def _refresh(story: _Story, tools: Tools, folder: Path, force: bool) -> Outcome:
    known = _load_state(story, tools)
    # What was accepted under another YAML says nothing about what this one would read.
    story.known = known if known and known.spec_hash == story.spec.spec_hash and not force else None
    story.window = since(story.spec, story.window, _cursor(story, tools.clock()))
    if story.stored and story.stored.origin.start:
        story.window = replace(story.window, start=story.stored.origin.start)
    if story.accept:
        story.window = accepted_window(story.window, story.accept)
    key = story.window.partition or ""
    story.doubt = Doubt(story.spec, key, tools.settings.data_dir, known, tools.clock())
    try:
        with _timed(story.outcome.seconds, "fetch"):
            answer = _answer(story, tools, folder, force)
        tools.progress("fetched")
        if isinstance(answer, NotModified | NothingToRead):
            return _as_it_was(story, known, answer)
        story.outcome.sha256, story.outcome.bytes = answer.sha256, answer.bytes
        story.answer = None if story.stored else answer
        story.keeper = _keeper(story, tools)
        if answer.files:
            return _load_files(story, tools, answer, folder, known)
        seen = _seen_before(story, tools, answer, force)
        if seen:
            return seen
        answer = story.keeper.keep(answer, folder, tools.clock())
        if story.keeper.payload:
            tools.progress("archived")
        staged, answer = _stage(story, answer, folder)
    except (NotHere, WrongPeriod) as error:
        return _not_yet(story, tools.clock(), error)
    tools.progress("staged")
    if story.known and story.known.content_hash == staged.content_hash:
        return with_missing(_same_rows(story, tools, answer, staged), answer)
    return with_missing(_commit(story, tools, answer, staged, known), answer)


def _answer(story: _Story, tools: Tools, folder: Path, force: bool) -> Delivery | NotModified | NothingToRead:
    """Return what the upstream gives, or was dropped, or the query over what other sources have loaded."""
    if story.stored:
        return open_entry(story.spec, tools.settings, story.stored.payload, folder, story.stored.origin)
    if story.accept:
        return open_entry(story.spec, tools.settings, story.accept.record.payload, folder)
    if story.spec.request.drop:
        return take_files(story.spec, story.window, _drop_tools(story, tools, force), folder)
    if not story.spec.derived:
        doubt = story.doubt
        assert doubt is not None  # noqa: S101 - made before anything is asked
        return doubt.deliver(lambda sent: deliver(story.spec, story.window, tools.fetcher, folder, sent), story.known)
    result, wait = derive(story.spec, tools.tables, tools.warehouse, folder)
    story.outcome.disagreements = result.remarks
    story.outcome.notes += result.remarks
    story.outcome.seconds.wait += wait
    story.outcome.seconds.fetch -= wait  # of the time this function takes
    return result


def _keeper(story: _Story, tools: Tools) -> Keeper:
    keeper = Keeper.of(story.spec, tools.settings, story.window, story.run_id, trigger=story.outcome.trigger)
    if story.stored:
        keeper.has(story.stored.payload, story.stored.origin.keys)
    elif story.accept:
        keeper.has(story.accept.record.payload)
    return keeper


def _drop_tools(story: _Story, tools: Tools, force: bool = False) -> DropTools:
    return DropTools(tools.settings, tools.warehouse, tools.clock(), story.run_id, force)


def _as_it_was(story: _Story, known: LoadState | None, answer: NotModified | NothingToRead) -> Outcome:
    """Return `unchanged`; `not_yet` for a day without files to read that was never loaded."""
    if isinstance(answer, NotModified):
        if story.doubt:
            story.doubt.not_modified(story.outcome)
        return _unchanged(story, Counts())
    story.known, story.outcome.message, story.outcome.outcome = known, answer.why, "not_yet"
    return _unchanged(story, Counts()) if known else story.outcome


def _load_files(story: _Story, tools: Tools, answer: Delivery, folder: Path, known: LoadState | None) -> Outcome:
    """Read dropped files one by one, and commit the rows of those that are good with what became of each."""
    answer = story.keeper.keep(answer, folder, tools.clock())
    tools.progress("archived")
    with _timed(story.outcome.seconds, "parse"):
        read, answer = read_dropped(story.spec, answer, story.window, folder, story.notes, _drop_tools(story, tools))
    tools.progress("staged")
    outcome = _commit(story, tools, answer, read, known)
    settle(story.spec, tools.settings, answer.files)
    outcome.notes += answer.remarks
    return with_missing(outcome, answer)


def _cursor(story: _Story, now: datetime) -> str | None:
    """Return where reading may go on from, None where all must be read.

    A partition that is replaced would lose the rows before it. And one row dated far ahead by
    mistake must not keep every later row from being asked for.
    """
    cursor = story.known.cursor if story.known and story.spec.load.mode in ("merge", "append") else None
    if cursor is None:
        return None
    newest = datetime.fromisoformat(cursor)
    return min(newest.replace(tzinfo=newest.tzinfo or timezone.utc), now).isoformat()


def _load_state(story: _Story, tools: Tools) -> LoadState | None:
    if tools.warehouse.adopt(story.spec):
        follow_name(story.spec, tools.settings)
    states, wait = tools.warehouse.states(story.spec.source, story.spec.raw_table)
    story.outcome.seconds.wait += wait
    known = states.get(story.window.partition or "")
    story.profiles = {key: state.profiles for key, state in states.items()}
    if known:
        tools.recover(known)
    return known


def _stage(story: _Story, answer: Delivery, folder: Path) -> tuple[Staged, Delivery]:
    with _timed(story.outcome.seconds, "parse"):
        return read_payload(story.spec, story.window, answer, folder, story.notes, story.stored)


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
    renewed = with_validators(story.spec, story.notes, known, payload)
    story.outcome.published_at = renewed.published_at
    if renewed != known:
        story.outcome.seconds.wait += tools.warehouse.touch(renewed)
        story.keeper.same(renewed, payload)
    counts = replace(last, added=0, updated=0, deleted=0, unchanged=last.fetched - last.rejected - last.duplicates)
    return _unchanged(story, counts)


def _same_rows(story: _Story, tools: Tools, payload: Delivery, staged: Staged) -> Outcome:
    """Remember the new bytes, so that the next refresh need not read them."""
    known = story.known
    assert known is not None  # noqa: S101 - the caller compared with it
    counts = Counts(
        fetched=staged.fetched, unchanged=staged.rows, rejected=staged.rejected, duplicates=staged.duplicates,
        filtered=staged.filtered,
    )  # fmt: skip
    renewed = replace(
        with_validators(story.spec, story.notes, known, payload),
        raw_sha256=remembered(payload),
        bytes=payload.bytes,
        counts=counts,
        outcome="unchanged",
        run_id=story.run_id,
    )
    story.outcome.published_at = renewed.published_at
    story.outcome.seconds.wait += tools.warehouse.touch(renewed)
    story.keeper.same(renewed, payload)
    return _unchanged(story, counts)


def _commit(story: _Story, tools: Tools, payload: Delivery, staged: Staged, known: LoadState | None) -> Outcome:
    state = first_state(story.spec, story.window, story.run_id, staged, known, tools.clock())
    state = replace(
        with_validators(story.spec, story.notes, state, payload), raw_sha256=remembered(payload), bytes=payload.bytes,
        payload=story.keeper.payload,
    )  # fmt: skip
    begun = time.monotonic()
    commit = Commit(
        story.spec, story.window.partition, staged, state, tools.progress, payload.files,
        complete=not payload.missing, weight=_weight(story, payload, staged, tools.clock()),
        accepted=lambda state: story.keeper.accepted(state, known, payload),
    )  # fmt: skip
    try:
        merged = tools.warehouse.commit(commit)
    except Implausible as surprise:
        record = hold(commit, story.window, surprise, payload, tools.warehouse, tools.settings.data_dir)
        tools.progress("held")
        return quarantined(story.outcome, record)
    tools.progress("committed")
    story.outcome.seconds.wait += merged.wait
    story.outcome.seconds.load = max(0.0, time.monotonic() - begun - merged.wait)
    return loaded(story.outcome, merged, story.notes)


def _seen_before(story: _Story, tools: Tools, answer: Delivery, force: bool) -> Outcome | None:
    """Return what bytes mean that were accepted, or that wait or were rejected, before; None if they are to be read."""
    if story.known and story.known.raw_sha256 == answer.sha256:
        return _same_bytes(story, tools, answer)
    if force or story.accept:
        return None
    held = held_before(story.spec, tools.settings.data_dir, story.outcome, answer.sha256, tools.clock())
    return quarantined(story.outcome, held) if held else None


def _weight(story: _Story, payload: Delivery, staged: Staged, now: datetime) -> Weight | None:
    """Return what the payload is judged by; what a person has accepted is only remembered."""
    return weigh(
        story.spec, story.window, staged, story.profiles, now,
        size=payload.bytes, judge=not (story.outcome.accepted_by or story.stored), missing=bool(payload.missing),
    )  # fmt: skip


@contextmanager
def _timed(seconds: Seconds, part: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        setattr(seconds, part, getattr(seconds, part) + time.monotonic() - begun)
