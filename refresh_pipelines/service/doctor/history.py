"""Traps of Dagster's history and of dagster.yaml."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from refresh_pipelines.service.doctor.traps import Finding, Place, trap

# Tried: up to 60 sources due in one minute pass in time on SQLite, a thousand take six minutes.
MANY_SOURCES = 300
# Tried up to here: questions by tag take milliseconds, and the files take 130 KB for each run.
MANY_RUNS = 100_000

UNREADABLE = trap(
    "history-unreadable", "wrong", "Dagster's history cannot be opened, so nothing can run.",
    "Do what the message says: make room, mend the rights of the data folder, start the server, correct dagster.yaml.",
)  # fmt: skip
NO_YAML = trap(
    "no-dagster-yaml", "wrong", "The folder of DAGSTER_HOME has no dagster.yaml: no slots, no monitoring of runs.",
    "Unset DAGSTER_HOME, or copy dagster.yaml of the repository there.",
)  # fmt: skip
TWO = trap(
    "two-histories", "advice", "There are runs in two places, so some of the past is not seen from here.",
    "Decide for one: set or unset REFRESH_DATA_DIR, REFRESH_INSTANCE and DAGSTER_HOME alike for all programs, and move "
    "the other away.",
)  # fmt: skip
UNMONITORED = trap(
    "monitoring-off", "wrong", "Run monitoring is off: a run whose process dies keeps its slot for ever.",
    "Set `run_monitoring: {enabled: true}` in dagster.yaml and restart the daemon.",
)  # fmt: skip
UNLIMITED = trap(
    "no-slot-limit", "wrong", "Any number of runs may start at once, each a process of its own.",
    "Set `concurrency: {runs: {max_concurrent_runs: 4}}` in dagster.yaml and restart the daemon.",
)  # fmt: skip
NO_SLOTS = trap(
    "no-slots", "wrong", "No run may start: `max_concurrent_runs` is 0.",
    "Set it to 4, or whatever memory allows, in dagster.yaml and restart the daemon.",
)  # fmt: skip
BY_OP = trap(
    "pools-by-op", "wrong", "Pools count steps: a run starts its process and waits inside it, in its slot.",
    "Set `concurrency: {pools: {granularity: run}}` in dagster.yaml and restart the daemon.",
)  # fmt: skip
CLOSED = trap(
    "closed-pool", "wrong", "The limit of a pool is 0: no source of this host is ever refreshed.",
    "Give it a limit under Deployment, Concurrency of the UI.",
)  # fmt: skip
MANY = trap(
    "sqlite-many-sources", "advice", "Many sources share one history in SQLite: those due at once begin minutes late.",
    "Keep history in PostgreSQL (REFRESH_INSTANCE), let sources share a run (`schedule.batch`), "
    "or spread them over the hour with `schedule.jitter`.",
)  # fmt: skip
LONG = trap(
    "sqlite-many-runs", "advice", "Many runs are kept in SQLite, 130 KB of disk each.",
    "Lower REFRESH_KEEP_RUNS, or keep history in PostgreSQL (REFRESH_INSTANCE).",
)  # fmt: skip


def storage(place: Place) -> Iterator[Finding]:
    """Look whether history is where it is looked for."""
    if place.broken:
        yield Finding(UNREADABLE, place.broken)
    if not (place.home / "dagster.yaml").exists():
        yield Finding(NO_YAML, str(place.home))
    bases = (place.settings.data_dir / "dagster", place.settings.root / "data" / "dagster", place.home)
    found = {path.resolve(): runs for base in bases if (runs := _runs(path := base / "history" / "runs.db"))}
    places = {str(path): runs for path, runs in found.items()}
    if place.settings.instance and place.health and place.health.runs:
        places[place.settings.instance_name] = place.health.runs
    if len(places) > 1:
        yield Finding(TWO, ", ".join(f"{where} ({runs} runs)" for where, runs in places.items()))


def slots(place: Place) -> Iterator[Finding]:
    """Look whether runs are limited and watched."""
    health = place.health
    if health is None:
        return
    if not health.monitored:
        yield Finding(UNMONITORED, "run_monitoring.enabled is false")
    if health.max_runs is None:
        yield Finding(UNLIMITED, "max_concurrent_runs sets no limit")
    elif health.max_runs == 0:
        yield Finding(NO_SLOTS, "max_concurrent_runs is 0")
    if health.granularity != "run":
        yield Finding(BY_OP, f"pools.granularity is {health.granularity}")
    for pool in health.closed_pools:
        yield Finding(CLOSED, f"pool {pool}")


def size(place: Place) -> Iterator[Finding]:
    """Look whether there is more in SQLite than it is good for."""
    if place.health is None or not place.health.sqlite:
        return
    enabled = sum(spec.enabled for spec in place.catalogue.sources.values())
    if enabled > MANY_SOURCES:
        yield Finding(MANY, f"{enabled} enabled sources, more than {MANY_SOURCES}")
    if place.health.runs > MANY_RUNS:
        yield Finding(LONG, f"{place.health.runs} runs, more than {MANY_RUNS}")


def _runs(path: Path) -> int:
    """Return how many runs there are in a file of Dagster's, 0 where there is none."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
            return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return 0  # told as history-unreadable, if it is the one that is used
