"""Raw tables: declared columns first, the five load columns last, and how they follow a changed YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, columns, first_row, quote
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.state import columns_of, exists

LOAD_COLUMNS = {
    "_source": "text",
    "_partition": "text",
    "_first_seen_at": "timestamptz",
    "_updated_at": "timestamptz",
    "_run_id": "text",
}


def ensure_table(connection: Connection, spec: SourceSpec) -> str:
    """Create the raw table or add new nullable columns to it; return its quoted name.

    Raises:
        SpecChanged: another type, another merge key, or a new column that may not be empty; rows of
            the source that lie in another table; or something of that name that no refresh has made.
    """
    name = f"raw.{quote(spec.raw_table)}"
    _refuse_moved(connection, spec)
    existing = {column: kind for column, kind, _ in columns_of(connection, "raw", spec.raw_table)}
    dialect = dialect_of(connection)
    declared = {name: dialect.type(column.type) for name, column in spec.columns.items()}
    if not existing:
        _create(connection, spec, declared)
        _describe(connection, name, spec)
        return name
    key = first_row(connection, 'SELECT merge_key FROM refresh.tables WHERE "table" = ?', [spec.raw_table])
    if key is None or not set(LOAD_COLUMNS) <= set(existing):
        raise _not_ours(spec)
    problems = _changes(spec, tuple(key[0]), existing, declared)
    if problems:
        raise _unfit(connection, spec, problems)
    added = [column for column in declared if column not in existing]
    if added and dialect.widens:
        parts = ", ".join(f"ADD COLUMN {quote(column)} {declared[column]}" for column in added)
        connection.execute(f"ALTER TABLE {name} {parts}")
    elif added:
        _rebuild(connection, name, spec, existing, declared)
    _describe(connection, name, spec)
    return name


def _create(connection: Connection, spec: SourceSpec, declared: dict[str, str]) -> None:
    load = {column: dialect_of(connection).type(kind) for column, kind in LOAD_COLUMNS.items()}
    create_table(connection, spec.raw_table, {**declared, **load}, spec.merge_key)


def create_table(connection: Connection, table: str, kinds: Mapping[str, str], key: Sequence[str]) -> None:
    """Create a raw table of columns with the database's own types, and remember that a refresh has made it."""
    dialect = dialect_of(connection)
    parts = [f"{quote(column)} {kind}{' NOT NULL' if column in key else ''}" for column, kind in kinds.items()]
    parts += [f"UNIQUE ({columns(tuple(key))})"] if dialect.unique else []
    connection.execute(f"CREATE TABLE raw.{quote(table)} ({', '.join(parts)})")
    connection.execute(dialect.replace("refresh.tables", ("table", "merge_key"), ("table",), 1), [table, list(key)])


def _describe(connection: Connection, name: str, spec: SourceSpec) -> None:
    """Carry descriptions and units into the database, where a person with only SQL will look."""
    known = _comments(connection, spec.raw_table)
    asked = dialect_of(connection).table_comment
    if not asked or first_row(connection, asked, [spec.raw_table]) != (spec.description,):
        connection.execute(f"COMMENT ON TABLE {name} IS {literal(spec.description)}")
    for column, declared in spec.columns.items():
        text = f"{declared.description} [{declared.unit}]".lstrip() if declared.unit else declared.description
        if text != (known.get(column) or ""):
            connection.execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(text)}")


def _comments(connection: Connection, table: str) -> dict[str, str | None]:
    return {column: comment for column, _, comment in columns_of(connection, "raw", table)}


def literal(text: str) -> str:
    """Return text as SQL writes it."""
    # COMMENT takes no parameters; a doubled quote is the whole of SQL's escaping.
    return "'" + text.replace("'", "''") + "'"


def _not_ours(spec: SourceSpec) -> SpecChanged:
    return SpecChanged(
        f"raw.{spec.raw_table} was not made by a refresh",
        expected=f"no table of that name, or one with {', '.join(LOAD_COLUMNS)} and a row in refresh.tables",
        todo="Rename it (ALTER TABLE … RENAME TO …), or give the source another `table:`.",
    )


def _refuse_moved(connection: Connection, spec: SourceSpec) -> None:
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
                todo=_mend(spec, []),
            )


def _mend(spec: SourceSpec, others: list[str]) -> str:
    """Say how rows come into a table that fits: from the archive, by the new YAML."""
    names = [spec.source, *others]
    forget = f"`refresh retire {' '.join(names)} --reload`"
    if spec.derived:
        return f"Nothing was loaded. Restore the old YAML, or {forget} and then `refresh run {spec.source}`."
    if not others:
        return f"Nothing was loaded. Run `refresh replay {spec.source} --rebuild`, or restore the old YAML."
    again = " and ".join(f"`refresh replay {name} --rebuild`" for name in names)
    return f"Nothing was loaded. Restore the old YAML, or, because they share the table, {forget} and then {again}."


def _unfit(connection: Connection, spec: SourceSpec, problems: list[str]) -> SpecChanged:
    """Return the error that names also the other sources of the table: their rows keep it as it is."""
    query = f"SELECT DISTINCT _source FROM raw.{quote(spec.raw_table)} WHERE _source <> ? ORDER BY 1"  # noqa: S608 - quoted
    others = [source for (source,) in connection.execute(query, [spec.source]).fetchall()]
    return SpecChanged(
        f"the YAML no longer fits table raw.{spec.raw_table}",
        expected="the same types and merge key, and new columns that may be empty",
        came="; ".join(problems),
        todo=_mend(spec, others),
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
    connection: Connection,
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
    _create(connection, spec, {**declared, **kept})
    shared = list(existing)
    connection.execute(f"INSERT INTO {name} ({columns(shared)}) SELECT {columns(shared)} FROM {old}")  # noqa: S608 - quoted identifiers
    connection.execute(f"DROP TABLE {old}")
    for column in kept:
        connection.execute(f"COMMENT ON COLUMN {name}.{quote(column)} IS {literal(comments[column] or '')}")
