"""`refresh run SOURCE` as a person types it: a whole process that loads 10,000 rows into a table that is there.

Compared with `import dagster`, the limit of whatever goes through Dagster, and with ingestr and Sling. Each round half
of the rows have changed and half are new. The history exists: what a first start makes is not measured.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import payloads
from benchmarks.cluster import cluster
from benchmarks.commands import ingestr, sling
from benchmarks.harness import OWN, Sample, Session, weighed
from benchmarks.load import sizes
from benchmarks.own_load import yaml_of
from benchmarks.serving import served

WORK = "cold.run"


def measure(session: Session, folder: Path) -> None:
    """Measure `cold.run`."""
    _, _, rows = sizes(session)
    files, place, state = folder / "files", folder / "place", folder / "state"
    payloads.initial(files / "first.csv", rows)
    for number in range(session.rounds):
        payloads.later(files / f"{number}.csv", rows, rows + number * (rows // 2))
    source = place / "catalog" / "bench" / "stations.yaml"
    source.parent.mkdir(parents=True)
    source.write_text(yaml_of())
    (folder / "server").mkdir()
    with served(files) as base, cluster(folder / "server") as server:
        server.fresh("main")

        def refreshed(name: str) -> Sample:
            settings = {
                "REFRESH_CATALOG": str(place / "catalog"), "REFRESH_DATA_DIR": str(place / "data"),
                "REFRESH_UPSTREAM": f"{base}/plain/{name}.csv",
            }  # fmt: skip
            return weighed([Path(sys.executable).parent / "refresh", "run", "stations"], settings)[1]

        def by(load: Callable[[Path, str, Path], Sample]) -> Callable[[int], Mapping[str, Sample]]:
            def turn(number: int) -> Mapping[str, Sample]:
                if number == 0:
                    load(files / "first.csv", server.url("main"), state)
                return {WORK: load(files / f"{number}.csv", server.url("main"), state)}

            return turn

        def ours(number: int) -> Mapping[str, Sample]:
            if number == 0:
                refreshed("first")
            return {WORK: refreshed(str(number))}

        def imported(_: int) -> Mapping[str, Sample]:
            return {WORK: weighed([sys.executable, "-c", "import dagster"])[1]}

        session.alternate([WORK], {OWN: ours, "import dagster": imported, "ingestr": by(ingestr), "sling": by(sling)})
    shutil.rmtree(place, ignore_errors=True)
