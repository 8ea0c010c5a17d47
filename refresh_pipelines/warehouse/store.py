"""What both warehouses do with an open transaction, whoever opens it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from refresh_pipelines.differences import Differences
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.effects import Effects
from refresh_pipelines.plausible import Implausible
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection
from refresh_pipelines.warehouse.base import AsOf, Commit, LoadState, Merged, Remains
from refresh_pipelines.warehouse.carry import carry_over, left_by, old_names
from refresh_pipelines.warehouse.compare import differences
from refresh_pipelines.warehouse.effects import columns_at, seen, with_columns
from refresh_pipelines.warehouse.evolved import grown, remember
from refresh_pipelines.warehouse.ledger import read_files, write_files
from refresh_pipelines.warehouse.leftovers import find_remains, loaded_sources, remove
from refresh_pipelines.warehouse.merge import Place, merge, prepare
from refresh_pipelines.warehouse.plausibility import weighed
from refresh_pipelines.warehouse.rebuild import clear, require_same
from refresh_pipelines.warehouse.rejects import put_aside
from refresh_pipelines.warehouse.state import accepted_payloads, read_states, write_state

Found = TypeVar("Found")


class _Undone(Exception):
    """Ends a transaction that was only there to look."""


def _committed(connection: Connection, declared: Commit, wait: float, places: dict[tuple[str, ...], Place]) -> Merged:
    """Make one commit of a transaction, but for its load state; `places` is what was prepared for those before."""
    commit = grown(connection, declared)
    spec = commit.spec
    shape = (spec.source, *spec.columns)
    places[shape] = places.get(shape) or prepare(connection, commit)
    merged = weighed(connection, commit, merge(connection, commit, wait, places[shape]))
    notes = (*merged.notes, *remember(connection, commit, declared))
    merged = replace(merged, state=replace(merged.state, table=spec.raw_table), notes=notes)
    put_aside(connection, commit, merged.state)
    write_files(connection, commit.files)
    return merged


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
        places: dict[tuple[str, ...], Place] = {}
        with self._writing({commit.spec.raw_table for commit in commits}) as (connection, wait):
            out += [_committed(connection, commit, wait, places) for commit in commits]
            write_state(connection, *(merged.state for merged in out))
            for commit, merged in zip(commits, out, strict=True):
                commit.accepted(merged.state)
                commit.progress("merged")
        return out

    def rebuild(
        self,
        spec: SourceSpec,
        known: Mapping[str, LoadState],
        commits: Callable[[dict[str, LoadState]], Iterator[Commit]],
    ) -> tuple[list[Merged], float]:
        """Remove all rows and load states of a source and make commits anew, all in one transaction.

        Args:
            spec: the source.
            known: its load states as the commits were planned with.
            commits: yields them one by one; is given the load states as they are after each, and may change them.

        Returns:
            What each commit did, and the seconds waited for the lock.

        Raises:
            As `commit` does; WarehouseBusy also if the source was loaded since `known` was read.
        """
        out: list[Merged] = []
        states: dict[str, LoadState] = {}
        places: dict[tuple[str, ...], Place] = {}
        with self._writing(None) as (connection, wait):
            require_same(connection, spec, known)
            clear(connection, spec)
            for commit in commits(states):
                merged = _committed(connection, commit, wait, places)
                states[merged.state.partition] = merged.state
                out.append(merged)
                commit.progress("merged")
            write_state(connection, *states.values())
        return out, wait

    def payloads(self) -> dict[str, set[str]]:
        """Return by source the payloads in the archive that its partitions were accepted with."""
        nothing: dict[str, set[str]] = {}
        return self._look(accepted_payloads, nothing)[0]

    def preview(self, commit: Commit, examples: int) -> tuple[Merged, Effects]:
        """See `Warehouse.preview`."""
        found: list[tuple[Merged, Effects]] = []
        with suppress(_Undone), self._writing({commit.spec.raw_table}) as (connection, wait):
            carry_over(connection, commit.spec)
            before, commit = columns_at(connection, commit), grown(connection, commit)
            place = prepare(connection, commit)
            effects = seen(connection, commit, place, examples)
            merged = merge(connection, commit, wait, place)
            try:
                weighed(connection, commit, merged)
            except Implausible as surprise:
                effects = replace(effects, reasons=surprise.reasons)
            found.append((merged, with_columns(connection, commit, before, effects)))
            raise _Undone
        return found[0]

    def compare(self, commit: Commit) -> Differences:
        """See `Warehouse.compare`."""
        found = Differences()
        with suppress(_Undone), self._writing({commit.spec.raw_table}) as (connection, _):
            found = differences(connection, grown(connection, commit))
            raise _Undone
        return found

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

    @abstractmethod
    def query_as_of(self, statement: str, at: datetime) -> AsOf:
        """See `Warehouse.query_as_of`."""
