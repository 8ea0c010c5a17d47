"""Versions of rows, of sources with `load.history`, written in the transaction of the change.

A raw table holds the present version of each row, valid since its `_updated_at`. What it no longer says lies in
`history._past_<table>`; the view `history.<table>` shows both. So inserting costs nothing more, and rows that were
there before history was switched on need not be copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from refresh_pipelines.errors import InternalError
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.state import columns_of, exists

# What a past version has beside the columns of the raw table.
_ENDED = {"_valid_to": "timestamptz", "_ended": "text", "_ended_run_id": "text"}


@dataclass(frozen=True)
class Keeper:
    """Writes down versions before they change.

    Attributes:
        table: name of the raw table.
        names: its columns.
    """

    table: str
    names: tuple[str, ...]

    def statement(self, rows: str, ended: Literal["update", "delete"]) -> str:
        """Return the statement that writes down versions which end now, at `$now` by the run `$run`.

        Args:
            rows: what follows FROM, with the raw table as `t`.
            ended: by what.
        """
        return (
            f"INSERT INTO {past_of(self.table)} ({columns(self.names)}, {columns(tuple(_ENDED))})"  # noqa: S608 - quoted
            f" SELECT {columns(self.names, 't.')}, $now, '{ended}', $run FROM {rows}"
        )

    def agreed(self, changed: int, kept: int | None) -> int:
        """Return `changed`. Raises InternalError if it is not the number of versions that were kept for it."""
        if changed != kept:
            raise InternalError(
                f"{changed} rows of raw.{self.table} have changed and {kept} versions were kept",
                todo="Nothing was loaded. If somebody wrote into the table by hand, remove rows with equal keys; "
                "otherwise please report it.",
            )
        return changed


def past_of(table: str) -> str:
    """Return the quoted name of the table that holds the past versions of a raw table's rows."""
    return f"history.{quote('_past_' + table)}"


def keeper_of(connection: Connection, spec: SourceSpec, at: datetime, *, created: bool) -> Keeper | None:
    """Return what keeps the versions of a source, with all it needs in place; None for one without `load.history`.

    Args:
        at: the instant of the commit.
        created: whether the raw table was made in this transaction.
    """
    if not spec.load.history:
        # Changes that nobody keeps end what is known: as-of must not pass over them.
        connection.execute("DELETE FROM refresh.histories WHERE source = ?", [spec.source])
        return None
    _remember(connection, spec, at, created=created)
    names = follow(connection, spec.raw_table)
    return Keeper(spec.raw_table, names)


def _remember(connection: Connection, spec: SourceSpec, at: datetime, *, created: bool) -> None:
    known = first_row(connection, 'SELECT "table" FROM refresh.histories WHERE source = ?', [spec.source])
    if known == (spec.raw_table,) and not created:
        return
    loaded = first_row(connection, "SELECT 1 FROM refresh.load_state WHERE source = ? LIMIT 1", [spec.source])
    statement = dialect_of(connection).replace("refresh.histories", ("source", "table", "since"), ("source",), 1)
    connection.execute(statement, [spec.source, spec.raw_table, at if loaded else None])


def follow(connection: Connection, table: str) -> tuple[str, ...]:
    """Give the past versions and the view of a raw table all its columns; return these."""
    known = f"SELECT 1 FROM {dialect_of(connection).schemas} s WHERE schema_name = 'history'"  # noqa: S608 - own text
    if first_row(connection, known) is None:
        connection.execute("CREATE SCHEMA IF NOT EXISTS history")
    dialect = dialect_of(connection)
    kinds = {name: kind for name, kind, _ in columns_of(connection, "raw", table)}
    there = {name for name, *_ in columns_of(connection, "history", f"_past_{table}")}
    wanted = {**kinds, **{name: dialect.type(kind) for name, kind in _ENDED.items()}}
    if not there:
        parts = ", ".join(f"{quote(name)} {kind}" for name, kind in wanted.items())
        connection.execute(f"CREATE TABLE {past_of(table)} ({parts})")
    for name in [name for name in wanted if there and name not in there]:
        connection.execute(f"ALTER TABLE {past_of(table)} ADD COLUMN {quote(name)} {wanted[name]}")
    names = tuple(kinds)
    shown = [name for name, *_ in columns_of(connection, "history", table)]
    if shown != [*names, "_valid_from", "_valid_to", "_op", "_ended", "_ended_run_id"]:
        _show(connection, table, names)
    return names


