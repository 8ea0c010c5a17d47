"""Raw tables in DuckDB: declared columns first, the five load columns last, and how they follow a changed YAML."""

from __future__ import annotations

import duckdb

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import columns, first_row, quote
from refresh_pipelines.warehouse.state import exists

_TYPES = {
    "text": "VARCHAR",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "json": "JSON",
}
LOAD_COLUMNS = {
    "_source": "VARCHAR",
    "_partition": "VARCHAR",
    "_first_seen_at": "TIMESTAMP WITH TIME ZONE",
    "_updated_at": "TIMESTAMP WITH TIME ZONE",
    "_run_id": "VARCHAR",
}


def sql_type(declared: str) -> str:
    """Return the DuckDB type of a declared type, as DuckDB itself writes it."""
    return declared.upper() if declared.startswith("decimal") else _TYPES[declared]


def ensure_table(connection: duckdb.DuckDBPyConnection, spec: SourceSpec) -> str:
    """Create the raw table or add new nullable columns to it; return its quoted name.

    Raises:
        SpecChanged: another type, another merge key, or a new column that may not be empty; rows of
            the source that lie in another table; or something of that name that no refresh has made.
    """
    name = f"raw.{quote(spec.raw_table)}"
    _refuse_moved(connection, spec)
    existing = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns()"
            " WHERE schema_name = 'raw' AND table_name = ? ORDER BY column_index",
            [spec.raw_table],
        ).fetchall()
    )
    declared = {column: sql_type(spec.columns[column].type) for column in spec.columns}
    if not existing:
        _create(connection, name, spec, declared)
        _describe(connection, name, spec)
        return name
    key = first_row(connection, 'SELECT merge_key FROM refresh.tables WHERE "table" = ?', [spec.raw_table])
    if key is None or not set(LOAD_COLUMNS) <= set(existing):
        raise _not_ours(spec)
    problems = _changes(spec, tuple(key[0]), existing, declared)
    if problems:
        raise _unfit(connection, spec, problems)
    added = [column for column in declared if column not in existing]
    if added:
        _rebuild(connection, name, spec, existing, declared)
    _describe(connection, name, spec)
    return name


def _create(connection: duckdb.DuckDBPyConnection, name: str, spec: SourceSpec, declared: dict[str, str]) -> None:
    parts = [
        f"{quote(column)} {kind}{' NOT NULL' if column in spec.merge_key else ''}" for column, kind in declared.items()
    ]
    parts += [f"{quote(column)} {kind}" for column, kind in LOAD_COLUMNS.items()]
    connection.execute(f"CREATE TABLE {name} ({', '.join(parts)})")
    connection.execute(
        'INSERT OR REPLACE INTO refresh.tables ("table", merge_key) VALUES (?, ?)',
        [spec.raw_table, list(spec.merge_key)],
    )


def _describe(connection: duckdb.DuckDBPyConnection, name: str, spec: SourceSpec) -> None:
    """Carry descriptions and units into the database, where a person with only SQL will look."""
    known = _comments(connection, spec.raw_table)
    connection.execute(f"COMMENT ON TABLE {name} IS {_literal(spec.description)}")
    for column, declared in spec.columns.items():
        text = f"{declared.description} [{declared.unit}]".lstrip() if declared.unit else declared.description
        if text != (known.get(column) or ""):
            connection.execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {_literal(text)}")


def _comments(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str | None]:
    query = "SELECT column_name, comment FROM duckdb_columns() WHERE schema_name = 'raw' AND table_name = ?"
    return dict(connection.execute(query, [table]).fetchall())


def _literal(text: str) -> str:
    # COMMENT takes no parameters; a doubled quote is the whole of SQL's escaping.
    return "'" + text.replace("'", "''") + "'"


