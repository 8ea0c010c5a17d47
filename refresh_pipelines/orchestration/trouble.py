"""Trouble with Dagster's history, in our words: no rights, no space, a file where a folder should be, no server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.orchestration.server import away, history_errors, unusable
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings


def require_folder(settings: Settings) -> None:
    """Make the data folder unless it is there. Raises InternalError when a file is in its place."""
    folder = settings.data_dir
    taken = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if taken:
        raise InternalError(
            f"{folder} cannot be the data folder",
            expected="a folder, or a place where one can be made",
            came=f"a file {taken}",
            todo="Nothing was started. Move that file away, or set REFRESH_DATA_DIR to another folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def told(settings: Settings, what: str, then: str) -> Iterator[None]:
    """Turn what the operating system, SQLite or PostgreSQL says into a RefreshError that names the folder or server.

    Args:
        what: what could not be used, as a clause.
        then: what became of the work, as a sentence.

    Raises:
        InternalError: it cannot be used.
        WarehouseBusy: the server of Dagster's history cannot be reached.
    """
    try:
        yield
    except history_errors() as error:
        problem = trouble_of(error, settings, what, then)
    else:
        return
    raise problem  # outside the handler: a statement of SQLAlchemy is pages long


def trouble_of(error: Exception, settings: Settings, what: str, then: str) -> RefreshError:
    """Return the RefreshError for one of `history_errors`; the arguments are those of `told`."""
    if settings.instance and not isinstance(error, OSError | sqlite3.Error):
        return (away if _is_away(error) else unusable)(settings, _said(error), then)
    return InternalError(
        f"{what} cannot be used",
        expected=f"a folder {settings.data_dir} that can be written, and space on its disk",
        came=_said(error),
        todo=f"{then} Make room, mend the folder's rights, or set REFRESH_DATA_DIR to another; then run it again.",
    )


def _is_away(error: Exception) -> bool:
    """Whether the server is gone, or was when the connection broke off."""
    found = error if isinstance(error, SQLAlchemyError) else error.__cause__
    # psycopg2 gives no number to what it has not from the server, or to the last words of one that goes.
    number = getattr(getattr(found, "orig", None), "pgcode", None) or "08"
    return not isinstance(found, DBAPIError) or found.connection_invalidated or number[:2] in ("08", "57")


def _said(error: Exception) -> str:
    """Return the reason without the statement that met it."""
    error = error if isinstance(error, SQLAlchemyError) or not error.__cause__ else error.__cause__  # type: ignore[assignment]
    reason = getattr(error, "orig", None) or error
    return redact(" ".join(str(reason).partition("\nLINE ")[0].split()))[:300]
