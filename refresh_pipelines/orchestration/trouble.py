"""Trouble of the machine with Dagster's files, in our words: no rights, no space, a file where a folder should be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from refresh_pipelines.errors import InternalError
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
    """Turn what the operating system or SQLite says into an InternalError that names the folder.

    Args:
        what: what could not be used, as a clause.
        then: what became of the work, as a sentence.
    """
    try:
        yield
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        problem = InternalError(
            f"{what} cannot be used",
            expected=f"a folder {settings.data_dir} that can be written, and space on its disk",
            came=_said(error),
            todo=f"{then} Make room, mend the folder's rights, or set REFRESH_DATA_DIR to another; then run it again.",
        )
    else:
        return
    raise problem  # outside the handler: a statement of SQLAlchemy is pages long


def _said(error: Exception) -> str:
    """Return the reason without the statement that met it."""
    reason = getattr(error, "orig", None) or error
    return redact(" ".join(str(reason).split()))[:300]
