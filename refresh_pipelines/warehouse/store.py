"""What both warehouses do with an open transaction, whoever opens it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection
from refresh_pipelines.warehouse.base import Commit, LoadState, Merged, Remains
from refresh_pipelines.warehouse.carry import carry_over, left_by, old_names
from refresh_pipelines.warehouse.ledger import read_files, write_files
from refresh_pipelines.warehouse.leftovers import find_remains, loaded_sources, remove
from refresh_pipelines.warehouse.merge import merge
from refresh_pipelines.warehouse.state import read_states, write_state
from refresh_pipelines.warehouse.tables import ensure_table

Found = TypeVar("Found")


class SqlWarehouse(ABC):
    """A warehouse that a `Connection` can talk to."""

    @abstractmethod
    def _look(self, ask: Callable[[Connection], Found], nothing: Found) -> tuple[Found, float]:
        """Return an answer, or `nothing` where no warehouse exists yet, and the seconds waited."""

    @abstractmethod
    def _writing(self, tables: Collection[str] | None) -> AbstractContextManager[tuple[Connection, float]]:
        """Yield a connection with an open transaction that is committed at the end, and the seconds waited.

        Args:
            tables: the raw tables that are written, without schema; None where it is not known before, which keeps
                every other writer out.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[tuple[Connection, float]]:
        """Yield a connection that sees one moment of the warehouse, and the seconds waited."""

    def writing_alone(self) -> AbstractContextManager[tuple[Connection, float]]:
        """Yield a connection with an open transaction that keeps every other writer out, and the seconds waited."""
        return self._writing(None)

    def states(self, source: str, table: str = "") -> tuple[dict[str, LoadState], float]:
        """See `Warehouse.states`."""
        return self._look(lambda connection: read_states(connection, source, table), {})

    def commit(self, commit: Commit) -> Merged:
        """See `Warehouse.commit`."""
        return self.commit_all([commit])[0]

    def commit_all(self, commits: Sequence[Commit]) -> list[Merged]:
        """See `Warehouse.commit_all`."""
        out = []
        tables: dict[str, str] = {}
        with self._writing({commit.spec.raw_table for commit in commits}) as (connection, wait):
            for commit in commits:
                spec = commit.spec
                tables[spec.source] = tables.get(spec.source) or ensure_table(connection, spec)
                merged = merge(connection, commit, wait, tables[spec.source])
                merged = replace(merged, state=replace(merged.state, table=spec.raw_table))
                out.append(merged)
                write_files(connection, commit.files)
            write_state(connection, *(merged.state for merged in out))
            for commit in commits:
                commit.progress("merged")
        return out

    def touch(self, state: LoadState) -> float:
        """See `Warehouse.touch`."""
        with self._writing(()) as (connection, wait):
            write_state(connection, state)
        return wait

    def files(
        self, source: str, table: str, keys: Sequence[str] = (), sha256: Sequence[str] = ()
    ) -> tuple[list[FileEntry], float]:
        """See `Warehouse.files`."""
        return self._look(lambda connection: read_files(connection, source, table, keys, sha256), [])

    def record_files(self, entries: Sequence[FileEntry]) -> float:
        """See `Warehouse.record_files`."""
        with self._writing(()) as (connection, wait):
            write_files(connection, entries)
        return wait

    def adopt(self, spec: SourceSpec) -> bool:
        """See `Warehouse.adopt`."""
        names = old_names(spec)
        nothing: list[str] = []
        if not names or not self._look(lambda connection: left_by(connection, names), nothing)[0]:
            return False
        with self._writing(None) as (connection, _):
            return carry_over(connection, spec)

    def sources(self) -> set[str]:
        """See `Warehouse.sources`."""
        nothing: set[str] = set()
        return self._look(loaded_sources, nothing)[0]

    def remains(self, source: str) -> Remains:
        """See `Warehouse.remains`."""
        return self._look(lambda connection: find_remains(connection, source), Remains(source))[0]

    def retire(self, source: str) -> Remains:
        """See `Warehouse.retire`."""
        if not self._look(lambda _: True, False)[0]:
            return Remains(source)
        with self._writing(None) as (connection, _):
            remains = find_remains(connection, source)
            remove(connection, remains)
        return remains

    @abstractmethod
    def select(self, query: str, tables: Collection[str], path: Path) -> float:
        """See `Warehouse.select`."""

    @abstractmethod
    def query(self, statement: str) -> tuple[Sequence[str], list[tuple[object, ...]]]:
        """See `Warehouse.query`."""
