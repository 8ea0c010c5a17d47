"""Load state in schema `refresh` of a DuckDB warehouse."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import duckdb

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sql import columns, first_row, quote
from refresh_pipelines.warehouse.base import LoadState
from refresh_pipelines.warehouse.completion import COMPLETION, add_rows

_NAMES = [field.name for field in fields(LoadState)]
_AT_ONCE = 100
_STATE_TABLES = """
CREATE SCHEMA IF NOT EXISTS refresh;
CREATE SCHEMA IF NOT EXISTS raw;
CREATE TABLE IF NOT EXISTS refresh.load_state (
    source VARCHAR NOT NULL, "partition" VARCHAR NOT NULL, spec_hash VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL, counts JSON NOT NULL, raw_sha256 VARCHAR NOT NULL, content_hash VARCHAR NOT NULL,
    data_version VARCHAR NOT NULL, bytes BIGINT NOT NULL, committed_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL, url VARCHAR NOT NULL, etag VARCHAR, last_modified VARCHAR,
    published_at TIMESTAMPTZ, "cursor" VARCHAR, "table" VARCHAR DEFAULT '',
    "rows" BIGINT DEFAULT 0, PRIMARY KEY (source, "partition"));
CREATE TABLE IF NOT EXISTS refresh.tables ("table" VARCHAR PRIMARY KEY, merge_key VARCHAR[] NOT NULL);
"""


def ensure_state_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create schemas and state tables that are not there yet, and bring those of an earlier version up to date."""
    if _are_current(connection):
        return  # the usual case; each CREATE IF NOT EXISTS costs as much as a small merge
    connection.execute(_STATE_TABLES)
    query = "SELECT 1 FROM duckdb_columns() WHERE schema_name = 'refresh' AND table_name = 'load_state'"
    if first_row(connection, f"{query} AND column_name = 'table'") is None:
        connection.execute("ALTER TABLE refresh.load_state ADD COLUMN \"table\" VARCHAR DEFAULT ''")
        _find_tables(connection)
    if first_row(connection, f"{query} AND column_name = 'rows'") is None:
        add_rows(connection, made_tables(connection))
    connection.execute(COMPLETION)


def _are_current(connection: duckdb.DuckDBPyConnection) -> bool:
    newest = (
        "(('load_state', 'table'), ('load_state', 'rows'), ('tables', 'merge_key'), ('completion', 'completed_at'))"
    )
    found = first_row(
        connection,
        "SELECT (SELECT count(*) FROM duckdb_columns() WHERE schema_name = 'refresh' AND NOT internal"  # noqa: S608
        f" AND (table_name, column_name) IN {newest}),"
        " (SELECT count(*) FROM duckdb_schemas() WHERE schema_name = 'raw' AND database_name = current_database())",
    )
    return found == (4, 1)


def _find_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Write into load states of an earlier version in which table the rows of their source lie."""
    for table in made_tables(connection):
        writers = f"SELECT DISTINCT _source FROM raw.{quote(table)}"  # noqa: S608 - quoted identifier
        statement = f'UPDATE refresh.load_state SET "table" = ? WHERE source = ? OR source IN ({writers})'  # noqa: S608
        connection.execute(statement, [table, table])


def made_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the names of the raw tables that refreshes have made and that are still there."""
    query = (
        'SELECT table_name FROM duckdb_tables() JOIN refresh.tables ON "table" = table_name'
        " WHERE schema_name = 'raw' ORDER BY table_name"
    )
    return [name for (name,) in connection.execute(query).fetchall()]


def read_states(connection: duckdb.DuckDBPyConnection, source: str, table: str = "") -> dict[str, LoadState]:
    """Return the load states of a source by partition key ("" without partitions); see `Warehouse.states`."""
    if not exists(connection, "refresh", "load_state") or (table and not exists(connection, "raw", table)):
        return {}
    result = connection.execute("SELECT * FROM refresh.load_state WHERE source = ?", [source])
    found = [column[0] for column in result.description or ()]
    states = {}
    for row in result.fetchall():
        # A warehouse of an earlier version has fewer columns until something is written; of a later one, more.
        known = {name: value for name, value in zip(found, row, strict=True) if name in _NAMES and value is not None}
        changed = {"table": known.get("table") or table, "counts": Counts(**json.loads(known["counts"]))}
        state = LoadState(**{**known, **changed})
        states[state.partition] = state
    return states


def exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    """Whether a table is there."""
    query = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    return first_row(connection, query, [schema, table]) is not None


def write_state(connection: duckdb.DuckDBPyConnection, *states: LoadState) -> None:
    """Insert or replace load states, each of another partition."""
    row = f"({', '.join('?' for _ in _NAMES)})"
    for first in range(0, len(states), _AT_ONCE):
        # Several rows in one statement take a twentieth of the time that as many statements do.
        some = states[first : first + _AT_ONCE]
        rows = ", ".join(row for _ in some)
        statement = f"INSERT OR REPLACE INTO refresh.load_state ({columns(_NAMES)}) VALUES {rows}"  # noqa: S608 - own column names
        connection.execute(statement, [value for state in some for value in _values(state)])


def _values(state: LoadState) -> list[object]:
    values = {name: getattr(state, name) for name in _NAMES}
    return list({**values, "counts": json.dumps(asdict(state.counts))}.values())
