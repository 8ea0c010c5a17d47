"""Traps of PostgreSQL, as warehouse and as Dagster's history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refresh_pipelines.postgres_url import password_of
from refresh_pipelines.redact import redact
from refresh_pipelines.service.doctor.traps import Finding, Place, trap
from refresh_pipelines.settings import INSTANCE, Settings

OLDEST = 15
# Daemon, code server, UI, API and a person; and the most that a run under way holds: two to history, one to the
# warehouse and, for moments, some more.
_ALWAYS, _EACH_RUN = 20, 5
_TIMEOUT = 5

AWAY = trap(
    "postgres-away", "wrong", "A PostgreSQL server cannot be reached, or lets nobody in: nothing is refreshed.",
    "Start the server, or correct REFRESH_WAREHOUSE or REFRESH_INSTANCE; then run `refresh doctor` again.",
)  # fmt: skip
OLD = trap(
    "postgres-old", "wrong", "A PostgreSQL server is older than version 15, the oldest this is tried with.",
    "Upgrade the server.",
)  # fmt: skip
LOSSY = trap(
    "postgres-lossy", "advice", "A server says that it has written before it has (`synchronous_commit = off`): if it "
    "crashes, the last events of runs are lost. Loads are safe, refreshes switch it on for themselves.",
    "`ALTER DATABASE … SET synchronous_commit = on`; what was lost the next refresh tells anew.",
)  # fmt: skip
NARROW = trap(
    "postgres-few-connections", "advice", "A server allows fewer connections than runs, daemon and UI may need.",
    "Raise `max_connections` of the server, or lower `max_concurrent_runs` in dagster.yaml.",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """What a server says of itself; `problem` where it says nothing.

    Attributes:
        lasting: whether a session waits, unless it asks otherwise, until what it has committed is on disk.
        connections: how many an ordinary user may have in all.
    """

    problem: str = ""
    version: int = 0
    lasting: bool = True
    connections: int = 0


def databases(place: Place) -> Iterator[Finding]:
    """Look at the servers that the settings name."""
    settings = place.settings
    found = {} if settings.warehouse.startswith("duckdb://") else {"REFRESH_WAREHOUSE": settings.warehouse}
    found |= {INSTANCE: settings.instance} if settings.instance else {}
    runs = place.health.max_runs if place.health else None
    for setting, url in found.items():
        what = f"{_shown(setting, settings)} ({setting})"
        yield from findings_of(look_at(url), what, runs, history=setting == INSTANCE)


def findings_of(server: Server, what: str, runs: int | None, *, history: bool) -> Iterator[Finding]:
    """Say what is wrong with one server.

    Args:
        what: its name.
        runs: how many may be under way at once, where that is known.
        history: whether Dagster keeps its history there.
    """
    if server.problem:
        yield Finding(AWAY, f"{what}: {server.problem}")
        return
    if server.version < OLDEST:
        yield Finding(OLD, f"{what} is PostgreSQL {server.version}")
    if history and not server.lasting:
        yield Finding(LOSSY, what)
    needed = _ALWAYS + _EACH_RUN * (runs or 0)
    if runs is not None and server.connections < needed:
        yield Finding(NARROW, f"{what} allows {server.connections}, {runs} runs at once may need {needed}")


def look_at(url: str) -> Server:
    """Ask a server about itself, once."""
    import psycopg  # noqa: PLC0415 - only where there is one

    try:
        with psycopg.connect(url, connect_timeout=_TIMEOUT) as connection:
            asked = connection.execute(
                "SELECT name, reset_val FROM pg_settings WHERE name IN"
                " ('synchronous_commit', 'max_connections', 'superuser_reserved_connections')"
            )
            said: dict[str, str] = dict(asked.fetchall())
            version = connection.info.server_version // 10_000
    except psycopg.Error as error:
        return Server(" ".join(redact(str(error), [secret] if (secret := password_of(url)) else []).split())[:300])
    free = int(said["max_connections"]) - int(said["superuser_reserved_connections"])
    return Server("", version, said["synchronous_commit"] != "off", free)


def _shown(setting: str, settings: Settings) -> str:
    return settings.instance_name if setting == INSTANCE else settings.warehouse_name
