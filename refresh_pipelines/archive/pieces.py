"""One partition's rows out of a kept payload that holds several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refresh_pipelines.archive.journal import Load
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.divide import divide
from refresh_pipelines.errors import InternalError
from refresh_pipelines.parse import Notes
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.window import Window, key_format, split_key, window_of


def windows_between(spec: SourceSpec, first: str, last: str) -> list[Window]:
    """Return the windows of neighbouring time partitions. Raises UnknownPartition."""
    kind = spec.partitions.time if spec.partitions else None
    found = [window_of(spec, first)]
    while found[-1].partition != last:
        end, other = found[-1].end, split_key(first)[1]
        if kind is None or end is None or len(found) > spec.request.span + 1000:
            raise InternalError(
                f"the payload of {first} to {last} is of other partitions than the YAML declares",
                todo="Nothing was loaded. Restore `partitions`, or fetch anew with `refresh run SOURCE --force`.",
            )
        key = end.strftime(key_format(kind))
        found.append(window_of(spec, f"{key}|{other}" if other else key))
    return found


def piece_of(
    spec: SourceSpec, answer: Delivery, load: Load, window: Window, folder: Path, notes: Notes
) -> Staged:  # fmt: skip
    """Read a payload of several partitions; return the rows of one. Raises as `divide`, and UnknownPartition."""
    return pieces(spec, answer, load, folder, notes)[window.partition or ""]


def pieces(spec: SourceSpec, answer: Delivery, load: Load, folder: Path, notes: Notes) -> dict[str, Staged]:
    """Read a payload of several partitions; return the rows of each. Raises as `divide`, and UnknownPartition."""
    windows = windows_between(spec, *load.origin.keys)
    whole = replace(windows[0], partition=None, end=windows[-1].end)
    staged = divide(spec, answer.parts, whole, windows, folder, notes)
    return {window.partition or "": rows for window, rows in zip(windows, staged, strict=True)}
