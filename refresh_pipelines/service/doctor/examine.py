"""All checks in order, and the place they look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from refresh_pipelines.lastgood import working_catalogue
from refresh_pipelines.service.doctor import history, machine, online, postgres, work
from refresh_pipelines.service.doctor.traps import Check, Finding, Place
from refresh_pipelines.settings import Settings

# By the names people see.
CHECKS: dict[str, Check] = {
    "history": history.storage,
    "slots": history.slots,
    "SQLite": history.size,
    "PostgreSQL": postgres.databases,
    "daemons": work.daemons,
    "service": work.service,
    "sources": work.sources,
    "warehouse": work.warehouse,
    "notices": work.notices,
    "disk": machine.disk,
    "rights": machine.rights,
    "file system": machine.file_system,
    "clock": machine.clock,
    "leavings": machine.leavings,
    "upstreams": online.upstreams,
}


def examine(settings: Settings, now: datetime, *, ask_upstreams: bool = False) -> Iterator[tuple[str, list[Finding]]]:
    """Yield each check and what it has found, nothing where all is well."""
    # Before the instance is opened, which tidies up after dead runs.
    left = list(machine.leavings(Place(settings, now, settings.root, working_catalogue(settings))))
    place = look_at(settings, now, ask_upstreams=ask_upstreams)
    for name, check in CHECKS.items():
        yield name, left if name == "leavings" else list(check(place))


def look_at(settings: Settings, now: datetime, *, ask_upstreams: bool = False) -> Place:
    """Return the place the checks look at. An instance that cannot be opened is a finding and no error."""
    from refresh_pipelines.orchestration.health import health_at  # noqa: PLC0415 - imports Dagster
    from refresh_pipelines.orchestration.instance import home_of  # noqa: PLC0415

    health, broken = health_at(settings, now)
    return Place(settings, now, home_of(settings), working_catalogue(settings), health, broken, ask_upstreams)
