"""How much memory a refresh takes at its most, for a payload of 100 MB and for one ten times as large.

A process of its own for each, which has loaded a thousand rows before; megabytes are millions of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import payloads
from benchmarks.harness import OWN, BenchError, Sample, Session, say
from benchmarks.load import WARM, own
from benchmarks.serving import served

# About 91 bytes a row.
_ROWS = {"100mb": 1_100_000, "1gb": 11_000_000}


def measure(session: Session, folder: Path) -> None:
    """Measure `memory.*`."""
    files = folder / "files"
    payloads.initial(files / "warm.csv", 1000)
    for name, full in _ROWS.items():
        say(f"payload of {name}")
        rows = full // 1000 if session.quick else full
        size = payloads.initial(files / f"{name}.csv", rows).stat().st_size
        session.notes[f"payload of {name}"] = f"{rows:,} rows, {size / 1e6:,.0f} MB of CSV"
    with served(files) as base:
        for name in _ROWS:
            session.alternate([f"memory.{name}"], {OWN: _peak(folder, base, name)}, "MB")


def _peak(folder: Path, base: str, name: str) -> Callable[[int], Mapping[str, Sample]]:
    def turn(_: int) -> Mapping[str, Sample]:
        found = own(folder, base, (WARM, f"load=plain/{name}.csv:main"))()["load"]
        if found.rss is None:
            raise BenchError("this system does not say how much memory a process has held")
        return {f"memory.{name}": Sample(found.rss / 1e6, found.wall, found.cpu, found.rss)}

    return turn
