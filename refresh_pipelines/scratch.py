"""The folder one refresh works in: its own, empty at the start, gone at the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from refresh_pipelines.errors import InternalError

STALE = timedelta(days=1)
_TRIES = 10


@contextmanager
def scratch(data_dir: Path, run_id: str, source: str, partition: str | None, now: datetime) -> Iterator[Path]:
    """Yield an empty folder for this refresh; folders that a killed process left behind are swept.

    Args:
        source: its stem; several sources may share a run.

    Raises:
        InternalError: the data folder cannot be written, or the disk is full; also for an OSError
            out of the body, which nobody nearer could name.
    """
    base = data_dir / "staging"
    folder = base / run_id[:8] / (source + (f"@{quote(partition, safe='')}" if partition else ""))
    try:
        _sweep(base, now)
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder)
        yield folder
    except OSError as error:
        raise InternalError(
            f"the folder {base} cannot be used",
            came=str(error),
            todo="Nothing was loaded. Check REFRESH_DATA_DIR, its rights and the disk.",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # not empty: another refresh of the same run is at work there
            folder.parent.rmdir()


def _make(folder: Path) -> None:
    for left in reversed(range(_TRIES)):
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:
            # Another refresh of the same run has just ended and took the folder around it away.
            if not left:
                raise
        else:
            return


def _sweep(base: Path, now: datetime) -> None:
    for folder in base.glob("*"):
        # Another process may sweep the same folder at the same moment.
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < (now - STALE).timestamp():
                shutil.rmtree(folder, ignore_errors=True)
