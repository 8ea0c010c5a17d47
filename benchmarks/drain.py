"""How many runs that find nothing new are drained from a full queue in a minute, of a location with 60 sources.

The same sources for all: under our launcher, and under Dagster's default one with its in-process and its default
executor. Runs are queued while no daemon is there; then it starts, and the clock runs from the first run that is
starting to the end of the last, by the event log. A slow contestant drains fewer runs, so that a round takes a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import payloads
from benchmarks.harness import OWN, BenchError, Sample, Session
from benchmarks.own_load import yaml_of
from benchmarks.place import DEFAULT, PREFORK, Place, dagster_home, wait
from benchmarks.serving import served

WORK = "drain.per_minute"
MULTIPROCESS = "benchmarks.drain_multiprocess"
# Contestant: its launcher, the module with its definitions, and how many runs.
CONTESTANTS = {
    OWN: (PREFORK, None, 60),
    "default launcher, in-process executor": (DEFAULT, None, 20),
    "default launcher and executor": (DEFAULT, MULTIPROCESS, 20),
}
SOURCES = 60


def measure(session: Session, folder: Path) -> None:
    """Measure `drain.per_minute`; the value is runs a minute."""
    files = folder / "files"
    payloads.initial(files / "ten.csv", 10)
    if sys.platform != "linux":
        raise BenchError("our launcher forks, which only Linux does")
    count = 2 if session.quick else SOURCES
    sources = sources_of(count)
    with served(files) as base:
        turns = {}
        for number, (who, (launcher, module, runs)) in enumerate(CONTESTANTS.items()):
            place = Place(folder / str(number), f"{base}/etag/ten.csv", sources, launcher)
            turns[who] = _turn(session, place, who, module, min(runs, count))
        session.alternate([WORK], turns, "runs/min")


def _turn(
    session: Session, place: Place, who: str, module: str | None, runs: int
) -> Callable[[int], Mapping[str, Sample]]:
    def turn(number: int) -> Mapping[str, Sample]:
        if number == 0:
            place.refresh("run", "--all")  # what comes after finds nothing new
        rate, launcher = _drained(place, module, runs)
        session.notes[f"launcher of {who}"] = launcher
        return {WORK: Sample(rate)}

    return turn


def sources_of(count: int) -> dict[str, str]:
    """Return YAML texts by name. Each has a host of its own, since a host is a pool of two."""
    text = yaml_of("{frequency: annual, month: 1, day: 1}")
    return {f"s{number:04}": text.replace("https://", f"https://s{number}.") for number in range(count)}


def _drained(place: Place, module: str | None, runs: int) -> tuple[float, str]:
    with ExitStack() as stack:
        stack.enter_context(place.code(module) if module else place.named("code"))
        with place.named("webserver"):
            place.wait_loaded()
            ids = place.queue(place.names[:runs])
        instance = stack.enter_context(dagster_home(place))
        stack.enter_context(place.named("daemon"))
        spans, launcher = ended(instance, ids, place), type(instance.run_launcher).__name__
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return len(spans) / seconds * 60, launcher


def ended(instance: Any, ids: Sequence[str], place: Place) -> list[tuple[float, float]]:
    """Wait for runs; return when each was starting and when it had ended, in seconds since 1970.

    Raises:
        BenchError: one failed, or not all ended in time.
    """
    from dagster import DagsterRunStatus, RunsFilter  # noqa: PLC0415 - a second's import

    over = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    done = RunsFilter(run_ids=list(ids), statuses=over)
    wait(lambda: instance.get_runs_count(done) == len(ids), f"{len(ids)} runs to end", place.folder / "log", 1200)
    failed = instance.get_runs_count(RunsFilter(run_ids=list(ids), statuses=over[1:]))
    if failed:
        raise BenchError(f"{failed} of {len(ids)} runs failed")
    return list(_spans(instance, ids))


def _spans(instance: Any, ids: Sequence[str]) -> Iterator[tuple[float, float]]:
    for run_id in ids:
        stats = instance.get_run_stats(run_id)
        if stats.launch_time is None or stats.end_time is None:
            raise BenchError(f"the event log does not say when run {run_id} began and ended")
        yield stats.launch_time, stats.end_time
