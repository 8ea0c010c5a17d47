"""What is removed of the past, when, and what stays whatever its age, so that the data folder does not grow for ever.

Removed are runs that ended long ago, with their log lines and what they printed. What they say of assets stays: no
partition looks as if it had never been loaded, and history, scores and freshness are told from it as before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.kept import Kept
from refresh_pipelines.orchestration.breakers import Breakers
from refresh_pipelines.orchestration.tags import SOURCE, TRIGGER
from refresh_pipelines.quarantine import Quarantine
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Archive, SourceSpec
from refresh_pipelines.sweep import LEFT, remove_locks, remove_staging

if TYPE_CHECKING:  # the database's library is loaded when something is removed
    from refresh_pipelines.archive.retention import Removed
    from refresh_pipelines.orchestration.internals_retention import Gone, OldRun, Remover

# What there is no time for within this, the next day does.
PATIENCE = timedelta(minutes=10)
# By the daemon's schedule, or by whoever calls where there is none.
_DAILY = timedelta(hours=23)
# So few that nobody waits for the event log, which is locked while they are removed.
AT_ONCE = 100
# The one entry; no source is called so.
_ALL = "|all"


@dataclass(frozen=True)
class Row:
    """The runs of one source ("": of none) that were removed, from the oldest to the newest end of one."""

    source: str
    runs: int
    first: datetime
    last: datetime


@dataclass
class Cleared:
    """What was removed.

    Attributes:
        sources: the runs, by source.
        rows: rows of the event log.
        bytes: of files and of those rows; a database uses the place of its rows again and gives none of it back.
        orphans: runs that were deleted elsewhere, and of which files were left.
        staging: folders of refreshes that were killed.
        locks: files of locks.
        archive: payloads, by source; `untouched` says of whose archive nothing could be removed, and why.
        oldest: when the oldest run was made that is left.
        finished: whether there was time for everything.
    """

    sources: dict[str, Row] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    orphans: int = 0
    staging: int = 0
    locks: int = 0
    archive: dict[str, Removed] = field(default_factory=dict)
    untouched: dict[str, str] = field(default_factory=dict)
    oldest: datetime | None = None
    finished: bool = True

    @property
    def runs(self) -> int:
        """How many runs were removed."""
        return sum(row.runs for row in self.sources.values())

    @property
    def payloads(self) -> int:
        """How many payloads were removed from the archive."""
        return sum(one.payloads for one in self.archive.values())

    def sentence(self) -> str:
        """Say it in a sentence without a full stop."""
        if not (self.runs or self.rows or self.orphans or self.staging or self.locks or self.payloads):
            return "nothing was old enough to be removed"
        parts = {
            "runs": self.runs, "rows of the event log": self.rows, "leftovers of deleted runs": self.orphans,
            "folders in staging": self.staging, "files of locks": self.locks,
            "payloads": self.payloads,
        }  # fmt: skip
        said = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
        return f"removed {said}; {self.bytes / 1e6:.1f} MB" + ("" if self.finished else "; the rest tomorrow")

    def _add(self, gone: Gone) -> None:
        self.rows += gone.rows
        self.bytes += gone.bytes

    def _count(self, runs: Sequence[OldRun]) -> None:
        for run in runs:
            row = self.sources.get(run.source, Row(run.source, 0, run.at, run.at))
            self.sources[run.source] = Row(
                run.source, row.runs + 1, min(row.first, run.at), max(row.last, run.at)
            )  # fmt: skip


def clear(
    instance: dg.DagsterInstance,
    settings: Settings,
    specs: Collection[SourceSpec],
    now: datetime,
    patience: timedelta = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    at_once: int = AT_ONCE,
) -> Cleared:
    """Remove what is older than REFRESH_KEEP_RUNS, and what killed processes have left.

    May be called at any time, by several at once, and be killed.

    Args:
        instance: whose history it is.
        settings: where everything is.
        specs: all sources; the runs that their failures, later tries and builds go on from stay.
        now: the time it is.
        patience: begin nothing new after this.
        clock: what patience is measured by.
        at_once: how many runs are removed in one transaction, at most five hundred.

    Raises:
        InternalError: the history is in a place that nothing can be removed from.
    """
    until, out = clock() + patience.total_seconds(), Cleared()
    Kept(settings.data_dir, "retention").write({_ALL: ("", json.dumps(now.isoformat()))})
    out.staging, out.bytes = remove_staging(settings.data_dir, now)
    out.finished = _clear_archives(settings, specs, now, lambda: clock() < until, out)
    if settings.keep_runs is not None:
        before = now - settings.keep_runs
        out.locks = remove_locks(settings.data_dir, before, now)
        steps = _steps(instance, settings, specs, before, now, at_once, out)
        out.finished = all(clock() < until for _ in steps) and out.finished
    text = out.sentence()
    log.event(
        "retention.ended", text, runs=out.runs, rows=out.rows, bytes=out.bytes, orphans=out.orphans,
        staging=out.staging, locks=out.locks, payloads=out.payloads, oldest=out.oldest, finished=out.finished,
    )  # fmt: skip
    return out


def _clear_archives(
    settings: Settings, specs: Collection[SourceSpec], now: datetime, going: Callable[[], bool], out: Cleared
) -> bool:
    """Remove old payloads of every source; return whether there was time for all of them."""
    from refresh_pipelines.archive.retention import archived, clear_archive  # noqa: PLC0415 - half a second's import
    from refresh_pipelines.warehouse import open_warehouse  # noqa: PLC0415

    sources = archived(settings.data_dir)
    if not sources:
        return True
    try:
        held = open_warehouse(settings).payloads()
    except RefreshError as error:
        # What was accepted is not known: nothing is removed.
        out.untouched = dict.fromkeys(sources, str(error))
        return True
    limits = {spec.source: spec.archive for spec in specs}
    waiting = Quarantine(settings.data_dir)
    for source in sources:
        if not going():
            return False
        try:
            kept = held.get(source, set()) | {record.payload for record in waiting.waiting(source)}
            removed = clear_archive(settings.data_dir, source, limits.get(source, Archive()), kept, now)
        except RefreshError as error:
            out.untouched[source] = str(error)
            continue
        out.bytes += removed.bytes
        if removed.payloads:
            out.archive[source] = removed
    return True


def is_due(settings: Settings, now: datetime) -> bool:
    """Whether nothing was removed for a day."""
    _, text = Kept(settings.data_dir, "retention").read().get(_ALL, ("", ""))
    return not text or now - datetime.fromisoformat(json.loads(text)) >= _DAILY


def _steps(
    instance: dg.DagsterInstance,
    settings: Settings,
    specs: Collection[SourceSpec],
    before: datetime,
    now: datetime,
    at_once: int,
    out: Cleared,
) -> Iterator[None]:
    """Remove a part and yield, again and again."""
    from refresh_pipelines.orchestration.internals_retention import Remover  # noqa: PLC0415 - half a second's import

    remover = Remover(instance)
    try:
        for run_id in remover.orphans(now - LEFT):
            out._add(remover.remove_files(run_id))
            out.orphans += 1
            yield
        needed = remover.needed(SOURCE, TRIGGER) | _needed(instance, settings, specs)
        yield from _remove_runs(remover, needed, before, at_once, out)
        while (gone := remover.remove_runless(before)).rows:
            out._add(gone)
            yield
    finally:
        out.oldest = remover.oldest()


def _remove_runs(
    remover: Remover, needed: Collection[str], before: datetime, at_once: int, out: Cleared
) -> Iterator[None]:
    place = 0
    while found := remover.old(before, SOURCE, place, at_once):
        some = [run for run in found if run.run_id not in needed]
        if some:
            out._add(remover.remove([run.run_id for run in some]))
            out._count(some)
        place = found[-1].place
        yield


def _needed(instance: dg.DagsterInstance, settings: Settings, specs: Collection[SourceSpec]) -> set[str]:
    """Return the runs that breakers and later tries go on from: a failure whose run is gone counts as none."""
    logs = Breakers(specs, settings, keeping=False).logs(instance).values()
    newest = {one.tries[-1].run_id for one in logs if one.tries}
    waiting = {entry.run_id for one in logs for entry in one.waiting}
    return newest | waiting | {event.run_id for one in logs for event in one.silent}
