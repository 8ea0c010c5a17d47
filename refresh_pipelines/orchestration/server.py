"""The PostgreSQL server that holds Dagster's history (REFRESH_INSTANCE): asked before Dagster is, and named in errors.

Dagster itself tries for ten seconds, three times over, writes a warning for each try, and then fails with a page of
statements.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from refresh_pipelines.errors import InternalError, RefreshError, WarehouseBusy
from refresh_pipelines.postgres_url import password_of
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import INSTANCE, Settings
from refresh_pipelines.worker import Worker

# A server that is being restarted is back by then; a person who asks something does not want to wait for longer.
PATIENCE = 10.0


# Looked for among what is loaded: whatever raises them has loaded them, and definitions are shown without.
_THEIRS = (("sqlalchemy.exc", "SQLAlchemyError"), ("dagster_postgres.utils", "DagsterPostgresException"))


class HistoryAway(WarehouseBusy):
    """The PostgreSQL server of Dagster's history was not there for as long as it was waited for."""


def history_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what the use of Dagster's history, or of our own store beside it, may raise; for an `except`."""
    theirs = [getattr(sys.modules[module], name) for module, name in _THEIRS if module in sys.modules]
    return (OSError, sqlite3.Error, *theirs, *more)


@contextmanager
def recorded(worker: Worker) -> Iterator[None]:
    """Leave a note where Dagster's history cannot be told of a run: whoever finds it ends the run later.

    Around the body of an asset: where Dagster cannot write what that yields, it closes it.
    """
    try:
        yield
    except GeneratorExit:
        worker.cannot_tell()
        raise
    except history_errors(HistoryAway):
        worker.cannot_tell()
        raise


def require_server(settings: Settings, patience: float = PATIENCE) -> str:
    """Return which history it is once the server lets us in: its name, and a number that a new database has anew.

    At once, and "", where history is in SQLite.

    Raises:
        HistoryAway: it cannot be reached within `patience` seconds.
        InternalError: user, password or database are wrong.
    """
    if settings.instance is None:
        return ""
    import psycopg  # noqa: PLC0415 - with history in SQLite nobody needs it here

    from refresh_pipelines.warehouse.postgres_errors import lets_nobody_in, said  # noqa: PLC0415

    begun = time.monotonic()
    while True:
        try:
            with psycopg.connect(settings.instance) as connection:
                [(number,)] = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()")
                return f"{settings.instance_name} {number}"
        except psycopg.OperationalError as error:
            if lets_nobody_in(error):
                raise _refused(settings, said(error)) from None
            if time.monotonic() - begun >= patience:
                raise away(settings, said(error), "Nothing was started.") from None
            time.sleep(0.5)


def away(settings: Settings, came: str, then: str) -> HistoryAway:
    """Return the error of a server that is not there, or has gone in the middle.

    Args:
        came: what the driver says.
        then: what became of the work, as a sentence.
    """
    return HistoryAway(
        f"Dagster's history, {settings.instance_name}, cannot be reached",
        expected="an answer from its PostgreSQL server",
        came=_clean(settings, came),
        todo=f"{then} Start the server, or correct {INSTANCE}; then run this again.",
    )


def unusable(settings: Settings, came: str, then: str) -> RefreshError:
    """Return the error of a server that answers and does not do what is asked."""
    return InternalError(
        f"Dagster's history, {settings.instance_name}, cannot be used",
        came=_clean(settings, came),
        todo=f"{then} Look at the rights of the user of {INSTANCE}, and at disk and memory of the server.",
    )


def _refused(settings: Settings, came: str) -> RefreshError:
    return InternalError(
        f"Dagster's history, {settings.instance_name}, does not let us in",
        expected=f"the user, password and database of {INSTANCE} to be right",
        came=_clean(settings, came),
        todo=f"Nothing was started. Correct {INSTANCE} in the environment or in .env; create the database if it is "
        "missing (CREATE DATABASE).",
    )


def _clean(settings: Settings, came: str) -> str:
    secret = password_of(settings.instance or "")
    return redact(" ".join(came.split()), [secret] if secret else [])[:300]
