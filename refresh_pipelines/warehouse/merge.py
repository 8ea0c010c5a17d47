"""The merge itself, inside an open transaction, with exact counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refresh_pipelines.errors import InternalError
from refresh_pipelines.outcome import Counts
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection
from refresh_pipelines.warehouse.base import Commit, Merged
from refresh_pipelines.warehouse.dialect import dialect_of
from refresh_pipelines.warehouse.history import Keeper, instant_after, keeper_of
from refresh_pipelines.warehouse.modes import Change, change, refuse
from refresh_pipelines.warehouse.moving import MovingStatements
from refresh_pipelines.warehouse.state import exists
from refresh_pipelines.warehouse.statements import Statements
from refresh_pipelines.warehouse.tables import ensure_table


@dataclass(frozen=True)
class Place:
    """Where the rows of a source go: the raw table, quoted, and what keeps its versions."""

    table: str
    keeper: Keeper | None = None


def prepare(connection: Connection, commit: Commit) -> Place:
    """Make the tables of a source fit for a commit. Raises SpecChanged, see `ensure_table`."""
    spec = commit.spec
    created = not exists(connection, "raw", spec.raw_table)
    table = ensure_table(connection, spec)
    return Place(table, keeper_of(connection, spec, commit.state.committed_at, created=created))


def merge(connection: Connection, commit: Commit, wait: float, place: Place | None = None) -> Merged:
    """Bring the table to what is staged and return what that took.

    Args:
        place: what `prepare` said of this source earlier in the transaction.

    Raises:
        ContractViolation: see `modes.refuse`.
        SpecChanged: see `ensure_table`.
        InternalError: the counts do not add up; the transaction must be rolled back.
    """
    spec, staged = commit.spec, commit.staged
    place = place or prepare(connection, commit)
    if place.keeper and not commit.again:
        at = instant_after(connection, spec.raw_table, commit.state.committed_at)
        commit = replace(commit, state=replace(commit.state, committed_at=at))
    with dialect_of(connection).stage(connection, spec, staged):
        how = MovingStatements if dialect_of(connection).moves else Statements
        step = how(connection, commit, place.table, place.keeper)
        refuse(step)
        done = change(step, commit)
    counts = _counts(spec, commit, done)
    changed = bool(done.added or done.updated or done.deleted)
    came = staged.rows or staged.rejected or commit.files
    partition_rows, cursor = step.rows_and_cursor()
    state = replace(
        commit.state,
        counts=counts,
        outcome="empty" if not came else "loaded" if changed else "unchanged",
        rows=partition_rows,
        data_version=staged.content_hash if changed or not commit.state.data_version else commit.state.data_version,
        changed_at=commit.state.committed_at if changed else commit.state.changed_at,
        cursor=cursor,
    )
    if done.held:
        # The table is not what this payload says: the next refresh must not take it for known.
        state = replace(state, content_hash="", raw_sha256="", etag=None, last_modified=None)
    return Merged(state, partition_rows, step.table_rows(), wait, done.notes)


def _counts(spec: SourceSpec, commit: Commit, done: Change) -> Counts:
    staged = commit.staged
    counts = Counts(
        fetched=staged.fetched,
        added=done.added,
        updated=done.updated,
        unchanged=staged.rows - done.added - done.updated,
        deleted=done.deleted,
        rejected=staged.rejected,
        duplicates=staged.duplicates,
        filtered=staged.filtered,
    )
    if not counts.balanced() or counts.unchanged < 0:
        raise InternalError(
            f"the counts of the merge do not add up: {counts}",
            todo=f"Nothing was loaded. If somebody wrote into raw.{spec.raw_table} by hand, remove rows with equal "
            f"({', '.join(spec.merge_key)}); otherwise please report it.",
        )
    return counts
