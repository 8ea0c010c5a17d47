"""What killed processes and partitions of long ago leave in the data folder: found by age, removed unless in use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from refresh_pipelines.worker import workers

# A refresh takes an hour at most, unless its source says otherwise, and is looked for by the name of its run.
LEFT = timedelta(days=1)


def old_staging(data_dir: Path, now: datetime) -> list[Path]:
    """Return the folders of staged rows that are older than a day and that no run is at work on."""
    working = {one.run_id[:8] for one in workers(data_dir)}
    found = sorted((data_dir / "staging").glob("*"))
    return [path for path in found if path.name not in working and _before(path, now - LEFT)]


def remove_staging(data_dir: Path, now: datetime) -> tuple[int, int]:
    """Remove them; return how many folders and bytes these were."""
    count = size = 0
    for folder in old_staging(data_dir, now):
        size += sum(_size(path) for path in folder.rglob("*"))
        shutil.rmtree(folder, ignore_errors=True)
        count += not folder.exists()
    return count, size


def remove_locks(data_dir: Path, before: datetime, now: datetime) -> int:
    """Remove files of locks that nobody holds; return how many.

    Of each partition one is left when it was refreshed for the first time; a later refresh makes it anew. Of a run
    that was killed at a bad moment a part of its lock's files is left.

    Args:
        before: the partitions' files that are younger stay.
        now: the time it is.
    """
    count = 0
    for path in (data_dir / "locks").glob("*.lock"):
        if _before(path, before):
            # Whoever waits for a file that is taken away under its lock goes on with a new one.
            with suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
                path.unlink()
                count += 1
    for path in _parts(data_dir / "locks" / "runs"):
        if _before(path, now - LEFT):
            path.unlink(missing_ok=True)
            count += 1
    return count


def _parts(folder: Path) -> Iterator[Path]:
    """Yield the files in the folder of runs' locks without a lock: those with one are for `settle`."""
    for path in folder.glob("*") if folder.exists() else ():
        if path.suffix != ".lock" and not path.with_suffix(".lock").exists():
            yield path


def _before(path: Path, at: datetime) -> bool:
    try:
        return path.stat().st_mtime < at.timestamp()
    except OSError:
        return False  # it has just gone


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
