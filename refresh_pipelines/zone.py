"""Local times into instants, whole columns at a time: the hour that comes twice and the one that never comes."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

_UTC = pa.timestamp("us", tz="UTC")


def instants(
    local: pa.Array, zone: str, ambiguous: Literal["refuse", "first", "last"], nonexistent: Literal["refuse", "shift"]
) -> pa.Array:
    """Return the instants that the clocks of a zone showed as these local times; null for those that are refused.

    Args:
        ambiguous: which instant a time is that came twice, when clocks were set back.
        nonexistent: whether a time that clocks skipped is read as if they had not been set yet, as a logger does
            that stays on winter time: 02:30 is then what the clocks showed as 03:30.
    """
    first = pc.assume_timezone(local, zone, ambiguous="earliest", nonexistent="earliest")
    last = pc.assume_timezone(local, zone, ambiguous="latest", nonexistent="latest")
    several = pc.not_equal(first, last).fill_null(False)
    if not pc.any(several).as_py():
        return first.cast(_UTC)
    # Of a time that was skipped, `first` is the moment before the gap, which shows another time.
    shown = pc.equal(pc.local_timestamp(first), local)
    none = pa.scalar(None, _UTC)
    twice = {"first": first.cast(_UTC), "last": last.cast(_UTC), "refuse": none}[ambiguous]
    skipped = _shifted(local, first) if nonexistent == "shift" else none
    return pc.if_else(several, pc.if_else(shown, twice, skipped), first.cast(_UTC))


def _shifted(local: pa.Array, before: pa.Array) -> pa.Array:
    """Return local times as instants by the offset that held at `before`."""
    offset = pc.subtract(pc.cast(pc.local_timestamp(before), pa.int64()), pc.cast(before, pa.int64()))
    return pc.cast(pc.cast(pc.subtract(pc.cast(local, pa.int64()), offset), pa.timestamp("us")), _UTC)
