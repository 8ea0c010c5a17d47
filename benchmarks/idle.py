"""What a service of 1,000 sources costs while nothing is due: all processes of `refresh start`, over two minutes.

CPU is that of every process the supervisor has, in percent of one core; memory is PSS, in which a page that several
processes share is counted once. Samples are equal parts of the time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from benchmarks import payloads
from benchmarks.drain import sources_of
from benchmarks.harness import OWN, BenchError, Sample, Session, say
from benchmarks.place import PREFORK, Place
from benchmarks.serving import served
from refresh_pipelines.service import supervised

_PROCESSES = 5


def measure(session: Session, folder: Path) -> None:
    """Measure `idle.cpu` and `idle.pss`."""
    if sys.platform != "linux":
        raise BenchError("only Linux says what share of memory is a process's own")
    sources, settling, seconds = (5, 2.0, 2.0) if session.quick else (1000, 120.0, 120.0)
    payloads.initial(folder / "files" / "ten.csv", 10)
    with served(folder / "files") as base:
        place = Place(folder / "place", f"{base}/etag/ten.csv", sources_of(sources), PREFORK)
        place.refresh("start")
        try:
            place.wait_loaded()
            say(f"  settling for {settling:.0f} s")
            time.sleep(settling)
            watched(session, place, seconds)
        finally:
            place.refresh("stop")


def watched(session: Session, place: Place, seconds: float) -> None:
    """Watch the processes for so long. Raises BenchError when one of the service's is not there."""
    part = seconds / session.rounds
    before = _spent(place)
    for number in range(session.rounds):
        begun = time.monotonic()
        time.sleep(part)
        after, passed = _spent(place), time.monotonic() - begun
        # Of a process that has ended in between, what it had spent before is known and the rest is not.
        cpu = sum(spent - before.get(key, 0.0) for key, spent in after.items())
        before = after
        say(f"  part {number + 1}/{session.rounds}: {len(after)} processes")
        session.add("idle.cpu", OWN, Sample(cpu / passed * 100, passed, cpu), "% of a core")
        session.add("idle.pss", OWN, Sample(_summed(place, lambda one: one.memory_full_info().pss) / 1e6), "MB")


def _spent(place: Place) -> Mapping[tuple[int, float], float]:
    return {
        (one.pid, one.create_time()): sum(one.cpu_times()[:4])  # with children that have ended
        for one in _family(place)
    }


def _summed(place: Place, of: Callable[[psutil.Process], int]) -> int:
    return sum(of(one) for one in _family(place))


def _family(place: Place) -> list[psutil.Process]:
    supervisor = supervised.running(place.settings)
    if supervisor is None:
        raise BenchError("the service is not running")
    found = psutil.Process(supervisor.pid).children(recursive=True)
    if len(found) < _PROCESSES:
        raise BenchError(f"{len(found)} processes of the service are running, and not {_PROCESSES}")
    return [psutil.Process(supervisor.pid), *found]
