"""What the warehouse needs to judge a payload: its own numbers, those accepted before, and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.plausible import LEAST_FLAT, Limits, Past, judged
from refresh_pipelines.profile import Profile, comparable, read
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.window import Window, split_key, window_of

# So many periods before a new one say what is usual.
_OTHERS = 12


@dataclass(frozen=True)
class Weight:
    """What is known of a payload before it meets the table.

    Attributes:
        payload: its own numbers; those of the table are not filled in.
        past: accepted ones of the same version of the YAML.
        remembered: the text of the load state they came from.
        limits: None: it is only remembered, and passes whatever it is.
        remember: whether it joins what later ones are compared with.
        time: the column that says when each row is, if there is one, with its first and last value.
    """

    payload: Profile
    past: Past
    remembered: str
    limits: Limits | None
    remember: bool = True
    time: str | None = None
    first: object = None
    last: object = None


def weigh(
    spec: SourceSpec,
    window: Window,
    staged: Staged,
    known: Mapping[str, str],
    now: datetime,
    *,
    size: int = 0,
    judge: bool = True,
    missing: bool = False,
) -> Weight | None:
    """Return what there is to judge a payload by; None for a source that is never judged.

    Args:
        spec: the source.
        window: what was asked for, narrowed to the cursor where it was.
        staged: the rows.
        known: the remembered profiles of the source's load states, by partition ("" without).
        now: the time it is.
        size: bytes of the payload; 0 where they are those of several partitions.
        judge: False for what a person has accepted.
        missing: some of the requests were not answered.
    """
    if not judged(spec):
        return None
    rows = staged.table()
    key = window.partition or ""
    time = time_column(spec)
    ends = pc.min_max(rows[time]).as_py() if time and rows.num_rows else {"min": None, "max": None}
    whole = window.start == window_of(spec, window.partition).start
    payload = Profile(
        spec.spec_hash, now.isoformat(timespec="seconds"), rows.num_rows, size, whole, _nulls(rows), _flat(spec, rows)
    )
    past = Past(
        comparable(read(known.get(key, "")), spec.spec_hash),
        tuple(_others(spec, window.partition, known)),
        _may_grow(window, known.get(key, "")),
        window.end is None or window.end <= now,
    )
    limits = Limits.of(spec.expect) if judge else None
    if limits and missing:
        limits = limits.without("change", "bytes", "shrink", "deleted", "holes")
    return Weight(payload, past, known.get(key, ""), limits, not missing, time, ends["min"], ends["max"])


def time_column(spec: SourceSpec) -> str | None:
    """Return the column that says when a row is: the partition column, or the first of the merge key that is a time."""
    if spec.partitions and spec.partitions.column:
        return spec.partitions.column
    return next((name for name in spec.merge_key if spec.columns[name].type.startswith(("date", "timestamp"))), None)


def _nulls(rows: pa.Table) -> dict[str, int]:
    if not rows.num_rows:
        return {}
    parts = {name: 1000 * rows[name].null_count // rows.num_rows for name in rows.column_names}
    return {name: part for name, part in parts.items() if part}


def _flat(spec: SourceSpec, rows: pa.Table) -> dict[str, str]:
    """Return the number columns with one value, where there are enough rows for that to mean anything."""
    if rows.num_rows < LEAST_FLAT:
        return {}
    found = {}
    for name, column in spec.columns.items():
        if name in spec.merge_key or not column.type.startswith(("int", "bigint", "double", "decimal")):
            continue
        ends = pc.min_max(rows[name]).as_py()
        if ends["min"] is not None and ends["min"] == ends["max"]:
            found[name] = str(ends["min"])
    return found


def _others(spec: SourceSpec, partition: str | None, known: Mapping[str, str]) -> list[Profile]:
    """Return the newest profile of each of the periods before, of the same static key."""
    if partition is None or spec.partitions is None or spec.partitions.time is None:
        return []
    period, other = split_key(partition)
    keys = sorted(key for key in known if key and split_key(key)[0] < period and split_key(key)[1] == other)
    newest = (comparable(read(known[key]), spec.spec_hash)[-1:] for key in keys[-_OTHERS:])
    return [one for found in newest for one in found]


def _may_grow(window: Window, remembered: str) -> bool:
    """Whether the period was not over when the last payload was accepted."""
    before = read(remembered)
    if window.end is None or not before or not before[-1].at:
        return False
    at = datetime.fromisoformat(before[-1].at)
    return at.replace(tzinfo=at.tzinfo or timezone.utc) < window.end
