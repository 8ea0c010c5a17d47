"""Columns that no YAML declares: which field of which source made them, so that they keep their meaning.

`refresh.evolved_columns` has a row for each, from the load that made it until the YAML declares it.
"""

from __future__ import annotations

from dataclasses import replace

from refresh_pipelines.drift import MOST_COLUMNS, too_many, widened
from refresh_pipelines.errors import ContractViolation, SpecChanged
from refresh_pipelines.sql import Connection, quote
from refresh_pipelines.warehouse.base import Commit
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.state import columns_of


def grown(connection: Connection, commit: Commit) -> Commit:
    """Return the commit of a source under `drift: evolve` with all columns that fields have made, now or before.

    A column whose field the payload lacks is there and null, as every value that upstream does not give.

    Raises:
        ContractViolation: a new field would be loaded into the column of another one, or there are too many.
        SpecChanged: the table has a column of that name and another type.
    """
    spec, table = commit.spec, commit.spec.raw_table
    if spec.load.drift != "evolve":
        return commit
    known = {name: field for name, field in _remembered(connection, spec.source, table) if name not in spec.columns}
    fields = {**known, **commit.staged.evolved}
    if not fields:
        return commit
    for name, field in commit.staged.evolved.items():
        if known.get(name, field) != field:
            raise ContractViolation(
                f"field {field!r} would be loaded into column {name}, which field {known[name]!r} has made",
                expected="one column for each field (load.drift: evolve)",
                todo="Nothing was loaded. Declare the two under `columns`.",
            )
    if len(fields) > MOST_COLUMNS:
        raise too_many(list(fields.values()))
    kinds = {name: kind for name, kind, _ in columns_of(connection, "raw", table)}
    text = dialect_of(connection).type("text")
    other = next((name for name in fields if kinds.get(name, text) != text), None)
    if other:
        raise SpecChanged(
            f"field {fields[other]!r} cannot become column {other} of raw.{table}",
            expected=f"no such column, or one of type {text}",
            came=kinds[other],
            todo="Nothing was loaded. Declare it under `columns` as it was, or name it in load.ignore.",
        )
    return replace(commit, spec=widened(spec, fields))


def remember(connection: Connection, commit: Commit, declared: Commit) -> tuple[str, ...]:
    """Write down which fields have made columns, and forget those that the YAML declares by now; return remarks.

    Args:
        commit: as `grown` has returned it.
        declared: the same commit before.
    """
    spec, table, state = commit.spec, commit.spec.raw_table, commit.state
    if spec.load.drift != "evolve":
        return ()
    known = [name for name, _ in _remembered(connection, spec.source, table)]
    for name in known:
        if name in declared.spec.columns:
            connection.execute(
                'DELETE FROM refresh.evolved_columns WHERE source = ? AND "table" = ? AND "column" = ?',
                [spec.source, table, name],
            )
    new = {name: field for name, field in commit.staged.evolved.items() if name not in known}
    for name, field in new.items():
        connection.execute(
            "INSERT INTO refresh.evolved_columns VALUES (?, ?, ?, ?, ?, ?)",
            [spec.source, table, name, field, state.committed_at, state.run_id],
        )
    made = ", ".join(f"{name} (field {field!r})" for name, field in new.items())
    return (f"new columns of raw.{table}: {made}",) if made else ()


def _remembered(connection: Connection, source: str, table: str) -> list[tuple[str, str]]:
    query = 'SELECT "column", field FROM refresh.evolved_columns WHERE source = ? AND "table" = ? ORDER BY since, 1'
    return [(name, field) for name, field in connection.execute(query, [source, table]).fetchall()]


def rename_evolved(connection: Connection, column: str, old: str, new: str) -> None:
    """Let the columns follow a source (`column` source) or raw table (`table`) that was renamed."""
    name = quote(column)
    connection.execute(f"UPDATE refresh.evolved_columns SET {name} = ? WHERE {name} = ?", [new, old])  # noqa: S608 - quoted


def forget_evolved(connection: Connection, source: str) -> None:
    """Forget which columns the fields of a source have made."""
    connection.execute("DELETE FROM refresh.evolved_columns WHERE source = ?", [source])


def copy_evolved(old: Connection, new: Connection) -> None:
    """Put what one warehouse remembers in the place of what another does."""
    new.execute("DELETE FROM refresh.evolved_columns")
    if columns_of(old, "refresh", "evolved_columns"):
        for row in old.execute("SELECT * FROM refresh.evolved_columns ORDER BY source, since").fetchall():
            new.execute("INSERT INTO refresh.evolved_columns VALUES (?, ?, ?, ?, ?, ?)", list(row))
