"""Ourselves in a warm process: `refresh()` of one source, step by step, as peers/timing.py has it.

Modules are loaded and a first refresh is done before anything is timed, which is what a long-lived process has behind
it. The address of the source never changes, only what stands behind it, so that each step is the same source.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import requests

from benchmarks.payloads import COLUMNS
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.refresh import Tools, refresh
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import Warehouse, open_warehouse
from refresh_pipelines.window import window_of

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from timing import run_steps

# A file that brings ten thousand rows after ten million looks like an accident; here it is meant.
_ANY = {"min_rows": 1, "change": "off", "bytes": "off", "shrink": "off", "updated": "off"}
YAML = """\
description: Made-up stations for a measurement
request: {{url: "https://example.org/stations.csv", timeout: 10m, max_bytes: 3GB}}
format: csv
columns:
{columns}
merge_key: [id]
schedule: {schedule}
expect: {{min_rows: 1, change: off, bytes: off, shrink: off, updated: off}}
"""


def yaml_of(schedule: str = "{frequency: daily}") -> str:
    """Return the source as a file of a catalogue."""
    lines = [f"  {name}: {{type: {kind}, nullable: {str(name != 'id').lower()}}}" for name, kind, *_ in COLUMNS]
    return YAML.format(columns="\n".join(lines), schedule=schedule)


@cache
def source() -> SourceSpec:
    """Return the source as `refresh` takes it."""
    return SourceSpec.model_validate(
        {
            "description": "Made-up stations for a measurement",
            "request": {"url": "https://example.org/stations.csv", "timeout": "10m", "max_bytes": "3GB"},
            "format": "csv",
            "columns": {name: {"type": kind, "nullable": name != "id"} for name, kind, *_ in COLUMNS},
            "merge_key": ["id"],
            "schedule": {"frequency": "daily"},
            "expect": _ANY,
            "group": "bench",
            "source": "stations",
            "file": "stations.yaml",
        }
    )


class _Place:
    """A data folder with its warehouse; both stay as a long-lived process has them."""

    def __init__(self, folder: Path, database: str) -> None:
        self.settings = Settings(
            root=folder, data_dir=folder / "data", catalog=(), warehouse=database or f"duckdb://{folder}/stations.duckdb",
            lock_timeout=timedelta(minutes=5),
        )  # fmt: skip
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.warehouse: Warehouse = open_warehouse(self.settings)
        self.session, self.runs = requests.Session(), 0


@cache
def _place(folder: Path, database: str) -> _Place:
    return _Place(folder, database)


def load(url: str, into: str, state: Path, database: str) -> None:
    """Refresh the source from a file of the server. Raises whatever a refresh raises."""
    place, spec = _place(state / into, database), source()
    place.runs += 1
    settings = replace(place.settings, upstream=url)
    tools = Tools(settings, place.warehouse, Fetcher(settings, place.session))
    refresh(spec, window_of(spec, None), tools, run_id=f"{place.runs:08}")


if __name__ == "__main__":
    run_steps(load)
