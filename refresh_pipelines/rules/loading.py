"""Rules for `load.mode`: a snapshot is the whole of a source, so nothing beside it may be only a part."""

from __future__ import annotations

from collections.abc import Iterator

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem


def check_snapshot(draft: Draft) -> Iterator[Problem]:
    """Each payload of a snapshot is everything there is, and one follows the other in time."""
    partitions = draft.partitions
    if draft.load.mode != "snapshot" or partitions is None:
        return
    loc = ("load", "mode")
    if partitions.static or partitions.dynamic:
        what = "static" if partitions.static else "dynamic"
        hint = "use mode: replace_partition"
        yield draft.problem(loc, f"each snapshot would delete the rows of the other {what} partitions", hint)
    if partitions.column:
        message = "a snapshot is the whole table, and column lets a payload hold the rows of one period only"
        yield draft.problem(("partitions", "column"), message, "leave it out, or use mode: replace_partition", key=True)
    if partitions.lookback:
        message = "a snapshot of an earlier period cannot be loaded after a later one, as lookback would"
        yield draft.problem(("partitions", "lookback"), message, "leave it out", key=True)
