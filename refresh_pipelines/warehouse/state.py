"""Load state in schema `refresh` of the warehouse."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sql import Connection, first_row, quote
from refresh_pipelines.warehouse.base import LoadState
from refresh_pipelines.warehouse.completion import COMPLETION, count_rows
from refresh_pipelines.warehouse.dialect import dialect_of

_NAMES = [field.name for field in fields(LoadState)]
_AT_ONCE = 100
# Columns that an earlier version's load_state lacks.
_LATER = {
    "table": "VARCHAR DEFAULT ''", "rows": "BIGINT DEFAULT 0", "profiles": "VARCHAR DEFAULT ''", "signal": "VARCHAR",
    "payload": "VARCHAR DEFAULT ''",
}  # fmt: skip
_STATE_TABLES = """
CREATE TABLE IF NOT EXISTS refresh.load_state (
    source VARCHAR NOT NULL, "partition" VARCHAR NOT NULL, spec_hash VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL, counts JSON NOT NULL, raw_sha256 VARCHAR NOT NULL, content_hash VARCHAR NOT NULL,
    data_version VARCHAR NOT NULL, bytes BIGINT NOT NULL, committed_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL, url VARCHAR NOT NULL, etag VARCHAR, last_modified VARCHAR,
    published_at TIMESTAMPTZ, "cursor" VARCHAR, "table" VARCHAR DEFAULT '',
    "rows" BIGINT DEFAULT 0, profiles VARCHAR DEFAULT '', payload VARCHAR DEFAULT '',
    signal VARCHAR, PRIMARY KEY (source, "partition"));
CREATE TABLE IF NOT EXISTS refresh.tables ("table" VARCHAR PRIMARY KEY, merge_key VARCHAR[] NOT NULL);
-- Which source keeps versions in which table (`history`); since NULL: from its first load on.
CREATE TABLE IF NOT EXISTS refresh.histories (
    source VARCHAR PRIMARY KEY, "table" VARCHAR NOT NULL, since TIMESTAMPTZ);
-- Which field of which source has made a column that no YAML declares (`evolved`).
CREATE TABLE IF NOT EXISTS refresh.evolved_columns (
    source VARCHAR NOT NULL, "table" VARCHAR NOT NULL, "column" VARCHAR NOT NULL, field VARCHAR NOT NULL,
    since TIMESTAMPTZ NOT NULL, run_id VARCHAR NOT NULL, PRIMARY KEY (source, "table", "column"));
"""


def ensure_state_tables(connection: Connection) -> None:
    """Create schemas and state tables that are not there yet, and bring those of an earlier version up to date."""
    if is_current(connection):
        return  # the usual case; each CREATE IF NOT EXISTS costs as much as a small merge
    for schema in ("refresh", "raw"):
        known = f"SELECT 1 FROM {dialect_of(connection).schemas} s WHERE schema_name = ?"  # noqa: S608 - own text
        # Asked first: PostgreSQL wants a right for CREATE SCHEMA also where there is nothing to create.
        if first_row(connection, known, [schema]) is None:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    connection.execute(_STATE_TABLES)
    known_columns = {name for name, *_ in columns_of(connection, "refresh", "load_state")}
    for name, kind in _LATER.items():
        if name not in known_columns:
            connection.execute(f"ALTER TABLE refresh.load_state ADD COLUMN {quote(name)} {kind}")
            if name == "table":
                _find_tables(connection)
            elif name == "rows":
                count_rows(connection, made_tables(connection))
    connection.execute(COMPLETION)


def is_current(connection: Connection) -> bool:
    """Whether the state tables are there, and as this version wants them."""
    newest = [*(("load_state", name) for name in _LATER), ("tables", "merge_key"), ("completion", "completed_at")]
    newest += [("histories", "since"), ("evolved_columns", "field")]
    listed = ", ".join(f"('{table}', '{column}')" for table, column in newest)
    dialect = dialect_of(connection)
    found = first_row(
        connection,
        f"SELECT (SELECT count(*) FROM {dialect.columns} c WHERE schema_name = 'refresh'"  # noqa: S608 - own text
        f" AND (table_name, column_name) IN ({listed})),"
        f" (SELECT count(*) FROM {dialect.schemas} s WHERE schema_name = 'raw')",
    )
    return found == (len(newest), 1)


def _find_tables(connection: Connection) -> None:
    """Write into load states of an earlier version in which table the rows of their source lie."""
    for table in made_tables(connection):
        writers = f"SELECT DISTINCT _source FROM raw.{quote(table)}"  # noqa: S608 - quoted identifier
        statement = f'UPDATE refresh.load_state SET "table" = ? WHERE source = ? OR source IN ({writers})'  # noqa: S608
        connection.execute(statement, [table, table])


def made_tables(connection: Connection) -> list[str]:
    """Return the names of the raw tables that refreshes have made and that are still there."""
    query = (
        f'SELECT table_name FROM {dialect_of(connection).tables} d JOIN refresh.tables r ON r."table" = d.table_name'  # noqa: S608
        " WHERE schema_name = 'raw' ORDER BY table_name"
    )
    return [name for (name,) in connection.execute(query).fetchall()]


def read_states(connection: Connection, source: str, table: str = "") -> dict[str, LoadState]:
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


def accepted_payloads(connection: Connection) -> dict[str, set[str]]:
    """Return by source the payloads that its partitions were accepted with."""
    if not any(name == "payload" for name, *_ in columns_of(connection, "refresh", "load_state")):
        return {}
    found: dict[str, set[str]] = {}
    for source, payload in connection.execute("SELECT source, payload FROM refresh.load_state").fetchall():
        if payload:
            found.setdefault(source, set()).add(payload)
    return found


def exists(connection: Connection, schema: str, table: str) -> bool:
    """Whether a table is there."""
    query = f"SELECT 1 FROM {dialect_of(connection).tables} d WHERE schema_name = ? AND table_name = ?"  # noqa: S608
    return first_row(connection, query, [schema, table]) is not None


def columns_of(connection: Connection, schema: str, table: str) -> list[tuple[str, str, str | None]]:
    """Return name, type and comment of each column of a table or view, in their order; none if it is not there."""
    query = (
        f"SELECT column_name, data_type, comment FROM {dialect_of(connection).columns} c"  # noqa: S608 - own text
        " WHERE schema_name = ? AND table_name = ? ORDER BY column_index"
    )
    return connection.execute(query, [schema, table]).fetchall()


def write_state(connection: Connection, *states: LoadState) -> None:
    """Insert or replace load states, each of another partition."""
    dialect = dialect_of(connection)
    for first in range(0, len(states), _AT_ONCE):
        # Several rows in one statement take a twentieth of the time that as many statements do.
        some = states[first : first + _AT_ONCE]
        statement = dialect.replace("refresh.load_state", _NAMES, ("source", "partition"), len(some))
        connection.execute(statement, [value for state in some for value in _values(state)])


def _values(state: LoadState) -> list[object]:
    values = {name: getattr(state, name) for name in _NAMES}
    return list({**values, "counts": json.dumps(asdict(state.counts))}.values())
