"""What was worked out about each source, kept for the next process: `status.sqlite` in the data folder.

A run ends with `status.json` for all sources; of a thousand it changed one. Nothing here is a source
of truth: each entry says from what it was worked out, and the file may be deleted at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from refresh_pipelines.ops import ops_store

_TABLES = """
CREATE TABLE IF NOT EXISTS kept (
    kind TEXT NOT NULL, source TEXT NOT NULL, basis TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, source));
"""


def status_store(data_dir: Path) -> Path:
    """Return the file's path."""
    return data_dir / "status.sqlite"


class Kept:
    """One kind of entries, as (basis, value) by source."""

    def __init__(self, data_dir: Path, kind: str) -> None:
        self.path, self.kind = status_store(data_dir), kind

    def read(self) -> dict[str, tuple[str, str]]:
        """Return every entry; none where the file is missing or cannot be read."""
        if not self.path.exists():
            return {}
        try:
            with ops_store(self.path, _TABLES) as store:
                rows = store.execute("SELECT source, basis, value FROM kept WHERE kind = ?", [self.kind])
                return {source: (basis, value) for source, basis, value in rows}
        except (OSError, sqlite3.Error):
            return {}  # it is worked out anew, as if there were no file

    def write(self, entries: Mapping[str, tuple[str, str]]) -> None:
        """Write entries over those of the same sources; where that cannot be done, leave it."""
        if not entries:
            return
        try:
            with ops_store(self.path, _TABLES) as store:
                store.executemany(
                    "INSERT OR REPLACE INTO kept (kind, source, basis, value) VALUES (?, ?, ?, ?)",
                    [(self.kind, source, *entry) for source, entry in entries.items()],
                )
        except (OSError, sqlite3.Error):
            return  # the next process works it out once more


def start_over(data_dir: Path, history: str) -> None:
    """Delete the file where it was worked out from another history than this: its places in the log mean nothing here.

    Args:
        history: which one it is; "" for the one in SQLite of the data folder.
    """
    kept = Kept(data_dir, "history")
    if kept.read().get("|all", ("", ""))[1] == history:
        return
    for path in data_dir.glob("status.sqlite*"):
        path.unlink(missing_ok=True)
    kept.write({"|all": ("", history)})