def _not_ours(spec: SourceSpec) -> SpecChanged:
    return SpecChanged(
        f"raw.{spec.raw_table} was not made by a refresh",
        expected=f"no table of that name, or one with {', '.join(LOAD_COLUMNS)} and a row in refresh.tables",
        todo="Rename it (ALTER TABLE … RENAME TO …), or give the source another `table:`.",
    )


def _refuse_moved(connection: duckdb.DuckDBPyConnection, spec: SourceSpec) -> None:
    """Stop before a source whose `table` was changed lies half in one table and half in another."""
    query = 'SELECT DISTINCT "table" FROM refresh.load_state WHERE source = ? AND "table" NOT IN (?, \'\') ORDER BY 1'
    for (old,) in connection.execute(query, [spec.source, spec.raw_table]).fetchall():
        held = f"SELECT count(*) FROM raw.{quote(old)} WHERE _source = ?"  # noqa: S608 - quoted identifier
        row = first_row(connection, held, [spec.source]) if exists(connection, "raw", old) else None
        if row and row[0]:
            raise SpecChanged(
                f"the YAML names table raw.{spec.raw_table}, and the rows of this source lie in raw.{old}",
                expected=f"`table: {old}`",
                came=f"`table: {spec.raw_table}`, and {row[0]} rows in raw.{old}",
                todo=_mend([spec.source]),
            )


def _mend(sources: list[str]) -> str:
    names = " ".join(sources)
    return (
        f"Nothing was loaded. Restore the old YAML, or `refresh retire {names} --reload` and then "
        f"`refresh run {names} --missing`."
    )


def _unfit(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, problems: list[str]) -> SpecChanged:
    """Return the error that names also the other sources of the table: their rows keep it as it is."""
    query = f"SELECT DISTINCT _source FROM raw.{quote(spec.raw_table)} WHERE _source <> ? ORDER BY 1"  # noqa: S608 - quoted
    others = [source for (source,) in connection.execute(query, [spec.source]).fetchall()]
    return SpecChanged(
        f"the YAML no longer fits table raw.{spec.raw_table}",
        expected="the same types and merge key, and new columns that may be empty",
        came="; ".join(problems),
        todo=_mend([spec.source, *others]),
    )


def _changes(spec: SourceSpec, key: tuple[str, ...], existing: dict[str, str], declared: dict[str, str]) -> list[str]:
    """Say what a table cannot follow."""
    problems = [
        f"{column} is {existing[column]} in the table and {kind} in the YAML"
        for column, kind in declared.items()
        if column in existing and _plain(existing[column]) != _plain(kind)
    ]
    if set(key) != set(spec.merge_key):
        problems.append(
            f"the merge key is ({', '.join(key)}) in the table and ({', '.join(spec.merge_key)}) in the YAML"
        )
    return problems + [
        f"{column} is new and may not be empty"
        for column in declared
        if column not in existing and (column in spec.merge_key or not spec.columns[column].nullable)
    ]


def _plain(kind: str) -> str:
    return kind.replace(" ", "").upper()


def _rebuild(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    spec: SourceSpec,
    existing: dict[str, str],
    declared: dict[str, str],
) -> None:
    """Add columns by writing the table anew: ALTER TABLE would put them behind the load columns."""
    # A column the YAML no longer declares keeps its values.
    kept = {column: kind for column, kind in existing.items() if column not in declared and column not in LOAD_COLUMNS}
    comments = _comments(connection, spec.raw_table)
    old = f"raw.{quote('_old_' + spec.raw_table)}"
    connection.execute(f"ALTER TABLE {name} RENAME TO {quote('_old_' + spec.raw_table)}")
    _create(connection, name, spec, {**declared, **kept})
    shared = list(existing)
    connection.execute(f"INSERT INTO {name} ({columns(shared)}) SELECT {columns(shared)} FROM {old}")  # noqa: S608 - quoted identifiers
    connection.execute(f"DROP TABLE {old}")
    for column in kept:
        connection.execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {_literal(comments[column] or '')}")
