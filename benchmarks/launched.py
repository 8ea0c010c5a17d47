"""One run of 10,000 rows under our launcher once it is warm: from STARTING to its end, by the event log.

Queue, daemon, code server and launcher are those of the service. Half of the rows have changed, half are new; the runs
come one after the other, so that nothing else is waited for. The first one warms and is not measured.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import payloads
from benchmarks.drain import ended
from benchmarks.harness import OWN, BenchError, Sample, Session, say
from benchmarks.load import sizes
from benchmarks.own_load import yaml_of
from benchmarks.place import PREFORK, Place, dagster_home
from benchmarks.serving import served

WORK = "launched.run"


def measure(session: Session, folder: Path) -> None:
    """Measure `launched.run`."""
    if sys.platform != "linux":
        raise BenchError("our launcher forks, which only Linux does")
    _, _, rows = sizes(session)
    files = folder / "files"
    # One name for all: the address that runs were told stays the same, and what is behind it changes.
    shown = files / "shown.csv"
    payloads.initial(shown, rows)
    with served(files) as base, ExitStack() as stack:
        place = Place(folder / "place", f"{base}/plain/shown.csv", {"stations": yaml_of()}, PREFORK)
        place.refresh("run", "stations")
        for name in ("code", "webserver"):
            stack.enter_context(place.named(name))
        place.wait_loaded()
        instance = stack.enter_context(dagster_home(place))
        session.notes["launcher of the single run"] = type(instance.run_launcher).__name__
        stack.enter_context(place.named("daemon"))
        for number in range(-1, session.rounds):
            say(f"  run {number + 1}/{session.rounds}")
            payloads.later(files / "next.csv", rows, rows + (number + 1) * (rows // 2)).replace(shown)
            ((begun, end),) = ended(instance, place.queue(["stations"]), place)
            if number >= 0:
                session.add(WORK, OWN, Sample(end - begun, end - begun))
