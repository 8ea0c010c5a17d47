"""Load state in schema `refresh` of a DuckDB warehouse."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

import duckdb

from refresh_pipelines.outcome import Counts
from refresh_pipelines.sql import columns, first_row
from refresh_pipelines.warehouse.base import LoadState

_NAMES = [field.name for field in fields(LoadState)]
_STATE_TABLES = """
CREATE SCHEMA IF NOT EXISTS refresh;
CREATE SCHEMA IF NOT EXISTS raw;
CREATE TABLE IF NOT EXISTS refresh.load_state (
    source VARCHAR NOT NULL, "partition" VARCHAR NOT NULL, spec_hash VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    outcome VARCHAR NOT NULL, counts JSON NOT NULL, raw_sha256 VARCHAR NOT NULL, content_hash VARCHAR NOT NULL,
    data_version VARCHAR NOT NULL, bytes BIGINT NOT NULL, committed_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL, url VARCHAR NOT NULL, etag VARCHAR, last_modified VARCHAR,
    published_at TIMESTAMPTZ, "cursor" VARCHAR, PRIMARY KEY (source, "partition"));
CREATE TABLE IF NOT EXISTS refresh.tables ("table" VARCHAR PRIMARY KEY, merge_key VARCHAR[] NOT NULL);
"""


def ensure_state_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create schemas and state tables that are not there yet."""
    connection.execute(_STATE_TABLES)


def read_states(connection: duckdb.DuckDBPyConnection, source: str, table: str = "") -> dict[str, LoadState]:
    """Return the load states of a source by partition key ("" without partitions); see `Warehouse.states`."""
    if not _exists(connection, "refresh", "load_state") or (table and not _exists(connection, "raw", table)):
        return {}
    query = f"SELECT {columns(_NAMES)} FROM refresh.load_state WHERE source = ?"  # noqa: S608 - own column names
    states = {}
    for row in connection.execute(query, [source]).fetchall():
        values = dict(zip(_NAMES, row, strict=True))
        values["counts"] = Counts(**json.loads(values["counts"]))
        states[values["partition"]] = LoadState(**values)
    return states


def _exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    query = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    return first_row(connection, query, [schema, table]) is not None


def write_state(connection: duckdb.DuckDBPyConnection, state: LoadState) -> None:
    """Insert or replace one load state."""
    values = {name: getattr(state, name) for name in _NAMES}
    values["counts"] = json.dumps(asdict(state.counts))
    marks = ", ".join("?" for _ in _NAMES)
    statement = f"INSERT OR REPLACE INTO refresh.load_state ({columns(_NAMES)}) VALUES ({marks})"  # noqa: S608 - own column names
    connection.execute(statement, list(values.values()))
