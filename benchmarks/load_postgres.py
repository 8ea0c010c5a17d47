"""The same million rows into PostgreSQL: by us, by COPY and MERGE, by dlt, and by processes of ingestr and Sling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import payloads
from benchmarks.cluster import Cluster, cluster
from benchmarks.commands import ingestr, sling
from benchmarks.harness import OWN, Sample, Session, say
from benchmarks.load import STEPS, WORKS, measure_steps, own, scripted, sizes
from benchmarks.serving import served

_FILES = {"initial": "initial.csv", "identical": "initial.csv", "delta": "delta.csv"}


def measure(session: Session, folder: Path) -> None:
    """Measure `postgres.*`."""
    large, _, _ = sizes(session)
    files = folder / "files"
    say(f"payload of {large} rows")
    payloads.initial(files / "warm.csv", min(1000, large))
    payloads.initial(files / "initial.csv", large)
    payloads.delta(files / "delta.csv", large)
    (folder / "server").mkdir()
    with served(files) as base, cluster(folder / "server") as server:
        turns = {
            OWN: _fresh(server, own(folder, base, STEPS, server.url())),
            "COPY and merge": _fresh(server, scripted("postgres_plain.py", folder, base, STEPS, server.url())),
            "dlt": _fresh(server, scripted("dlt_load.py", folder, base, STEPS, server.url())),
            "ingestr": _fresh(server, _each(ingestr, files, server, folder)),
            "sling": _fresh(server, _each(sling, files, server, folder)),
        }
        measure_steps(session, "postgres", WORKS, turns)


def _fresh(server: Cluster, turn: Callable[[], dict[str, Sample]]) -> Callable[[], dict[str, Sample]]:
    def taken() -> dict[str, Sample]:
        server.fresh("warm", "main")
        return turn()

    return taken


def _each(
    load: Callable[[Path, str, Path], Sample], files: Path, server: Cluster, folder: Path
) -> Callable[[], dict[str, Sample]]:
    return lambda: {step: load(files / name, server.url("main"), folder / "state") for step, name in _FILES.items()}
