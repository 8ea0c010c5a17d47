"""A process that loads a sample and then a payload that is far larger; says by how many megabytes its memory grew.

`python -m refresh_pipelines_tests.nasty_child SOURCE PARTITION FOLDER TIMES`
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.nasty import Commas, Good
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, say


def enlarged(good: Good, times: int) -> bytes:
    """The rows again and again, with other numbers in the key."""
    table = good.table
    assert isinstance(table, Commas)
    name = next(name for name in good.spec.merge_key if name in ("api_well_number", "carrier_npdid"))
    place, rows = table.field(name), list(table.rows)
    for number in range(1, times):
        for row in rows:
            new = list(row)
            new[place] = str(int(row[place]) + 10_000 * number)
            table.rows.append(new)
    return good.packed(table.write())


def main(source: str, partition: str, folder: str, times: str) -> None:
    spec, key = builtin(source), partition or None
    with Sandbox(SAMPLES, clock=lambda: NOW) as sandbox:
        bench = Bench(Path(folder), sandbox.base)
        bench.refresh(spec, key)
        path = sandbox.requests[-1].path
        sandbox.override(path, (Path(folder) / "large").read_bytes())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            verdict = bench.refresh(spec, key).outcome
        except RefreshError as error:
            verdict = error.error_class
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        say(verdict, grown)


if __name__ == "__main__":
    main(*sys.argv[1:])
