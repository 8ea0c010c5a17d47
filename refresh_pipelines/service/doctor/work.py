"""Traps of the work itself: daemons and processes, keys, notices, and who else holds the warehouse."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.heartbeat import life_of
from refresh_pipelines.notices import Notices
from refresh_pipelines.ops import telling
from refresh_pipelines.redact import redact
from refresh_pipelines.service import supervised
from refresh_pipelines.service.daemons import daemons_at
from refresh_pipelines.service.doctor.traps import Finding, Place, trap

# The sensor `failures` delivers every half minute, and comes back to a receiver that is down.
_PATIENCE = timedelta(minutes=15)

TWO_DAEMONS = trap(
    "two-daemons", "wrong", "Two daemons look after one history: ticks and runs may be made twice.",
    "Stop one of them: `refresh stop`, Ctrl-C in `make up`, or the daemon of another machine.",
)  # fmt: skip
SILENT = trap(
    "daemon-silent", "wrong", "The daemon has stopped looking: schedules, probes and alerts wait.",
    "`refresh start`, or see why it does not look: `refresh logs daemon`.",
)  # fmt: skip
NO_DAEMON = trap(
    "no-daemon", "advice", "No daemon has ever looked here: nothing is refreshed by itself.",
    "`refresh start`; or have cron call `refresh run --due`, and read over this.",
)  # fmt: skip
GONE = trap(
    "service-gone", "wrong", "The service was started, and its supervisor is gone.",
    "`refresh restart` ends what is left of it and starts it. For a start with the machine use deploy/systemd.",
)  # fmt: skip
DOWN = trap(
    "process-down", "wrong", "A process of the service does not run.",
    "`refresh logs PROCESS` says why; it is started again by itself.",
)  # fmt: skip
SWITCHED_OFF = trap(
    "schedules-off", "advice", "REFRESH_SCHEDULES_ENABLED is false: no schedule or sensor asks for a run.",
    "Take it out of the environment or .env, unless this is a copy that should keep still.",
)  # fmt: skip
KEY = trap(
    "missing-key", "wrong", "An enabled source waits for a key and is not refreshed.",
    "Set the variable in .env, or say `enabled: false` in the source's file.",
)  # fmt: skip
BROKEN = trap(
    "broken-source", "wrong", "A source file has errors; the source runs on its last good version, or not at all.",
    "`refresh check` names file, line and way out.",
)  # fmt: skip
HOLDER = trap(
    "foreign-holder", "wrong", "Another program has the DuckDB file open, so no refresh can write.",
    "Close it there; read with `refresh sql`, which lets go at once.",
)  # fmt: skip
WAITING = trap(
    "waiting-notices", "wrong", "A notice is not delivered since more than a quarter of an hour.",
    "`refresh alerts list` says why, `refresh alerts test` tries the receiver.",
)  # fmt: skip
NOBODY = trap(
    "nobody-told", "advice", "No webhook is set, so nobody is told of trouble.",
    "Set REFRESH_WEBHOOK_URL in .env and try it: `refresh alerts test`.",
)  # fmt: skip
STORE = trap(
    "store-unusable", "wrong", "The store of incidents and notices, data/ops.sqlite, cannot be used.",
    "Do what the message says; moved away, a new one is made, and open incidents are forgotten.",
)  # fmt: skip


def daemons(place: Place) -> Iterator[Finding]:
    """Look whether one daemon looks, and one only."""
    here = daemons_at(place.home)
    beating = place.health.daemons if place.health else ()
    if len(here) > 1:
        yield Finding(TWO_DAEMONS, "; ".join(f"PID {one.pid}: {one.command}" for one in here))
    elif len(beating) > 1:
        yield Finding(TWO_DAEMONS, f"life signs of {len(beating)} daemons within two minutes: {', '.join(beating)}")
    life = life_of(place.settings.data_dir)
    sentence = life.problem or life.sentence(place.now)
    if sentence:
        yield Finding(SILENT if life.at or life.problem else NO_DAEMON, sentence)
    if not place.settings.schedules_enabled:
        yield Finding(SWITCHED_OFF, "REFRESH_SCHEDULES_ENABLED=false")


def service(place: Place) -> Iterator[Finding]:
    """Look whether what was started still runs."""
    if not supervised.was_started(place.settings):
        return
    if supervised.running(place.settings) is None:
        yield Finding(GONE, "nobody holds its lock")
        return
    with suppress(RefreshError):  # it is starting or stopping at this moment
        for state in supervised.states(place.settings):
            if not state.up and state.state != "starting":
                yield Finding(DOWN, f"{state.name}: {state.state}. {state.why}")


def sources(place: Place) -> Iterator[Finding]:
    """Look for missing keys and broken files."""
    for spec in place.catalogue.sources.values():
        variable = missing_key(spec, place.settings) if spec.enabled else None
        if variable:
            yield Finding(KEY, f"{spec.name}: {variable} is not set")
    for broken in place.catalogue.broken.values():
        yield Finding(BROKEN, broken.name)
    for stale in place.catalogue.stale.values():
        yield Finding(BROKEN, f"{stale.broken.name}, on its version of {stale.good_at:%Y-%m-%d %H:%M} UTC")


def warehouse(place: Place) -> Iterator[Finding]:
    """Look whether a stranger holds the warehouse, without opening it."""
    if not place.settings.warehouse.startswith("duckdb://") or not place.settings.warehouse_file.exists():
        return
    path = place.settings.warehouse_file
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        # One of our own has this one while it has the file open.
        with lock.acquire(timeout=5):
            pid = _holder(path)
    except (Timeout, OSError):
        return
    if pid is not None:
        yield Finding(HOLDER, f"PID {pid} ({_program(pid)}) has {path} open")


def notices(place: Place) -> Iterator[Finding]:
    """Look whether anybody is told, and whether what is to be told arrives."""
    if not place.settings.routes:
        yield Finding(NOBODY, "REFRESH_WEBHOOK_URL is not set")
        return
    kept = Notices(place.settings)
    try:
        with telling(kept.path, "the store of incidents and notices"):
            late = [one for one in kept.newest(0) if not one.delivered_at]
    except RefreshError as error:
        yield Finding(STORE, str(error))
        return
    for one in late:
        if place.now - datetime.fromisoformat(one.created_at) > _PATIENCE:
            why = one.last_error or "not tried yet"
            yield Finding(WAITING, f"{one.source or 'several sources'}, written {one.created_at[:16]}: {why}")


def _holder(path: Path) -> int | None:
    """Return the process that keeps writers out of a DuckDB file, by the kernel's own record of the lock."""
    # As <fcntl.h> lays out struct flock on Linux and on macOS.
    mac = sys.platform == "darwin"
    form, asked = ("qqihh", (0, 0, 0, fcntl.F_WRLCK, 0)) if mac else ("hhqqi", (fcntl.F_WRLCK, 0, 0, 0, 0))
    descriptor = os.open(path, os.O_RDWR)
    try:
        said = struct.unpack(form, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(form, *asked)))
    finally:
        os.close(descriptor)
    kind, pid = (said[3], said[2]) if mac else (said[0], said[4])
    return None if kind == fcntl.F_UNLCK else int(pid)


def _program(pid: int) -> str:
    with suppress(psutil.Error):
        return redact(" ".join(psutil.Process(pid).cmdline()))[:100]
    return "another user's program"
