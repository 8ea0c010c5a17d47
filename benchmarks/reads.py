"""What it takes to be told how a thousand sources are after a million events: commands as whole processes, and the API.

The history is made (`long_history`). What a first look has to read of it is read before: whoever asks has asked before,
and so has the daemon. The API is asked when what it gathered last is too old to be shown again, its slowest answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import requests

from benchmarks import payloads
from benchmarks.drain import sources_of
from benchmarks.harness import OWN, Sample, Session
from benchmarks.long_history import lengthen
from benchmarks.place import PREFORK, Place, wait
from benchmarks.serving import served
from refresh_pipelines.service.board import KEPT
from refresh_pipelines.service.processes import API

SOURCES, EVENTS = 1000, 1_000_000
COMMANDS = {"status": ("status",), "history": ("history", "s0000"), "gaps": ("gaps", "s0000"), "plan": ("plan",)}
_FRESH = "freshness: {checked: 2d}\n"


def measure(session: Session, folder: Path) -> None:
    """Measure `reads.*`; the values are seconds."""
    count, events = (3, 200) if session.quick else (SOURCES, EVENTS)
    sources = {name: text + _FRESH for name, text in sources_of(count).items()}
    payloads.initial(folder / "files" / "ten.csv", 10)
    with served(folder / "files") as base:
        place = Place(folder / "place", f"{base}/etag/ten.csv", sources, PREFORK)
        place.refresh("run", place.names[0])
    runs = lengthen(place.settings.data_dir / "dagster" / "history", place.names, events)
    session.notes["reads"] = f"{count} sources, {runs} runs, {events} events"
    for name in (*place.names[:1], ""):
        place.refresh("status", *filter(None, [name]))
    for _ in range(session.rounds):
        for work, words in COMMANDS.items():
            session.add(f"reads.{work}", OWN, place.refresh(*words))
    with place.named(API):
        for work, seconds in _asked(place, session.rounds).items():
            for value in seconds:
                session.add(f"reads.{work}", OWN, Sample(value))


def _asked(place: Place, rounds: int) -> Mapping[str, list[float]]:
    """Return how long answers took that had to be gathered, and ones right after that."""
    address = f"http://127.0.0.1:{place.environ['REFRESH_API_PORT']}/api/sources"

    def asked() -> float:
        begun = time.perf_counter()
        requests.get(address, timeout=60).raise_for_status()
        return time.perf_counter() - begun

    def answers() -> bool:
        try:
            return bool(asked())
        except requests.RequestException:
            return False

    wait(answers, "the API to answer", place.folder / "log")
    gathered, again = [], []
    for _ in range(rounds):
        time.sleep(KEPT.total_seconds() + 1)
        gathered.append(asked())
        again.append(asked())
    return {"api": gathered, "api_again": again}
