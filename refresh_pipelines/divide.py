"""Rows of several periods out of one payload, divided by the partition column into one staged file each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.contract import staged_schema
from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.measure import calculator, measure
from refresh_pipelines.parse import Notes
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, Staged, accept
from refresh_pipelines.window import Window


def divide(
    spec: SourceSpec, parts: Iterable[Part], whole: Window, windows: Sequence[Window], folder: Path, notes: Notes
) -> list[Staged]:
    """Parse and check payloads once, and return the staged rows of each window, in their order.

    Rows that count as none (`filtered`) are booked on the first window: they belong to no period.

    Raises:
        RefreshError: as `stage`; ContractViolation also for a row whose partition column is empty.
    """
    path = folder / "rows.arrow"
    contract = accept(spec, parts, whole, path, notes)
    out = []
    with calculator(folder / "rows.spill") as connection:
        for number, rows in enumerate(_by_window(spec, path, windows)):
            piece = folder / f"rows-{number}.arrow"
            with pa.OSFile(str(piece), "wb") as sink, pa.ipc.new_file(sink, staged_schema(spec)) as writer:
                writer.write_table(rows)
            unique = measure(connection, spec, contract.key, piece)
            out.append(Staged(piece, unique.rows, rows.num_rows, 0, unique.duplicates, unique.hash))
    return [replace(out[0], filtered=contract.tally.filtered), *out[1:]]


def _by_window(spec: SourceSpec, path: Path, windows: Sequence[Window]) -> Iterable[pa.Table]:
    column = spec.partitions.column if spec.partitions else None
    if column is None:
        raise ValueError(f"{spec.name} has no partition column")
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_file(source).read_all()
        if rows[column].null_count:
            raise ContractViolation(
                f"{rows[column].null_count} rows belong to no partition",
                expected=f"a value in {column}, by which one payload is divided into partitions",
                came="none",
                todo=f"Declare {column} as nullable: false, or drop such rows with load.skip_missing.",
            )
        instants = pc.cast(pc.cast(rows[column], pa.timestamp("us")), pa.int64())
        order = pc.sort_indices(instants)  # stable: `duplicates: last` keeps the payload's order
        sorted_at = pc.take(instants, order).to_numpy()
        ends = [window.end.timestamp() * 1e6 for window in windows if window.end]
        cuts = [0, *np.searchsorted(sorted_at, ends, side="left").tolist()]
        for begin, end in pairwise(cuts):
            yield rows.take(order.slice(begin, end - begin)).combine_chunks()
