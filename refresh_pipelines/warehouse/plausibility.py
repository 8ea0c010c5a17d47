"""A merge judged before its transaction ends: what it did to the table, beside what was accepted before."""

from __future__ import annotations

from dataclasses import asdict, replace

from refresh_pipelines.plausible import LEAST_HOLES, Implausible, surprises
from refresh_pipelines.profile import Profile, with_profile
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.sql import Connection, first_row, quote
from refresh_pipelines.warehouse.base import Commit, Merged
from refresh_pipelines.weigh import Weight


def weighed(connection: Connection, commit: Commit, merged: Merged) -> Merged:
    """Return the merge with the payload's profile in its load state.

    Costs one count of the partition at most, and more only where rows of the table are missing from the payload.

    Raises:
        Implausible: the payload is a surprise; the transaction must be rolled back.
    """
    weight = commit.weight
    if weight is None:
        return merged
    profile = _beside_the_table(connection, commit, merged, weight)
    reasons = surprises(profile, weight.past, weight.limits) if weight.limits else []
    if reasons:
        raise Implausible("the payload is a surprise", reasons, asdict(merged.state.counts), profile.before)
    # The same again teaches nothing, and must not push out what did.
    known = weight.past.own[-1:]
    again = bool(weight.limits and known and profile.like(known[0]))
    text = weight.remembered if again or not weight.remember else with_profile(weight.remembered, profile)
    return replace(merged, state=replace(merged.state, profiles=text))


def _beside_the_table(connection: Connection, commit: Commit, merged: Merged, weight: Weight) -> Profile:
    counts = merged.state.counts
    lost = 0 if counts.deleted else _lost(connection, commit, merged, weight)
    instants, holes = _holes(connection, commit, weight) if lost >= LEAST_HOLES else (0, 0)
    return replace(
        weight.payload,
        before=max(0, _rows_held(connection, commit, merged) - counts.added + counts.deleted),
        known=counts.updated + counts.unchanged,
        updated=counts.updated,
        deleted=counts.deleted,
        lost=lost,
        instants=instants,
        holes=holes,
    )


def _rows_held(connection: Connection, commit: Commit, merged: Merged) -> int:
    """Return the rows that the payload stands for: of a snapshot those of all partitions, which it deletes from."""
    if commit.spec.load.mode != "snapshot" or commit.partition is None:
        return merged.partition_rows
    query = f"SELECT count(*) FROM raw.{quote(commit.spec.raw_table)} WHERE _source = ?"  # noqa: S608 - quoted
    found = first_row(connection, query, [commit.spec.source])
    return int(found[0]) if found else 0


def _lost(connection: Connection, commit: Commit, merged: Merged, weight: Weight) -> int:
    """Count rows of the partition that the payload lacks, from its own first instant on: a moving window goes on.

    Every staged row is in the table by now, so it is a matter of numbers. Rows that another partition of the source
    has written and this one brought again are counted there, which only makes the result smaller.
    """
    rows, time = merged.partition_rows, weight.time
    if time and weight.first is not None:
        found = first_row(
            connection,
            f"SELECT count(*) FROM raw.{quote(commit.spec.raw_table)} t WHERE {_MINE}"  # noqa: S608 - quoted identifiers
            f" AND (t.{quote(time)} >= $first OR t.{quote(time)} IS NULL)",
            {**_mine(commit.spec, commit.partition), "first": weight.first},
        )
        rows = int(found[0]) if found else 0
    # A rejected row was there, whatever was wrong with it.
    return max(0, rows - weight.payload.rows - commit.staged.rejected)


_MINE = "t._source = $source AND t._partition IS NOT DISTINCT FROM $partition"


def _mine(spec: SourceSpec, partition: str | None) -> dict[str, object]:
    return {"source": spec.source, "partition": partition}


def _holes(connection: Connection, commit: Commit, weight: Weight) -> tuple[int, int]:
    """Count the different instants of the table between the payload's ends, and those that the payload lacks."""
    time = weight.time
    if time is None or weight.first is None:
        return 0, 0
    found = first_row(
        connection,
        f"SELECT count(DISTINCT t.{quote(time)}) FROM raw.{quote(commit.spec.raw_table)} t WHERE {_MINE}"  # noqa: S608
        f" AND t.{quote(time)} BETWEEN $first AND $last",
        {**_mine(commit.spec, commit.partition), "first": weight.first, "last": weight.last},
    )
    instants = int(found[0]) if found else 0
    own = len(commit.staged.table()[time].drop_null().unique())
    return instants, max(0, instants - own)
