"""What each `load.mode` does with staged rows, inside an open transaction; docs/load-modes.md has the table.

A row only leaves a table where the payload says that it is gone: one that is empty or not whole says nothing of the
sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.sql import first_row
from refresh_pipelines.warehouse.base import Commit
from refresh_pipelines.warehouse.statements import Statements


@dataclass(frozen=True)
class Leaving:
    """Which rows leave the table.

    Attributes:
        condition: on `t`, the raw table; None for none.
        keys: what `$keys` in it stands for.
        held: rows that would have left, had the payload been whole.
        why: why they stay.
    """

    condition: str | None = None
    keys: Sequence[str] = ()
    held: int = 0
    why: str = ""


@dataclass(frozen=True)
class Change:
    """What a mode has done. `held`: whether rows were kept that a whole payload would have removed."""

    added: int
    updated: int
    deleted: int
    held: bool = False
    notes: tuple[str, ...] = ()


def refuse(step: Statements) -> None:
    """Stop before a payload that must not be merged.

    Raises:
        ContractViolation: a staged key belongs to another source, or to another partition of a source that replaces
            partitions; values that `expect.keep` demands are gone; or a newer snapshot was loaded.
    """
    step.refuse_foreign_rows()
    step.refuse_lost_values()
    if step.spec.load.mode == "snapshot" and step.partition:
        _refuse_older(step, step.partition)


def _refuse_older(step: Statements, partition: str) -> None:
    query = 'SELECT max("partition") FROM refresh.load_state WHERE source = ?'
    (newest,) = first_row(step.connection, query, [step.spec.source]) or (None,)
    if newest and newest > partition:
        source = step.spec.source
        raise ContractViolation(
            "the table holds a newer snapshot",
            expected=f"the snapshot of {newest} or of a later period",
            came=f"that of {partition}",
            todo=f"Nothing was loaded. To load all of them anew, oldest first: `refresh retire {source} --reload` and "
            f"`refresh run {source} --missing`.",
        )


def leaving(step: Statements, commit: Commit) -> Leaving:
    """Return which rows leave the table under the mode of the source."""
    if step.spec.load.mode == "snapshot":
        condition = step.vanished(everywhere=True)
        why = _not_whole(commit) or _unreadable(commit)
        return Leaving(held=step.count(condition), why=why) if why else Leaving(condition)
    why = _unreadable(commit)
    if step.spec.replaces:
        condition = step.vanished(everywhere=False)
        return Leaving(held=step.count(condition), why=why) if why else Leaving(condition)
    keys = [entry.key for entry in commit.files if entry.status == "loaded"]
    return Leaving(None if why else step.replaced(commit.files), keys)


def _not_whole(commit: Commit) -> str:
    if not commit.staged.rows:
        return "the payload has no rows"
    return "" if commit.complete else "a part of the delivery is missing"


def _unreadable(commit: Commit) -> str:
    """Say why no row can be called gone: any of them may be one that was rejected."""
    number = commit.staged.unreadable
    return f"{number} rejected rows have no merge key that can be read" if number else ""


def change(step: Statements, commit: Commit) -> Change:
    """Bring the table to what is staged, as the mode of the source says."""
    out = leaving(step, commit)
    deleted = step.delete(out.condition, out.keys) if out.condition else 0
    notes = []
    if out.held:
        notes.append(f"{out.held} rows of the table are not in the payload and were not deleted: {out.why}")
    if step.spec.load.mode == "append":
        differing = step.count_known(step.differs)
        if differing:
            notes.append(f"{differing} known rows differ in the payload and stay as they were (load.mode: append)")
        return Change(step.insert_new(), 0, deleted, notes=tuple(notes))
    added, updated = step.upsert()
    return Change(added, updated, deleted, bool(out.held), tuple(notes))
