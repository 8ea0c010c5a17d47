"""What an engine asks of a warehouse. No SQL here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from refresh_pipelines.differences import Differences
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.effects import Effects
from refresh_pipelines.outcome import Counts, Kind
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.weigh import Weight


@dataclass(frozen=True)
class LoadState:
    """What was last accepted for one source and partition; written in the transaction of the rows.

    Attributes:
        partition: the key, "" for a source without partitions.
        url, etag, last_modified: validators of the accepted payload.
        raw_sha256: hash of its bytes; content_hash: of its rows; data_version: content hash of the
            last load that changed rows.
        bytes: size of the accepted payload.
        cursor: newest value of `partitions.column`, ISO text.
        run_id, outcome, counts: the last commit, so that an event lost after it can be told.
        changed_at: when rows last changed.
        published_at: Last-Modified as the upstream gave it.
        committed_at: when this state was written.
        table: name of the raw table that holds the rows; the warehouse fills it in.
        rows: rows of this source and partition in it, after the last commit.
        profiles: the last accepted payloads in numbers, as `profile.written` has them.
        payload: the accepted payload in the archive; "" where none was kept.
    """

    source: str
    partition: str
    spec_hash: str
    run_id: str
    outcome: Kind
    counts: Counts
    raw_sha256: str
    content_hash: str
    data_version: str
    bytes: int
    committed_at: datetime
    changed_at: datetime
    url: str = ""
    etag: str | None = None
    last_modified: str | None = None
    published_at: datetime | None = None
    cursor: str | None = None
    table: str = ""
    rows: int = 0
    profiles: str = ""
    signal: str | None = None
    payload: str = ""


@dataclass(frozen=True)
class Commit:
    """One transaction to make.

    Attributes:
        state: what to remember; the warehouse fills in counts, outcome, data version and cursor.
        progress: told "merged" when the rows are written and the transaction is still open.
        files: what became of the files of a drop, to be written beside the rows.
        weight: what the payload is judged by; None: it is not.
        complete: whether nothing of what was asked for is missing.
        again: it was made before, and its instant stays, whatever was committed since.
        accepted: told the state as it was written while the transaction is still open; what it raises undoes all.
    """

    spec: SourceSpec
    partition: str | None
    staged: Staged
    state: LoadState
    progress: Callable[[str], None] = lambda _: None
    files: tuple[FileEntry, ...] = ()
    complete: bool = True
    weight: Weight | None = None
    again: bool = False
    accepted: Callable[[LoadState], None] = lambda _: None


@dataclass(frozen=True)
class Merged:
    """What the transaction did.

    Attributes:
        state: the load state as written, with counts, data version and cursor filled in.
        partition_rows: rows of this source and partition afterwards; table_rows: of the table.
        wait: seconds spent waiting for locks.
        notes: remarks for a person.
    """

    state: LoadState
    partition_rows: int
    table_rows: int
    wait: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holding:
    """Rows of one source in one raw table. `others` counts the rows beside them; with none the table is dropped.

    `versions` counts the past versions of its rows.
    """

    table: str
    rows: int
    others: int
    versions: int = 0


@dataclass(frozen=True)
class Remains:
    """What a source has in the warehouse: load states, one for each partition, rows, and rejected rows."""

    source: str
    states: int = 0
    holdings: tuple[Holding, ...] = ()
    rejected: int = 0


@dataclass(frozen=True)
class AsOf:
    """What a statement about the past gave. `notes` name tables that are not wholly known at that instant."""

    names: Sequence[str]
    rows: list[tuple[object, ...]]
    notes: list[str]


class Warehouse(Protocol):
    """A place for tables. Every call is short, locked and safe from any number of processes."""

    def states(self, source: str, table: str = "") -> tuple[dict[str, LoadState], float]:
        """Return the load states of a source by partition, and the seconds waited for the lock.

        Where `table` is named and no longer there, nothing is known: somebody dropped it to load anew.

        Raises:
            WarehouseBusy: somebody held the warehouse for too long.
        """
        ...

    def commit(self, commit: Commit) -> Merged:
        """Merge staged rows and write the load state, all or nothing.

        Raises:
            ContractViolation: a row belongs to another source or partition.
            Implausible: the payload is unlike those that were accepted before.
            SpecChanged: the table does not fit the declared columns.
            WarehouseBusy: somebody held the warehouse for too long.
        """
        ...

    def commit_all(self, commits: Sequence[Commit]) -> list[Merged]:
        """Make several commits in one transaction: all of them or none. Raises as `commit` does."""
        ...

    def preview(self, commit: Commit, examples: int) -> tuple[Merged, Effects]:
        """Return what a commit would say and do to the table; nothing is changed. Raises as `commit` does.

        A payload that would wait in quarantine raises nothing: its reasons are in the effects.

        Args:
            commit: what would be done.
            examples: how many rows of each kind are shown.
        """
        ...

    def compare(self, commit: Commit) -> Differences:
        """Return what a commit would do to the table, as examples; nothing is changed. Raises as `commit` does."""
        ...

    def touch(self, state: LoadState) -> float:
        """Write a load state alone, for a payload that is new in its bytes and old in its rows.

        Returns the seconds waited for the lock.
        """
        ...

    def files(
        self, source: str, table: str, keys: Sequence[str] = (), sha256: Sequence[str] = ()
    ) -> tuple[list[FileEntry], float]:
        """Return what is known of dropped files of these keys or contents, and the seconds waited for the lock.

        Where `table` is no longer there, nothing is known. Raises as `states`.
        """
        ...

    def record_files(self, entries: Sequence[FileEntry]) -> float:
        """Write what became of files that brought no rows. Returns the seconds waited for the lock."""
        ...

    def adopt(self, spec: SourceSpec) -> bool:
        """Carry over what was loaded under one of `spec.aliases`, all or nothing; return whether there was any.

        Raises:
            SpecChanged: it cannot be said what belongs where.
            WarehouseBusy: somebody held the warehouse for too long.
        """
        ...

    def sources(self) -> set[str]:
        """Return the names of all sources that have rows or load state, also of those no YAML declares."""
        ...

    def remains(self, source: str) -> Remains:
        """Count what a source has here."""
        ...

    def retire(self, source: str) -> Remains:
        """Remove a source's rows, load states and the tables only it has written; return what was removed."""
        ...

    def select(self, query: str, tables: Collection[str], path: Path) -> float:
        """Write the rows of one SELECT over `tables` of schema raw to an Arrow file of text.

        Returns the seconds waited for the lock.

        Raises:
            ContractViolation: the query cannot be run, or reads other tables.
            WarehouseBusy: somebody held the warehouse for too long.
        """
        ...

    def query_as_of(self, statement: str, at: datetime) -> AsOf:
        """Run one SELECT for which the tables of schema raw are as they were at `at`; of other schemas, as they are.

        Raises:
            ContractViolation: it cannot be run; reads tables of which no versions are kept; or does not only read.
            WarehouseBusy: somebody held the warehouse for too long.
        """
        ...

    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        """Run a read-only statement; return column names and rows."""
        ...
