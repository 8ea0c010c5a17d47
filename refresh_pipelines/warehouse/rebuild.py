"""A source's rows and load states made anew from commits that were made before, inside one open transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refresh_pipelines.errors import SpecChanged, WarehouseBusy
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection
from refresh_pipelines.warehouse.base import LoadState, Remains
from refresh_pipelines.warehouse.ledger import all_files, insert_files
from refresh_pipelines.warehouse.leftovers import find_remains, remove
from refresh_pipelines.warehouse.state import read_states
from refresh_pipelines.warehouse.tables import ensure_table


def require_same(connection: Connection, spec: SourceSpec, known: Mapping[str, LoadState]) -> None:
    """Raise WarehouseBusy if anything of the source was loaded since `known` was read."""
    now = read_states(connection, spec.source)
    if {key: state.committed_at for key, state in now.items()} != {
        key: state.committed_at for key, state in known.items()
    }:
        raise WarehouseBusy(
            f"{spec.name} was refreshed while its payloads were read",
            expected="nothing new in the meantime",
            todo="Nothing was changed. Run `refresh replay` again, or `refresh pause` the source before.",
        )


def clear(connection: Connection, spec: SourceSpec) -> None:
    """Remove rows, load states and versions of a source, and tables of its own that no longer fit its YAML.

    A table that fits is emptied and stays, with the views and rights that people have given it. What is known of
    files that were refused stays too.

    Raises:
        SpecChanged: the table does not fit, and holds rows of other sources.
    """
    remains = find_remains(connection, spec.source)
    refused = [entry for entry in all_files(connection) if entry.source == spec.source and entry.status == "refused"]
    # With others beside them, only the rows go.
    emptied = [replace(held, others=held.others or 1) for held in remains.holdings if held.table == spec.raw_table]
    moved = [held for held in remains.holdings if held.table != spec.raw_table]
    remove(connection, replace(remains, holdings=(*emptied, *moved)))
    insert_files(connection, refused)
    own = next((held for held in remains.holdings if held.table == spec.raw_table), None)
    try:
        ensure_table(connection, spec)
    except SpecChanged:
        if own is None or own.others:
            raise
        remove(connection, Remains(spec.source, 0, (own,)))
        insert_files(connection, refused)
