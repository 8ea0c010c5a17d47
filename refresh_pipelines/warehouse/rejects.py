"""`quarantine.<table>`: the rejected rows of the last accepted payload of each partition, with why.

They are written in the transaction of the accepted rows and put in the place of the partition's earlier ones,
so that a row is there as long as upstream serves it broken. Of dropped files those of each file stay until the
file is read again.
"""

from __future__ import annotations

import pyarrow as pa

from refresh_pipelines.rejects import read_rejects
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.base import Commit, LoadState
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.state import exists

_COLUMNS = {
    "reason": "text",
    "column_names": "text",
    "raw": "json",
    "row_number": "bigint",
    "part": "text",
    "_source": "text",
    "_partition": "text",
    "_run_id": "text",
    "rejected_at": "timestamptz",
    "payload_sha256": "text",
}
_COMMENTS = {
    "": "Rows of raw.{table} that broke the contract; load.reject_share says how many may",
    "reason": "what is wrong, for each column",
    "column_names": "columns whose demands the row breaks",
    "raw": "the fields of the payload as they came",
    "row_number": "number of the row in its payload, from 1",
    "part": "which of several payloads it was, for instance series_id=DGS10",
    "rejected_at": "when the rows beside it were loaded",
    "payload_sha256": "hash of the payload, as in the event of the refresh",
}


def put_aside(connection: Connection, commit: Commit, state: LoadState) -> None:
    """Put the rejected rows of a commit in the place of earlier ones of its partition, or of its files."""
    table, staged = commit.spec.raw_table, commit.staged
    if not exists(connection, "quarantine", table):
        if not staged.rejected:
            return
        _create(connection, table)
    _remove_earlier(connection, commit)
    rejected = read_rejects(staged.rejects)
    if rejected is not None:
        names = columns(tuple(_COLUMNS))
        dialect_of(connection).fill(
            connection, f"quarantine.{quote(table)}", names, _as_stored(rejected, commit, state)
        )


def _create(connection: Connection, table: str) -> None:
    dialect = dialect_of(connection)
    known = f"SELECT 1 FROM {dialect.schemas} s WHERE schema_name = 'quarantine'"  # noqa: S608 - own text
    if first_row(connection, known) is None:
        connection.execute("CREATE SCHEMA IF NOT EXISTS quarantine")
    parts = ", ".join(f"{quote(name)} {dialect.type(kind)}" for name, kind in _COLUMNS.items())
    name = f"quarantine.{quote(table)}"
    connection.execute(f"CREATE TABLE {name} ({parts})")
    for column, text in _COMMENTS.items():
        what = f"COLUMN {name}.{quote(column)}" if column else f"TABLE {name}"
        connection.execute(f"COMMENT ON {what} IS '{text.format(table=table)}'")


def _remove_earlier(connection: Connection, commit: Commit) -> None:
    name, source = f"quarantine.{quote(commit.spec.raw_table)}", commit.spec.source
    if commit.files:
        parts = [f"file={entry.key}" for entry in commit.files if entry.status == "loaded"]
        connection.execute(
            f"DELETE FROM {name} WHERE _source = $source AND part IN (SELECT unnest($parts))",  # noqa: S608 - quoted
            {"source": source, "parts": parts},
        )
        return
    connection.execute(
        f"DELETE FROM {name} WHERE _source = ? AND _partition IS NOT DISTINCT FROM ?",  # noqa: S608 - quoted identifier
        [source, commit.partition],
    )


def _as_stored(rejected: pa.Table, commit: Commit, state: LoadState) -> pa.Table:
    rows = rejected.num_rows
    own = {
        "reason": rejected["_reason"], "column_names": rejected["_columns"], "raw": rejected["_raw"],
        "row_number": rejected["_row"], "part": rejected["_part"],
    }  # fmt: skip
    shared = {
        "_source": commit.spec.source, "_partition": commit.partition, "_run_id": state.run_id,
        "rejected_at": state.committed_at, "payload_sha256": commit.state.raw_sha256 or None,
    }  # fmt: skip
    moment = pa.timestamp("us", tz="UTC")
    same = {
        name: pa.repeat(pa.scalar(value, moment if name == "rejected_at" else pa.string()), rows)
        for name, value in shared.items()
    }
    return pa.table({**own, **same})


def quarantine_tables(connection: Connection) -> list[str]:
    """Return the names of the tables of rejected rows."""
    query = (
        f"SELECT c.table_name FROM {dialect_of(connection).columns} c"  # noqa: S608 - own text
        " WHERE schema_name = 'quarantine' AND column_name = 'payload_sha256' ORDER BY table_name"
    )
    return [name for (name,) in connection.execute(query).fetchall()]


def count_rejected(connection: Connection, source: str, table: str) -> int:
    """Count the rejected rows of a source."""
    if not exists(connection, "quarantine", table):
        return 0
    query = f"SELECT count(*) FROM quarantine.{quote(table)} WHERE _source = ?"  # noqa: S608 - quoted identifier
    return int((first_row(connection, query, [source]) or (0,))[0])


def forget_rejected(connection: Connection, source: str) -> None:
    """Remove the rejected rows of a source, and tables that are empty then."""
    for table in quarantine_tables(connection):
        name = f"quarantine.{quote(table)}"
        connection.execute(f"DELETE FROM {name} WHERE _source = ?", [source])  # noqa: S608 - quoted identifier
        if first_row(connection, f"SELECT 1 FROM {name} LIMIT 1") is None:  # noqa: S608 - quoted identifier
            connection.execute(f"DROP TABLE {name}")


def rename_rejected(connection: Connection, old: str, new: str) -> None:
    """Give the rejected rows of a source's old name to the source."""
    for table in quarantine_tables(connection):
        connection.execute(f"UPDATE quarantine.{quote(table)} SET _source = ? WHERE _source = ?", [new, old])  # noqa: S608


def rename_quarantine(connection: Connection, old: str, new: str) -> None:
    """Let the table of rejected rows follow a raw table that was renamed."""
    if exists(connection, "quarantine", old):
        connection.execute(f"ALTER TABLE quarantine.{quote(old)} RENAME TO {quote(new)}")
