"""The statements of one merge, over the raw table as `t` and the staged rows as `s`.

Which rows they touch is told by conditions, which the preview reads as well: what is shown is what would be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.errors import ContractViolation, InternalError
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import Commit
from refresh_pipelines.warehouse.history import Keeper


class Statements:
    """What one merge asks of its connection while rows are staged.

    Args:
        table: the raw table, quoted and with its schema.
        keeper: writes down versions before they change; None for a source without `load.history`.
    """

    def __init__(self, connection: Connection, commit: Commit, table: str, keeper: Keeper | None = None) -> None:
        self.connection, self.table, self.keeper = connection, table, keeper
        self.spec: SourceSpec = commit.spec
        self.partition, self.state = commit.partition, commit.state
        self.same_key = self._same("t", "s")
        self.rows, self._rejected = commit.staged.rows, commit.staged.rejects is not None

    def named(self, statement: str, keys: object = ()) -> dict[str, object]:
        """Return what the places of a statement stand for, and no others: DuckDB would refuse them."""
        values: dict[str, object] = {
            "source": self.spec.source,
            "partition": self.partition,
            "now": self.state.committed_at,
            "run": self.state.run_id,
            "keys": keys,
        }
        return {name: value for name, value in values.items() if f"${name}" in statement}

    @property
    def compared(self) -> list[str]:
        """The columns in which a row can differ."""
        key, volatile = self.spec.merge_key, self.spec.load.volatile
        return [name for name in self.spec.columns if name not in key and name not in volatile]

    @property
    def differs(self) -> str:
        """The condition on `t` and `s` under which a known row is another than the staged one."""
        return " OR ".join(f"t.{quote(name)} IS DISTINCT FROM s.{quote(name)}" for name in self.compared) or "false"

    @property
    def outdated(self) -> str:
        """The condition on `t` and `s` under which a row is updated."""
        # Of dropped files the one that arrived last speaks, also when an older day is read again.
        newest = " AND t._partition <= $partition" if self.spec.request.drop else ""
        return f"{self.same_key} AND ({self.differs}){newest}"

    @property
    def new(self) -> str:
        """The condition on `s` under which a row is inserted."""
        return f"NOT EXISTS (SELECT 1 FROM {self.table} t WHERE {self.same_key})"  # noqa: S608 - quoted identifiers

    @property
    def gone(self) -> str:
        """The condition on `t` under which the payload has no such row, neither a good nor a rejected one."""
        unknown = f"NOT EXISTS (SELECT 1 FROM staged s WHERE {self.same_key})"  # noqa: S608 - quoted identifiers
        if not self._rejected:
            return unknown
        return f"{unknown} AND NOT EXISTS (SELECT 1 FROM rejects r WHERE {self._same('t', 'r')})"  # noqa: S608 - quoted identifiers

    def vanished(self, *, everywhere: bool) -> str:
        """Return the condition on `t` for rows of the source that are no longer staged.

        Args:
            everywhere: in all partitions of the source; otherwise in this one.
        """
        here = "" if everywhere else " AND t._partition IS NOT DISTINCT FROM $partition"
        return f"t._source = $source{here} AND {self.gone}"

    def replaced(self, files: Sequence[FileEntry]) -> str | None:
        """Return the condition on `t` for rows of files that were loaded anew and no longer hold them.

        None where no column says from which file a row is, or no file was loaded.
        """
        column, keys = self.spec.file_column, [entry.key for entry in files if entry.status == "loaded"]
        if column is None or not keys:
            return None
        return f"t._source = $source AND t.{quote(column)} IN (SELECT unnest($keys)) AND {self.gone}"

    def table_rows(self) -> int:
        """Count the rows of the table."""
        row = first_row(self.connection, f"SELECT count(*) FROM {self.table}")  # noqa: S608 - quoted identifier
        return int(row[0]) if row else 0

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

    def count(self, condition: str) -> int:
        """Count the rows of the table under a condition on `t`."""
        return self._run(f"SELECT count(*) FROM {self.table} AS t WHERE {condition}")  # noqa: S608 - own conditions

    def count_known(self, condition: str) -> int:
        """Count the staged rows that the table knows and for which a condition on `t` and `s` holds."""
        return self._run(f"SELECT count(*) FROM {self.table} t JOIN staged s ON {self.same_key} WHERE {condition}")  # noqa: S608

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

    def delete(self, condition: str, keys: Sequence[str] = ()) -> int:
        """Delete the rows of the table under a condition on `t`; return how many."""
        kept = self._keep(f"{self.table} AS t WHERE {condition}", "delete", keys)
        deleted = self._run(f"DELETE FROM {self.table} AS t WHERE {condition}", keys)  # noqa: S608 - own conditions
        return self._agreed(deleted, kept)

    def upsert(self) -> tuple[int, int]:
        """Update rows whose values differ and insert those that are new; return how many were new, and how many not.

        A change of volatile columns alone is none. One join with the table says which rows these are; the two of an
        update and an insert took half as long again. This is PostgreSQL's way; for DuckDB's see `moving`.
        """
        if not self._exist(self.table):
            return self._insert("true"), 0
        first = quote(self.spec.merge_key[0])
        differs = f"({self.outdated})" if self.compared else "false"
        statement = (
            f"CREATE TEMPORARY TABLE _changes ON COMMIT DROP AS SELECT {columns(self.spec.merge_key, 's.')},"  # noqa: S608
            f" t.{first} IS NOT NULL AS _known FROM staged s LEFT JOIN {self.table} t ON {self.same_key}"
            f" WHERE t.{first} IS NULL OR {differs}"
        )
        self._run(statement)
        self.connection.execute("ANALYZE pg_temp._changes")
        updated = self._update_changed()
        added = self._insert_found()
        self.connection.execute("DROP TABLE pg_temp._changes")
        return added, updated

    def _insert_found(self) -> int:
        nulls = " OR ".join(f"{quote(name)} IS NULL" for name in self.spec.merge_key)
        if self._exist(f"pg_temp._changes WHERE {nulls}"):
            return self._insert(self.new)  # which the database refuses
        found = self._same("c", "s")
        added = self._insert(f"EXISTS (SELECT 1 FROM pg_temp._changes c WHERE NOT c._known AND {found})")  # noqa: S608
        self._require(added, self._run("SELECT count(*) FROM pg_temp._changes WHERE NOT _known"))
        return added

    def _exist(self, rows: str) -> bool:
        return first_row(self.connection, f"SELECT 1 FROM {rows} LIMIT 1") is not None  # noqa: S608 - own names

    def _update_changed(self) -> int:
        values = [name for name in self.spec.columns if name not in self.spec.merge_key]
        if not self.compared or not self._exist("pg_temp._changes WHERE _known"):
            return 0
        assignments = ", ".join(f"{quote(name)} = s.{quote(name)}" for name in values)
        found = f"staged s JOIN pg_temp._changes c ON {self._same('c', 's')} AND c._known"
        kept = self._keep(f"{self.table} AS t, {found} WHERE {self.outdated}", "update")
        updated = self._run(
            f"UPDATE {self.table} AS t SET {assignments}, _partition = $partition, _updated_at = $now, _run_id = $run"  # noqa: S608
            f" FROM {found} WHERE {self.outdated}"
        )
        return self._agreed(updated, kept)

    def insert_new(self) -> int:
        """Insert rows whose key is not in the table."""
        return self._insert(self.new)

    def _insert(self, condition: str) -> int:
        """Insert the staged rows under a condition on `s`."""
        names = columns(tuple(self.spec.columns))
        return self._run(
            f"INSERT INTO {self.table} ({names}, _source, _partition, _first_seen_at, _updated_at, _run_id)"  # noqa: S608
            f" SELECT {columns(tuple(self.spec.columns), 's.')}, $source, $partition, $now, $now, $run"
            f" FROM staged s WHERE {condition}"
        )

    def _keep(self, rows: str, ended: Literal["update", "delete"], keys: Sequence[str] = ()) -> int | None:
        if self.keeper is None:
            return None
        return self._run(self.keeper.statement(rows, ended), keys)

    def _agreed(self, changed: int, kept: int | None) -> int:
        return changed if self.keeper is None else self.keeper.agreed(changed, kept)

    def _run(self, statement: str, keys: Sequence[str] = ()) -> int:
        row = first_row(self.connection, statement, self.named(statement, list(keys)))
        return int(row[0]) if row else 0

    def _require(self, touched: int, expected: int) -> None:
        if touched != expected:
            raise InternalError(
                f"a merge into raw.{self.spec.raw_table} touched {touched} rows in place of {expected}",
                todo="Nothing was loaded. If somebody wrote into the table by hand, remove rows with equal "
                f"({', '.join(self.spec.merge_key)}); otherwise please report it.",
            )

    def _same(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{quote(name)} = {other}.{quote(name)}" for name in self.spec.merge_key)
