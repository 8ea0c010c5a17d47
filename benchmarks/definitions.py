"""How long a catalogue takes to become what Dagster's daemon and UI work with.

    .venv/bin/python benchmarks/definitions.py

Sources are copies of those of the built-in catalogue under other names, so that static, time and no
partitions, CSV and JSON are mixed as they really are, and one more without partitions. Every
measurement is a fresh process; printed are medians of five:

- dagster: `import dagster`, to compare with; everything below is on top of it
- imports: our own modules and what they need beside Dagster (pydantic, pyarrow, DuckDB, requests)
- catalogue: `load_catalogue`, the YAML files into checked sources
- definitions: `build_definitions`, those into assets, schedules and sensors
- snapshot: the repository with its snapshot as text, what daemon and UI ask the code server for
- load: the last three together; the bounds are 0.5 s for 60 sources and 5 s for 1,000
- ratio: load to `import dagster`
"""

# ruff: noqa: PLC0415 - what is imported when is what is measured

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

PARTS = ("dagster", "imports", "catalogue", "definitions", "snapshot")
SIZES = (60, 1000)
REPEATS = 5
PLAIN = """\
description: A file without partitions
request: {url: "https://example.org/stations.csv", timeout: 30s}
format: csv
columns:
  station: {type: text, nullable: false, description: the station's id}
  opened: {type: date, missing: ["n/a"]}
  height: {type: double, unit: m, min: -500, max: 9000}
merge_key: [station]
schedule: {frequency: weekly, day: friday, time: "15:45", timezone: America/New_York}
freshness: {checked: 8d}
"""


def main() -> None:
    """Measure each size and print a table."""
    print("sources  " + "  ".join(f"{part:>11}" for part in PARTS) + "     load  ratio")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), size)
            runs = [measure(Path(folder)) for _ in range(REPEATS)]
        middle = {part: median(run[part] for run in runs) for part in PARTS}
        total = median(sum(run[part] for part in PARTS[2:]) for run in runs)
        cells = "  ".join(f"{middle[part]:10.2f}s" for part in PARTS)
        print(f"{size:7}  {cells}  {total:6.2f}s  {total / middle['dagster']:5.2f}", flush=True)


def generate(folder: Path, size: int) -> None:
    """Write a catalogue of `size` sources, each a copy of one of the built-in catalogue's, in its group."""
    from refresh_pipelines.settings import BUILTIN_CATALOG

    shapes = [(path.parent.name, path.read_text()) for path in sorted(BUILTIN_CATALOG.glob("*/*.yaml"))]
    shapes = [*(shape for shape in shapes if "\nrequest:" in shape[1]), ("plain", PLAIN)]
    for number in range(size):
        group, text = shapes[number % len(shapes)]
        (folder / group).mkdir(exist_ok=True)
        # Copies must not share one table or name.
        lines = [line for line in text.splitlines() if not line.startswith(("table:", "aliases:"))]
        (folder / group / f"source_{number}.yaml").write_text("\n".join(lines) + "\n")
    for path in BUILTIN_CATALOG.glob("*/group.yaml"):
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())


def measure(folder: Path) -> dict[str, float]:
    """Return the seconds of each part, from one fresh process."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, "--child", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout)


def child(folder: Path) -> None:
    """Measure this process and print the seconds of each part."""
    marks = [perf_counter()]
    import dagster as dg

    marks.append(perf_counter())
    from refresh_pipelines.catalogue import load_catalogue
    from refresh_pipelines.orchestration.build import build_definitions
    from refresh_pipelines.settings import Settings

    marks.append(perf_counter())
    settings = Settings.load({"REFRESH_CATALOG": str(folder), "REFRESH_DATA_DIR": str(folder)})
    catalogue = load_catalogue(settings.catalog, settings.environ)
    if catalogue.broken:
        raise SystemExit("\n".join(str(problem) for problem in catalogue.problems))
    marks.append(perf_counter())
    definitions = build_definitions(settings, catalogue)
    marks.append(perf_counter())
    # What the code server does for GetExternalRepositories, see dagster._grpc.server.
    from dagster._core.remote_representation.external_data import RepositorySnap

    text = dg.serialize_value(RepositorySnap.from_def(definitions.get_repository_def(), defer_snapshots=True))
    marks.append(perf_counter())
    if not text:
        raise SystemExit("the snapshot is empty")
    seconds = [after - before for before, after in pairwise(marks)]
    print(json.dumps(dict(zip(PARTS, seconds, strict=True))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
    else:
        main()
