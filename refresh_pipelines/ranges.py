"""Partition keys into runs: a run covers a range from a first to a last key, along time and along other keys. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import Window, split_key


def runs_of(spec: SourceSpec, wanted: Collection[str], keys: Sequence[str]) -> list[tuple[str, ...]]:
    """Group the wanted keys into runs, each a gapless range, oldest first or as declared.

    With two dimensions a run is a rectangle: some neighbouring periods times some neighbouring
    static keys, from its first key to its last in the order of `keys`.

    Args:
        keys: every key the source has, in its order; keys that are not among them are left out.
    """
    if spec.partitions is None or spec.partitions.time is None or spec.partitions.dimension is None:
        return [tuple(run) for run in _gapless(keys, set(wanted))]
    return _rectangles(keys, set(wanted))


def _gapless(keys: Sequence[str], wanted: set[str]) -> Iterator[list[str]]:
    for inside, group in groupby(keys, key=wanted.__contains__):
        if inside:
            yield list(group)


def _rectangles(keys: Sequence[str], wanted: set[str]) -> list[tuple[str, ...]]:
    done: list[list[str]] = []
    growing: dict[tuple[str | None, ...], list[str]] = {}
    for _, period in groupby(keys, key=lambda key: split_key(key)[0]):
        rows = {tuple(split_key(key)[1] for key in row): row for row in _gapless(list(period), wanted)}
        done += [growing.pop(others) for others in list(growing) if others not in rows]
        for others, row in rows.items():
            growing.setdefault(others, []).extend(row)
    done += growing.values()
    places = {key: place for place, key in enumerate(keys)}
    return [tuple(run) for run in sorted(done, key=lambda run: places[run[0]])]


def between(spec: SourceSpec, keys: Sequence[str], first: str | None, last: str | None) -> list[str]:
    """Return the keys from `first` to `last`, both included; None is the first or last there is.

    With two dimensions the ends are periods (then every static key is meant) or whole keys of one
    static key (then that one alone is).

    Raises:
        ValueError: an end is no key, the ends are in the wrong order or of different static keys.
    """
    if spec.partitions is None or spec.partitions.time is None or spec.partitions.dimension is None:
        return list(keys[_place(spec, keys, first, 0) : _place(spec, keys, last, len(keys) - 1) + 1])
    others = {split_key(end)[1] for end in (first, last) if end}
    if len(others) > 1:
        raise ValueError(f"{spec.name}: a range lies along time, so {first} and {last} must name the same static key")
    only = next(iter(others), None)
    for end in (first, last):
        _place(spec, keys, end if only else None, 0)
    chosen = [key for key in keys if only is None or split_key(key)[1] == only]
    periods = list(dict.fromkeys(split_key(key)[0] for key in chosen))
    ends = [end and split_key(end)[0] for end in (first, last)]
    low, high = _place(spec, periods, ends[0], 0), _place(spec, periods, ends[1], len(periods) - 1)
    inside = set(periods[low : high + 1])
    return [key for key in chosen if split_key(key)[0] in inside]


def _place(spec: SourceSpec, keys: Sequence[str], end: str | None, default: int) -> int:
    if end is None:
        return default
    if end not in keys:
        raise ValueError(f"{spec.name} has no partition {end!r}")
    return keys.index(end)


def spans(spec: SourceSpec, windows: Sequence[Window]) -> list[list[Window]]:
    """Divide a run's windows into what one request each may serve: neighbours in time, at most `request.span`.

    With two dimensions the windows of each static key lie together, in time.
    """
    most = spec.request.span
    kind = spec.partitions.time if spec.partitions else None
    if most == 1 or kind is None:
        return [[window] for window in windows]
    by_other: dict[str | None, list[Window]] = {}
    for window in windows:
        by_other.setdefault(split_key(window.partition or "")[1], []).append(window)
    return [span for same in by_other.values() for span in _neighbours(same, most)]


def _neighbours(windows: Sequence[Window], most: int) -> list[list[Window]]:
    out: list[list[Window]] = []
    for window in sorted(windows, key=lambda window: window.partition or ""):
        if out and out[-1][-1].end == window.start and len(out[-1]) < most:
            out[-1].append(window)
        else:
            out.append([window])
    return out
