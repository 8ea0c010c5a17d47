"""Which partitions a command means: from its options to the runs to make. Knows no Dagster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.ranges import between, runs_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import UnknownPartition, due_keys, partition_keys, split_key, window_of


@dataclass(frozen=True)
class Wanted:
    """The options that choose partitions; without any the due ones are meant."""

    partitions: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None
    missing: bool = False

    def needs_history(self, spec: SourceSpec) -> bool:
        """Whether the event log must be asked: what was loaded, and which dynamic keys there are."""
        return self.missing or bool(spec.partitions and spec.partitions.dynamic)


def runs_wanted(
    spec: SourceSpec,
    wanted: Wanted,
    now: datetime,
    dynamic: Sequence[str] = (),
    succeeded: Collection[str] = (),
    arrived: Sequence[str] | None = None,
) -> list[tuple[str, ...]]:
    """Return the key ranges to run, one run each; a source without partitions has one empty range.

    Args:
        dynamic: keys that were added to a dynamic dimension.
        succeeded: partitions with a success, "" for a source without partitions; asked under `missing`.
        arrived: of a drop, the days with files that no run has dealt with: what is due of it.

    Raises:
        ValueError: the source has no such partition, or the range is none; the message says what there is.
    """
    if spec.partitions is None:
        if wanted.partitions:
            window_of(spec, wanted.partitions[0])
        return [] if wanted.missing and "" in succeeded else [()]
    keys = partition_keys(spec, now, dynamic)
    if wanted.partitions:
        return [run for key in dict.fromkeys(wanted.partitions) for run in _named(spec, key, keys)]
    if wanted.first or wanted.last or wanted.missing:
        chosen = _range(spec, wanted, keys)
        left = {key for key in chosen if key not in succeeded or key in (arrived or ())}
        left = left if wanted.missing else set(chosen)
        return runs_of(spec, left, keys)
    if arrived:
        return [(day,) for day in arrived]
    return [tuple(due_keys(spec, now, dynamic)) if arrived is None else ()]


def nothing_due(spec: SourceSpec) -> str:
    """Say why a source has no partition."""
    if spec.partitions and spec.partitions.dynamic:
        return f"{spec.name} has no partition yet: add one with `refresh run {spec.source} --partition KEY`"
    return f"{spec.name} has no partition yet: the first one begins at {spec.partitions and spec.partitions.start}"


def _named(spec: SourceSpec, key: str, keys: Sequence[str]) -> list[tuple[str, ...]]:
    crossed = spec.partitions is not None and spec.partitions.time and spec.partitions.dimension
    if crossed and split_key(key)[1] is None:
        return runs_of(spec, set(_range(spec, Wanted(first=key, last=key), keys)), keys)
    return [(_known(spec, key, keys),)]


def _range(spec: SourceSpec, wanted: Wanted, keys: Sequence[str]) -> list[str]:
    for end in filter(None, (wanted.first, wanted.last)):
        crossed = spec.partitions is not None and spec.partitions.time and spec.partitions.dimension
        periods = list(dict.fromkeys(split_key(key)[0] for key in keys))
        if not (crossed and end in periods):
            _known(spec, end, keys)
    chosen = between(spec, keys, wanted.first, wanted.last)
    if keys and not chosen:
        raise ValueError(f"--from {wanted.first} comes after --to {wanted.last}")
    return chosen


def _known(spec: SourceSpec, key: str, keys: Sequence[str]) -> str:
    if spec.partitions and spec.partitions.dynamic:
        return key
    window_of(spec, key)
    if not keys:
        raise UnknownPartition(nothing_due(spec))
    if key not in keys:
        hint = did_you_mean(key, keys[-40:]) or f"from {keys[0]} to {keys[-1]}"
        raise UnknownPartition(f"{spec.name} has no partition {key!r} ({hint})")
    return key
