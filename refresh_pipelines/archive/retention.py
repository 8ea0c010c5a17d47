"""What of the archive is removed: old payloads, then the oldest of too many, and what killed processes have left.

Never a payload that a partition was accepted with, one that waits in quarantine, or one that came within a day: its
refresh may not have come to an end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from refresh_pipelines.archive.entry import ArchiveEntry
from refresh_pipelines.archive.journal import Journal
from refresh_pipelines.archive.store import PART, Store
from refresh_pipelines.spec.archive import Archive

LEFT = timedelta(days=1)


@dataclass(frozen=True)
class Removed:
    """What was removed of one source: payloads, their bytes on disk, and when the newest of them came."""

    source: str
    payloads: int = 0
    bytes: int = 0
    newest: datetime | None = None


def archived(data_dir: Path) -> list[str]:
    """Return the sources that have a folder in the archive."""
    return sorted(path.name for path in (data_dir / "archive").glob("*") if path.is_dir())


def clear_archive(data_dir: Path, source: str, limits: Archive, held: Collection[str], now: datetime) -> Removed:
    """Remove what a source may no longer keep; return what that was.

    May be called at any time, by several at once, and be killed.

    Args:
        limits: how much may stay.
        held: payloads that stay whatever they are.

    Raises:
        InternalError: a manifest cannot be read; WarehouseBusy: another process held the folder for too long.
    """
    store = Store(data_dir, source)
    with store.locked():
        entries = sorted(filter(None, map(store.read, store.ids())), key=lambda one: (_last(store, one), one.id))
        going = list(_going(store, entries, limits, held, now))
        kept = [entry for entry in entries if entry not in going]
        parts = {part.sha256 for entry in kept for part in entry.parts}
        freed = 0
        for entry in going:
            store.manifest_path(entry.id).unlink(missing_ok=True)  # before its parts, which it promises
            freed += _remove_parts(store, entry, parts)
        freed += sum(_remove(path) for path in _leftovers(store, parts, now))
        if going:
            gone = {entry.id for entry in going}
            Journal(store).rewrite(lambda load: load.payload not in gone)
    newest = max((entry.kept_at for entry in going), default=None)
    return Removed(source, len(going), freed, newest)


def _going(
    store: Store, entries: list[ArchiveEntry], limits: Archive, held: Collection[str], now: datetime
) -> Iterator[ArchiveEntry]:
    """Yield the entries that go, the oldest first."""
    users: dict[str, int] = {}
    for entry in entries:
        for sha256 in {part.sha256 for part in entry.parts}:
            users[sha256] = users.get(sha256, 0) + 1
    total = sum(_size(store.part_path(sha256)) for sha256 in users)
    for entry in entries:
        last = _last(store, entry)
        if entry.id in held or last > now - LEFT or (last > now - limits.keep and total <= limits.max_bytes):
            continue
        for sha256 in {part.sha256 for part in entry.parts}:
            users[sha256] -= 1
            total -= _size(store.part_path(sha256)) if not users[sha256] else 0
        yield entry


def _last(store: Store, entry: ArchiveEntry) -> datetime:
    """Return when a payload came last: its manifest is touched when it comes again."""
    with suppress(OSError):
        touched = datetime.fromtimestamp(store.manifest_path(entry.id).stat().st_mtime, timezone.utc)
        return max(touched, entry.kept_at)
    return entry.kept_at


def _remove_parts(store: Store, entry: ArchiveEntry, needed: Collection[str]) -> int:
    return sum(_remove(store.part_path(part.sha256)) for part in entry.parts if part.sha256 not in needed)


def _leftovers(store: Store, needed: Collection[str], now: datetime) -> Iterator[Path]:
    """Yield files that a killed process has left half written, or without the manifest that was to name them."""
    before = (now - LEFT).timestamp()
    for path in store.folder.rglob("*"):
        half = path.name.endswith(PART)
        if (half or (path.suffix == ".zst" and path.stem not in needed)) and path.stat().st_mtime < before:
            yield path


def _remove(path: Path) -> int:
    size = _size(path)
    path.unlink(missing_ok=True)
    return size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
