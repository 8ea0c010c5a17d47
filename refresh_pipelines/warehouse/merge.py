"""The merge itself, inside an open transaction, with exact counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.errors import ContractViolation, InternalError
from refresh_pipelines.outcome import Counts
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import Commit, Merged
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.tables import ensure_table


def merge(connection: Connection, commit: Commit, wait: float, table: str = "") -> Merged:
    """Bring the partition to what is staged and return what that took.

    Args:
        table: what `ensure_table` said of this source earlier in the transaction.

    Raises:
        ContractViolation: a staged key belongs to another source, or to another partition of a
            source that replaces partitions.
        SpecChanged: see `ensure_table`.
        InternalError: the counts do not add up; the transaction must be rolled back.
    """
    spec, staged = commit.spec, commit.staged
    table = table or ensure_table(connection, spec)
    with dialect_of(connection).stage(connection, spec, staged):
        step = _Step(connection, commit, table)
        step.refuse_foreign_rows()
        step.refuse_lost_values()
        deleted = step.delete_vanished() if spec.replaces else step.delete_replaced(commit.files)
        updated = step.update_changed()
        added = step.insert_new()
    counts = Counts(
        fetched=staged.fetched,
        added=added,
        updated=updated,
        unchanged=staged.rows - added - updated,
        deleted=deleted,
        duplicates=staged.duplicates,
        filtered=staged.filtered,
    )
    if not counts.balanced() or counts.unchanged < 0:
        raise InternalError(
            f"the counts of the merge do not add up: {counts}",
            todo=f"Nothing was loaded. If somebody wrote into raw.{spec.raw_table} by hand, remove rows with equal "
            f"({', '.join(spec.merge_key)}); otherwise please report it.",
        )
    changed = bool(added or updated or deleted)
    partition_rows, cursor = step.rows_and_cursor()
    state = replace(
        commit.state,
        counts=counts,
        outcome="empty" if not (staged.rows or commit.files) else "loaded" if changed else "unchanged",
        rows=partition_rows,
        data_version=staged.content_hash if changed or not commit.state.data_version else commit.state.data_version,
        changed_at=commit.state.committed_at if changed else commit.state.changed_at,
        cursor=cursor,
    )
    return Merged(state, partition_rows, step.table_rows(), wait)


class _Step:
    """The statements of one merge. `t` is the table, `s` the staged rows."""

    def __init__(self, connection: Connection, commit: Commit, table: str) -> None:
        self.connection, self.table = connection, table
        self.spec: SourceSpec = commit.spec
        self.partition, self.state = commit.partition, commit.state
        self.same_key = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in self.spec.merge_key)

    def table_rows(self) -> int:
        """Count the rows of the table."""
        row = first_row(self.connection, f"SELECT count(*) FROM {self.table}")  # noqa: S608 - quoted identifier
        return int(row[0]) if row else 0

    def refuse_foreign_rows(self) -> None:
        """Stop when a staged key is somebody else's row."""
        foreign = "t._source IS DISTINCT FROM $source"
        values: dict[str, object] = {"source": self.spec.source}
        if self.spec.replaces:
            foreign += " OR t._partition IS DISTINCT FROM $partition"
            values["partition"] = self.partition
        order = ", ".join(str(number + 1) for number in range(2 + len(self.spec.merge_key)))
        query = (
            f"SELECT t._source, t._partition, {columns(self.spec.merge_key, 't.')} FROM {self.table} t"  # noqa: S608
            f" JOIN staged s ON {self.same_key} WHERE {foreign} ORDER BY {order} LIMIT 1"
        )
        row = first_row(self.connection, query, values)
        if row:
            where = f"{row[0]}[{row[1]}]" if row[1] else row[0] or "nobody we know (its _source is empty)"
            raise ContractViolation(
                f"a row of raw.{self.spec.raw_table} belongs to {where}",
                expected="rows that no other source or partition has written",
                came=f"({', '.join(self.spec.merge_key)}) = ({', '.join(map(str, row[2:]))})",
                todo="Nothing was loaded. Give one of the two its own `table:`, or add a column to merge_key.",
            )

    def refuse_lost_values(self) -> None:
        """Stop when values of an `expect.keep` column that the table holds are gone from the payload."""
        for name, share in self.spec.expect.keep.items():
            known = (
                f"SELECT DISTINCT {quote(name)} FROM {self.table}"  # noqa: S608 - quoted identifiers
                f" WHERE _source = $source AND _partition IS NOT DISTINCT FROM $partition AND {quote(name)} IS NOT NULL"
            )
            values = {"source": self.spec.source, "partition": self.partition}
            lost_query = f"{known} EXCEPT SELECT DISTINCT {quote(name)} FROM staged"  # noqa: S608 - quoted identifiers
            query = (
                f"SELECT (SELECT count(*) FROM ({known}) k), count(*), (array_agg(v ORDER BY v))[1:5]"  # noqa: S608
                f" FROM ({lost_query}) l(v)"
            )
            before, lost, examples = first_row(self.connection, query, values) or (0, 0, [])
            if lost * 100 > before * int(share.rstrip("%")):
                raise ContractViolation(
                    "the payload is not whole",
                    expected=f"at most {share} of the {before} different {name} of the table to be gone (expect.keep)",
                    came=f"{lost} gone: {', '.join(map(str, examples))}{' …' if lost > len(examples) else ''}",
                    todo="Nothing was loaded. The export may have stopped half-way: look at the payload. If they are "
                    "gone for good, raise the share in expect.keep for one refresh.",
                )

    def delete_vanished(self) -> int:
        """Delete this partition's rows that are no longer staged."""
        return self._run(
            f"DELETE FROM {self.table} AS t WHERE t._source = $source AND t._partition IS NOT DISTINCT FROM $partition"  # noqa: S608
            f" AND NOT EXISTS (SELECT 1 FROM staged s WHERE {self.same_key})",
            ("source", "partition"),
        )

    def delete_replaced(self, files: Sequence[FileEntry]) -> int:
        """Delete rows of files that were loaded anew and no longer hold them, where a column says which they are."""
        column, keys = self.spec.file_column, [entry.key for entry in files if entry.status == "loaded"]
        if column is None or not keys:
            return 0
        row = first_row(
            self.connection,
            f"DELETE FROM {self.table} AS t WHERE t._source = $source AND t.{quote(column)} IN (SELECT unnest($keys))"  # noqa: S608
            f" AND NOT EXISTS (SELECT 1 FROM staged s WHERE {self.same_key})",
            {"source": self.spec.source, "keys": keys},
        )
        return int(row[0]) if row else 0

    def update_changed(self) -> int:
        """Update rows whose values differ; a change of volatile columns alone is none."""
        values = [name for name in self.spec.columns if name not in self.spec.merge_key]
        compared = [name for name in values if name not in self.spec.load.volatile]
        if not compared:
            return 0
        assignments = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in values)
        differs = " OR ".join(f"t.{quote(name)} IS DISTINCT FROM s.{quote(name)}" for name in compared)
        # Of dropped files the one that arrived last speaks, also when an older day is read again.
        newest = " AND t._partition <= $partition" if self.spec.request.drop else ""
        return self._run(
            f"UPDATE {self.table} AS t SET {assignments}, _partition = $partition, _updated_at = $now, _run_id = $run"  # noqa: S608
            f" FROM staged s WHERE {self.same_key} AND ({differs}){newest}",
            ("partition", "now", "run"),
        )

    def insert_new(self) -> int:
        """Insert rows whose key is not in the table."""
        names = columns(tuple(self.spec.columns))
        return self._run(
            f"INSERT INTO {self.table} ({names}, _source, _partition, _first_seen_at, _updated_at, _run_id)"  # noqa: S608
            f" SELECT {columns(tuple(self.spec.columns), 's.')}, $source, $partition, $now, $now, $run"
            f" FROM staged s WHERE NOT EXISTS (SELECT 1 FROM {self.table} t WHERE {self.same_key})",
            ("source", "partition", "now", "run"),
        )

    def rows_and_cursor(self) -> tuple[int, str | None]:
        """Return the rows of this partition, and the newest accepted value of `partitions.column` as ISO text."""
        column = self.spec.partitions.column if self.spec.partitions else None
        newest = f"max({quote(column)})" if column else "NULL"
        row = first_row(
            self.connection,
            f"SELECT count(*), {newest} FROM {self.table} WHERE _source = ? AND _partition IS NOT DISTINCT FROM ?",  # noqa: S608
            [self.spec.source, self.partition],
        )
        rows, last = row or (0, None)
        return int(rows), None if last is None else last.isoformat()

    def _run(self, statement: str, names: tuple[str, ...]) -> int:
        known = {
            "source": self.spec.source,
            "partition": self.partition,
            "now": self.state.committed_at,
            "run": self.state.run_id,
        }
        row = first_row(self.connection, statement, {name: known[name] for name in names})
        return int(row[0]) if row else 0
