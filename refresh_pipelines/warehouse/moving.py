"""A merge that puts changed rows to the end of the table: for a database that updates in place at a high price.

Seen with DuckDB 2.0 and 10,000 rows of which 1 % had changed, spread over a table of 10 million: two joins, an update
and the checkpoint after it took 1.1 CPU-seconds; one join, a delete and an insert take 0.4. Of an update the checkpoint
writes every touched row group anew, of a delete only which rows are gone.
"""

from __future__ import annotations

from refresh_pipelines.sql import columns, first_row, quote
from refresh_pipelines.warehouse.state import columns_of
from refresh_pipelines.warehouse.statements import Statements
from refresh_pipelines.warehouse.tables import LOAD_COLUMNS

# One line for each row of the table that is outdated, and for each staged row that is new, which has no `_at`.
_CHANGES = "temp._changes"


class MovingStatements(Statements):
    """Statements that ask once which rows are new and which have changed. The key of a row says which it is."""

    def upsert(self) -> tuple[int, int]:
        """See `Statements.upsert`. Raises InternalError when a step does not touch the rows it should."""
        if first_row(self.connection, f"SELECT 1 FROM {self.table} LIMIT 1") is None:  # noqa: S608 - quoted identifier
            return self._insert_staged(), 0
        others = self._others()
        changes, updated = self._find(others)
        if changes == self.rows and not updated:
            self._insert_staged()
        else:
            self._remove(updated)
            self._insert_changes(others, changes)
        # After an error it goes with the transaction.
        self.connection.execute(f"DROP TABLE {_CHANGES}")
        return changes - updated, updated

    def _insert_changes(self, others: tuple[str, ...], changes: int) -> None:
        """Insert the rows that are new, and those that were removed as they are now."""
        names = (*self.spec.columns, *LOAD_COLUMNS, *others)
        values = [
            columns(tuple(self.spec.columns), "s."), "$source, $partition",
            "CASE WHEN c._at IS NULL THEN $now ELSE c._first_seen_at END, $now, $run",
            *(f"c.{quote(name)}" for name in others),
        ]  # fmt: skip
        inserted = self._run(
            f"INSERT INTO {self.table} ({columns(names)}) SELECT {', '.join(values)}"  # noqa: S608 - quoted identifiers
            f" FROM staged s JOIN {_CHANGES} c ON {self._same('s', 'c')}"
        )
        self._require(inserted, changes)

    def _others(self) -> tuple[str, ...]:
        """Return the columns that the table has and this source does not declare: their values stay with the row."""
        known = {*self.spec.columns, *LOAD_COLUMNS}
        return tuple(name for name, *_ in columns_of(self.connection, "raw", self.spec.raw_table) if name not in known)

    def _find(self, others: tuple[str, ...]) -> tuple[int, int]:
        """Write down which rows are new or outdated; return how many both are, and how many are outdated."""
        kept = columns(("_first_seen_at", *others), "t.")
        outdated = f"t.rowid IS NOT NULL AND {self.outdated}" if self.compared else "false"
        statement = (
            f"CREATE TEMP TABLE _changes AS SELECT {columns(self.spec.merge_key, 's.')}, t.rowid AS _at, {kept}"  # noqa: S608
            f" FROM staged s LEFT JOIN {self.table} t ON {self.same_key} WHERE t.rowid IS NULL OR ({outdated})"
        )
        self._run(statement)
        row = first_row(self.connection, f"SELECT count(*), count(_at) FROM {_CHANGES}")  # noqa: S608 - own name
        changes, updated = row or (0, 0)
        return int(changes), int(updated)

    def _remove(self, updated: int) -> None:
        """Delete the outdated rows, which come again. DuckDB keeps a row's id the same within a transaction."""
        if not updated:
            return
        kept = self._keep(f"{self.table} AS t, staged s WHERE {self.outdated}", "update")
        found = f"t.rowid = c._at AND {self._same('t', 'c')}"
        deleted = self._run(f"DELETE FROM {self.table} AS t USING {_CHANGES} c WHERE {found}")  # noqa: S608 - quoted
        self._require(self._agreed(deleted, kept), updated)

    def _insert_staged(self) -> int:
        """Insert all staged rows: the table knows none of them."""
        inserted = self._insert("true")
        self._require(inserted, self.rows)
        return inserted
