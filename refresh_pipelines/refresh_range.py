"""Neighbouring partitions brought up to date by one request: the way of a backfill under `request.span`.

    states → fetch once → parse and check once → divide by period → commit what differs, in one transaction

It only saves requests: each partition has its own verdict, counts and load state. What goes wrong
for the whole is raised, and the caller may then refresh the partitions one by one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from refresh_pipelines.accepted import first_state, loaded, published, with_missing
from refresh_pipelines.archive.moved import follow_name
from refresh_pipelines.archive.story import Keeper
from refresh_pipelines.credentials import unspoken
from refresh_pipelines.delivery import Delivery, deliver
from refresh_pipelines.divide import divide
from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.outcome import Counts, Outcome, Seconds
from refresh_pipelines.parse import Notes
from refresh_pipelines.quarantine_hold import close_waiting
from refresh_pipelines.refresh import Tools
from refresh_pipelines.scratch import scratch
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged, require_rows
from refresh_pipelines.warehouse import Commit, LoadState
from refresh_pipelines.weigh import weigh
from refresh_pipelines.window import Window


@dataclass
class _Range:
    """What is known so far."""

    spec: SourceSpec
    windows: Sequence[Window]
    run_id: str
    trigger: str
    force: bool
    started_at: str
    known: dict[str, LoadState] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    seconds: Seconds = field(default_factory=Seconds)
    keeper: Keeper = field(default_factory=Keeper)

    @property
    def label(self) -> str:
        """The range in one word."""
        return label_of([window.partition for window in self.windows])


def label_of(keys: Sequence[str | None]) -> str:
    """Return how messages name neighbouring partitions."""
    return f"{keys[0]}...{keys[-1]}"


def refresh_range(
    spec: SourceSpec,
    windows: Sequence[Window],
    tools: Tools,
    *,
    run_id: str,
    trigger: str = "manual",
    force: bool = False,
) -> list[Outcome | RefreshError]:
    """Bring neighbouring partitions up to date with one request, and say of each what that took.

    Args:
        spec: a source with `request.span` and a partition column.
        windows: the partitions' windows, oldest first and without a gap.
        tools: where from, where to, and what time it is.
        run_id: written beside every row that changes.
        trigger: why this refresh happens, for the record.
        force: merge also partitions whose rows seem to be those that were accepted last.

    Returns:
        For each window its outcome, or the error of that partition alone.

    Raises:
        RefreshError: the request or the payload as a whole failed, or one of the partitions is a surprise; none has
            changed.
    """
    story = _Range(spec, windows, run_id, trigger, force, tools.clock().isoformat(timespec="seconds"))
    try:
        where = scratch(tools.settings.data_dir, run_id, spec.source, story.label, tools.clock())
        with unspoken(spec, tools.settings), where as folder:
            results = _refresh(story, tools, folder)
            for outcome in results:
                if isinstance(outcome, Outcome):
                    close_waiting(spec, tools.settings.data_dir, outcome, tools.clock())
            return results
    except RefreshError as error:
        raise error.at(spec.name, story.label)  # noqa: B904 - the same error


def _refresh(story: _Range, tools: Tools, folder: Path) -> list[Outcome | RefreshError]:
    spec, windows = story.spec, story.windows
    if tools.warehouse.adopt(spec):
        follow_name(spec, tools.settings)
    states, story.seconds.wait = tools.warehouse.states(spec.source, spec.raw_table)
    story.profiles = {key: state.profiles for key, state in states.items()}
    story.known = {key: state for window in windows if (state := states.get(key := window.partition or ""))}
    for state in story.known.values():
        tools.recover(state)
    whole = replace(windows[0], partition=None, end=windows[-1].end)
    begun = time.monotonic()
    answer = deliver(spec, whole, tools.fetcher, folder, None)
    tools.progress("fetched")
    story.seconds.fetch, begun = time.monotonic() - begun, time.monotonic()
    if not isinstance(answer, Delivery):
        raise InternalError("the upstream answered 304 to a request without a condition")
    keys = [window.partition for window in windows]
    story.keeper = Keeper.of(spec, tools.settings, whole, story.run_id, trigger=story.trigger, keys=keys)
    answer = story.keeper.keep(answer, folder, tools.clock())
    tools.progress("archived")
    pieces = divide(spec, answer.parts, whole, windows, folder, story.notes)
    story.seconds.parse = time.monotonic() - begun
    tools.progress("staged")
    return _commit(story, tools, answer, pieces)


def _commit(story: _Range, tools: Tools, answer: Delivery, pieces: Sequence[Staged]) -> list[Outcome | RefreshError]:
    out: dict[int, Outcome | RefreshError] = {}
    commits: dict[int, Commit] = {}
    for number, (window, staged) in enumerate(zip(story.windows, pieces, strict=True)):
        known = story.known.get(window.partition or "")
        try:
            require_rows(story.spec, staged)
        except RefreshError as error:
            out[number] = error.at(story.spec.name, window.partition)
            continue
        same = known and known.spec_hash == story.spec.spec_hash and known.content_hash == staged.content_hash
        if same and known and not story.force:
            out[number] = _unchanged(story, window, known, staged)
            continue
        state = first_state(story.spec, window, story.run_id, staged, known, tools.clock())
        # No hash of bytes: those of one partition alone have never been seen.
        said = published(story.spec, story.notes, state, answer)
        state = replace(state, url=answer.url, published_at=said, payload=story.keeper.payload)
        # A surprise among them ends the transaction, and each is then refreshed by itself.
        weight = weigh(story.spec, window, staged, story.profiles, tools.clock(), missing=bool(answer.missing))
        commits[number] = Commit(story.spec, window.partition, staged, state, weight=weight)
        commits[number] = replace(commits[number], accepted=partial(_accepted, story, known, answer))
    if commits:
        last = max(commits)
        commits[last] = replace(commits[last], progress=tools.progress)
    begun = time.monotonic()
    merged = tools.warehouse.commit_all(list(commits.values())) if commits else []
    tools.progress("committed")
    story.seconds.wait += merged[0].wait if merged else 0.0
    story.seconds.load = max(0.0, time.monotonic() - begun - (merged[0].wait if merged else 0.0))
    for number, done in zip(commits, merged, strict=True):
        out[number] = loaded(_outcome(story, story.windows[number]), done, story.notes)
    return _with_the_costs(story, answer, [out[number] for number in range(len(story.windows))])


def _accepted(story: _Range, known: LoadState | None, answer: Delivery, state: LoadState) -> None:
    # No hash of bytes here either.
    story.keeper.accepted(state, known, replace(answer, sha256="", bytes=0, validators=None))


def _outcome(story: _Range, window: Window) -> Outcome:
    outcome = Outcome(story.spec.source, story.spec.group, window.partition, "failed", run_id=story.run_id)
    outcome.trigger, outcome.started_at = story.trigger, story.started_at
    return outcome


def _unchanged(story: _Range, window: Window, known: LoadState, staged: Staged) -> Outcome:
    outcome = _outcome(story, window)
    outcome.outcome = "unchanged" if staged.rows or staged.rejected else "empty"
    outcome.counts = Counts(
        fetched=staged.fetched, unchanged=staged.rows, rejected=staged.rejected, duplicates=staged.duplicates
    )
    outcome.data_version, outcome.changed_at = known.data_version, known.changed_at
    outcome.published_at = known.published_at
    return outcome


def _with_the_costs(
    story: _Range, answer: Delivery, outcomes: list[Outcome | RefreshError]
) -> list[Outcome | RefreshError]:
    """Book bytes and time on the first partition, so that sums over partitions are right."""
    good = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
    for _, error in answer.missing:
        error.at(story.spec.name, story.label)
    for number, outcome in enumerate(good):
        with_missing(outcome, answer)
        outcome.sha256 = answer.sha256
        if number == 0:
            outcome.bytes, outcome.seconds = answer.bytes, story.seconds
        outcome.notes.append(f"one request served {len(outcomes)} partitions, its cost stands at the first")
    return outcomes