def _show(connection: Connection, table: str, names: tuple[str, ...]) -> None:
    """Make the view of all versions anew."""
    hide(connection, table)
    began = f"{columns(names)}, _updated_at AS _valid_from"
    how = "CASE WHEN _updated_at = _first_seen_at THEN 'insert' ELSE 'update' END AS _op"
    kinds = {name: dialect_of(connection).type(kind) for name, kind in _ENDED.items()}
    to, ended, run = (f"CAST(NULL AS {kind}) AS {name}" for name, kind in kinds.items())
    connection.execute(
        f"CREATE VIEW history.{quote(table)} AS SELECT {began}, {to}, {how}, {ended}, {run} FROM raw.{quote(table)}"  # noqa: S608
        f" UNION ALL SELECT {began}, _valid_to, {how}, _ended, _ended_run_id FROM {past_of(table)}"
    )
    about = f"Every version of each row of raw.{table}, valid from _valid_from to before _valid_to; NULL is until now"
    connection.execute(f"COMMENT ON VIEW history.{quote(table)} IS '{about}'")


def hide(connection: Connection, table: str) -> None:
    """Remove the view of all versions, before its raw table is dropped or renamed: PostgreSQL would refuse that."""
    if columns_of(connection, "history", table):
        connection.execute(f"DROP VIEW IF EXISTS history.{quote(table)}")


def instant_after(connection: Connection, table: str, at: datetime) -> datetime:
    """Return `at`, or the instant of the last commit to a raw table if that is later: versions follow one another.

    A clock may be put back, and a commit may wait for the one that began after it.
    """
    row = first_row(connection, 'SELECT max(committed_at) FROM refresh.load_state WHERE "table" = ?', [table])
    return max(at, row[0]) if row and row[0] else at


def past_tables(connection: Connection) -> list[str]:
    """Return the raw tables of which there are past versions, also those that were dropped since."""
    query = (
        f"SELECT table_name FROM {dialect_of(connection).tables} d"  # noqa: S608 - own text
        " WHERE schema_name = 'history' AND table_name LIKE '\\_past\\_%' ESCAPE '\\' ORDER BY table_name"
    )
    return [name.removeprefix("_past_") for (name,) in connection.execute(query).fetchall()]


def count_versions(connection: Connection, source: str) -> dict[str, int]:
    """Return how many past versions a source has, by raw table; only where there are any."""
    counts = {}
    for table in past_tables(connection):
        query = f"SELECT count(*) FROM {past_of(table)} WHERE _source = ?"  # noqa: S608 - quoted identifier
        counts[table] = int((first_row(connection, query, [source]) or (0,))[0])
    return {table: count for table, count in counts.items() if count}


def forget_versions(connection: Connection, source: str) -> None:
    """Remove the past versions of a source; drop what is empty then and has no raw table."""
    for table in past_tables(connection):
        connection.execute(f"DELETE FROM {past_of(table)} WHERE _source = ?", [source])  # noqa: S608 - quoted identifier
        row = first_row(connection, f"SELECT count(*) FROM {past_of(table)}")  # noqa: S608 - quoted identifier
        if not (row and row[0]) and not exists(connection, "raw", table):
            hide(connection, table)
            connection.execute(f"DROP TABLE {past_of(table)}")
    connection.execute("DELETE FROM refresh.histories WHERE source = ?", [source])


def rename_versions(connection: Connection, old: str, new: str) -> None:
    """Give the past versions of a source's old name to the source."""
    for table in past_tables(connection):
        connection.execute(f"UPDATE {past_of(table)} SET _source = ? WHERE _source = ?", [new, old])  # noqa: S608 - quoted
    connection.execute("UPDATE refresh.histories SET source = ? WHERE source = ?", [new, old])


def copy_histories(old: Connection, new: Connection) -> None:
    """Write down in one warehouse which sources keep versions in another, and since when."""
    if exists(old, "refresh", "histories"):
        for row in old.execute('SELECT source, "table", since FROM refresh.histories ORDER BY 1').fetchall():
            new.execute('INSERT INTO refresh.histories (source, "table", since) VALUES (?, ?, ?)', list(row))


def rename_past(connection: Connection, old: str, new: str) -> None:
    """Let the past versions follow a raw table that was renamed from `old` to `new`."""
    connection.execute('UPDATE refresh.histories SET "table" = ? WHERE "table" = ?', [new, old])
    if old in past_tables(connection):
        hide(connection, old)
        connection.execute(f"ALTER TABLE {past_of(old)} RENAME TO {quote('_past_' + new)}")
        follow(connection, new)
