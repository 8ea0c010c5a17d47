"""The schedule-change log: since when each source is due as it is now, for everybody who asks what should have been.

One row for each change that was seen of a source's cron expression, zone or `enabled`. What happened
while nobody looked is seen late; a store that was lost begins again from what the event log shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from refresh_pipelines.expected import Since, rhythm_of
from refresh_pipelines.ops import instant_text, ops_file, ops_store
from refresh_pipelines.spec import SourceSpec

_TABLE = """
CREATE TABLE IF NOT EXISTS schedule_changes (
    source TEXT NOT NULL, seen_at TEXT NOT NULL, cron TEXT, zone TEXT, PRIMARY KEY (source, seen_at));
"""


@dataclass(frozen=True)
class Change:
    """How a source was due from an instant on.

    Attributes:
        seen_at: when it was first seen so.
        cron: None while it is disabled, or not due at times.
    """

    source: str
    seen_at: datetime
    cron: str | None
    zone: str | None


class Rhythms:
    """The log, as of one reading; `note` keeps it up to date."""

    def __init__(self, data_dir: Path) -> None:
        self.path = ops_file(data_dir)

    def note(
        self, specs: Iterable[SourceSpec], now: datetime, known_since: Callable[[SourceSpec], datetime | None]
    ) -> None:
        """Write down what differs from the newest entry of each source.

        Args:
            known_since: asked once for a source that is new here: when it was refreshed first, if ever.
        """
        changes = self.read()
        new = [change for spec in specs if (change := _change(spec, changes.get(spec.source, ()), now, known_since))]
        if new:
            with ops_store(self.path, _TABLE) as connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO schedule_changes (source, seen_at, cron, zone) VALUES (?, ?, ?, ?)",
                    [(one.source, instant_text(one.seen_at), one.cron, one.zone) for one in new],
                )

    def read(self) -> dict[str, tuple[Change, ...]]:
        """Return all changes by source, oldest first; writes nothing."""
        if not self.path.exists():
            return {}
        out: dict[str, tuple[Change, ...]] = {}
        with ops_store(self.path, _TABLE) as connection:
            rows = connection.execute("SELECT source, seen_at, cron, zone FROM schedule_changes ORDER BY seen_at")
            for source, seen_at, cron, zone in rows:
                change = Change(source, datetime.fromisoformat(seen_at), cron, zone)
                out[source] = (*out.get(source, ()), change)
        return out

    def forget(self, source: str) -> None:
        """Remove a source's entries: it was retired."""
        if self.path.exists():
            with ops_store(self.path, _TABLE) as connection:
                connection.execute("DELETE FROM schedule_changes WHERE source = ?", [source])


def since_of(changes: Iterable[Change], resumed_at: datetime | None = None) -> Since | None:
    """Return from when a source's ticks count; None while it was never seen enabled.

    Args:
        changes: of one source, oldest first.
        resumed_at: when its schedule was last resumed by hand.
    """
    enabled_at: datetime | None = None
    was_off = False
    for change in changes:
        if change.cron is None:
            was_off = enabled_at is not None
        elif enabled_at is None:
            enabled_at = change.seen_at
        elif was_off:
            resumed_at = max(filter(None, (resumed_at, change.seen_at)))
            was_off = False
    return Since(enabled_at, resumed_at) if enabled_at else None


def same_since(changes: Iterable[Change]) -> datetime | None:
    """Return since when the source is due by its present cron expression and zone: earlier ticks were others."""
    newest = [*changes][-1:]
    return newest[0].seen_at if newest and newest[0].cron is not None else None


def _change(
    spec: SourceSpec, known: tuple[Change, ...], now: datetime, known_since: Callable[[SourceSpec], datetime | None]
) -> Change | None:
    rhythm = rhythm_of(spec)
    cron, zone = (rhythm.cron, rhythm.zone) if rhythm else (None, None)
    if known:
        changed = (known[-1].cron, known[-1].zone) != (cron, zone)
        return Change(spec.source, now, cron, zone) if changed else None
    return Change(spec.source, min(known_since(spec) or now, now), cron, zone) if rhythm else None
