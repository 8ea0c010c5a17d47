"""What a person should know of sources that do not agree: how many values, by how much, and where first."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.spec import SourceSpec

_SHOWN = 3


def disagreements(spec: SourceSpec, result: Path) -> tuple[str, ...]:
    """Return one sentence on the values of a reconciled result that lie too far apart; none if all agree.

    Args:
        spec: a derived source.
        result: what its query gave, as text.
    """
    wanted = spec.derive.reconcile if spec.derive else None
    if wanted is None:
        return ()
    with pa.memory_map(str(result)) as source:
        table = pa.ipc.open_file(source).read_all()
        apart = table.filter(pc.equal(table["disagreement"], "true").fill_null(False))
        rows = apart.sort_by([(name, "ascending") for name in wanted.key]).to_pylist()
    if not rows:
        return ()
    compared = len(table.filter(pc.is_valid(table["spread"])))
    worst = sorted(rows, key=lambda row: -float(row["spread"]))[:_SHOWN]
    shown = "; ".join(_words(row, wanted.key) for row in worst)
    more = f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    one = "lies" if len(rows) == 1 else "lie"
    return (
        f"{len(rows)} of {compared} values that several sources give {one} more than {wanted.tolerance} apart:"
        f" {shown}{more}",
    )


def _words(row: dict[str, str], key: tuple[str, ...]) -> str:
    others = ", ".join(f"{name} {value:g}" for name, value in json.loads(row["alternatives"]).items())
    name = " ".join(row[part] or "-" for part in key)
    return f"{name} ({row['source']} {float(row['value']):g}, {others}: {float(row['spread']):.1%})"
