"""A renamed source: what its old name left in the warehouse becomes the new name's, inside an open transaction."""

from __future__ import annotations

from refresh_pipelines.errors import SpecChanged
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, first_row, quote
from refresh_pipelines.warehouse.evolved import rename_evolved
from refresh_pipelines.warehouse.history import hide, rename_past, rename_versions
from refresh_pipelines.warehouse.ledger import rename_files
from refresh_pipelines.warehouse.rejects import rename_quarantine, rename_rejected
from refresh_pipelines.warehouse.state import exists


def old_names(spec: SourceSpec) -> list[str]:
    """Return the names a source had before, without the groups that may stand before them."""
    names = (alias.rpartition("/")[2] for alias in spec.aliases)
    return [name for name in dict.fromkeys(names) if name != spec.source]


def left_by(connection: Connection, names: list[str]) -> list[str]:
    """Return those of the names under which something was loaded."""
    if not names or not exists(connection, "refresh", "load_state"):
        return []
    query = "SELECT DISTINCT source FROM refresh.load_state WHERE source IN (SELECT unnest(?)) ORDER BY 1"
    return [name for (name,) in connection.execute(query, [names]).fetchall()]


def carry_over(connection: Connection, spec: SourceSpec) -> bool:
    """Give the rows, load states and table of a source's old name to the source; return whether there were any.

    Raises:
        SpecChanged: it cannot be said what belongs where: several old names have loaded, or the new
            one as well, or the table named after the old one holds rows of other sources.
    """
    found = left_by(connection, old_names(spec))
    if not found:
        return False
    loaded = [*found, *left_by(connection, [spec.source])]
    if len(loaded) > 1:
        todo = "Remove what is not wanted with `refresh retire`, or take its name out of `aliases`."
        raise _cannot(found, "rows under one old name and none under the new one", f"rows of {', '.join(loaded)}", todo)
    old = found[0]
    for table in _tables_of(connection, old):
        statement = f"UPDATE raw.{quote(table)} SET _source = ? WHERE _source = ?"  # noqa: S608 - quoted identifier
        if exists(connection, "raw", table):
            connection.execute(statement, [spec.source, old])
        if table == old and spec.table is None:
            _rename_table(connection, spec, old)
    connection.execute("UPDATE refresh.load_state SET source = ? WHERE source = ?", [spec.source, old])
    rename_files(connection, old, spec.source)
    rename_versions(connection, old, spec.source)
    rename_rejected(connection, old, spec.source)
    rename_evolved(connection, "source", old, spec.source)
    return True


def _tables_of(connection: Connection, source: str) -> list[str]:
    query = 'SELECT DISTINCT "table" FROM refresh.load_state WHERE source = ? AND "table" <> \'\''
    return [table for (table,) in connection.execute(query, [source]).fetchall()]


def _rename_table(connection: Connection, spec: SourceSpec, old: str) -> None:
    """Let a table that is named after its source follow the name."""
    new, keep = spec.raw_table, f"Write `table: {old}` into the YAML."
    if exists(connection, "raw", old):
        others = first_row(
            connection,
            f"SELECT min(_source) FROM raw.{quote(old)} WHERE _source <> ?",  # noqa: S608 - quoted identifier
            [spec.source],
        )
        if others and others[0]:
            raise _cannot([old], f"raw.{old} to hold no other rows", f"rows of {others[0]}", keep)
        if exists(connection, "raw", new):
            raise _cannot([old], f"no table raw.{new}", "one", keep)
        hide(connection, old)
        connection.execute(f"ALTER TABLE raw.{quote(old)} RENAME TO {quote(new)}")
        rename_past(connection, old, new)
        rename_quarantine(connection, old, new)
        rename_evolved(connection, "table", old, new)
    connection.execute('UPDATE refresh.tables SET "table" = ? WHERE "table" = ?', [new, old])
    # The same YAML under another table's name has another hash, and would be read anew for nothing.
    declared = {name: getattr(spec, name) for name in SourceSpec.model_fields}
    before = SourceSpec(**{**declared, "table": old}).spec_hash
    connection.execute(
        'UPDATE refresh.load_state SET "table" = $new, spec_hash = CASE WHEN spec_hash = $before THEN $after'
        " ELSE spec_hash END"
        ' WHERE source = $old AND "table" = $old',
        {"new": new, "old": old, "before": before, "after": spec.spec_hash},
    )


def _cannot(old: list[str], expected: str, came: str, todo: str) -> SpecChanged:
    names = ", ".join(old)
    return SpecChanged(
        f"what was loaded as {names} cannot be carried over",
        expected=expected,
        came=came,
        todo=f"Nothing was changed. {todo}",
    )
