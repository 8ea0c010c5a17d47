"""What became of one version of one file of a drop: a row of `refresh.file_ledger`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Status = Literal["loaded", "unchanged", "duplicate", "refused", "replaced"]


@dataclass(frozen=True)
class FileEntry:
    """One version of one file. Written in the transaction of its rows.

    Attributes:
        key: path relative to the folder of the drop; version: what the storage tells versions by.
        first_seen_at: when this version was first listed; stable_at: when it counted as whole.
        status: loaded; unchanged (the bytes of an earlier version of this file); duplicate (those of
            another file); refused (see `reason`); replaced (a later version of this file was loaded).
        rows_in: rows of the file; rows_loaded: those that were merged, without what a later file of the
            same run says anew; rows_rejected: those that do not fit.
        partition: the day of arrival.
        spec_hash: the YAML it was read under.
    """

    source: str
    key: str
    version: str
    size: int
    sha256: str
    first_seen_at: datetime
    stable_at: datetime | None
    processed_at: datetime
    status: Status
    rows_in: int = 0
    rows_loaded: int = 0
    rows_rejected: int = 0
    reason: str | None = None
    partition: str = ""
    run_id: str = ""
    spec_hash: str = ""
