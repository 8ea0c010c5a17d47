"""What PostgreSQL and the way to it raise, in our words: which error it is, and what a person can do."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from refresh_pipelines.errors import ContractViolation, InternalError, Interrupted, RefreshError, WarehouseBusy

# What a server says that will not let us in however long we wait. libpq gives no code for it.
REFUSED = re.compile(
    r"password authentication failed|no password supplied|authentication failed|does not exist|no pg_hba\.conf entry"
    r"|permission denied|not permitted to log in|certificate|SSL|invalid (connection option|URI|port|integer)"
)
_CUT = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.DatabaseDropped)
# In this order: by the errors, what is said of the warehouse, as which of ours, and what to do.
_KINDS: tuple[tuple[tuple[type[psycopg.Error], ...], str, type[RefreshError], str], ...] = (
    (
        (errors.DeadlockDetected, errors.SerializationFailure, errors.TooManyConnections),
        "is in use",
        WarehouseBusy,
        "Nothing was loaded; run it again.",
    ),
    (
        (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded),
        "cannot hold a value of the payload",
        ContractViolation,
        "Nothing was loaded. Look at the payload.",
    ),
    (
        (errors.DiskFull, errors.OutOfMemory, errors.IoError, errors.UndefinedFile, errors.DataCorrupted),
        "could not be read or written",
        InternalError,
        "Nothing was loaded. Check disk space and memory of the database server.",
    ),
    (
        (errors.InsufficientPrivilege,),
        "does not let us write",
        InternalError,
        "Nothing was loaded. Let an administrator GRANT CREATE ON DATABASE to the user of REFRESH_WAREHOUSE; tables "
        "and schemas that are there already must belong to it.",
    ),
    ((psycopg.Error,), "refused a statement", InternalError, "Nothing was loaded; please report it."),
)


def said(error: psycopg.Error) -> str:
    """Return what the server said, without the place in our statement."""
    parts = (error.diag.message_primary, error.diag.message_detail) if error.diag.message_primary else (str(error),)
    return " ".join(" ".join(part for part in parts if part).split())[:300]


def as_ours(error: psycopg.Error, where: str, *, broken: bool) -> RefreshError:
    """Return the RefreshError for what psycopg raised.

    Args:
        where: the warehouse, in words.
        broken: whether the connection is gone.
    """
    came = said(error)
    if isinstance(error, errors.QueryCanceled) and "user request" in came:
        return Interrupted(f"cancelled while {where} was at work", todo="The table is as it was; run it again.")
    if broken or isinstance(error, _CUT) or error.sqlstate is None:
        return WarehouseBusy(
            f"the connection to {where} broke off",
            came=came,
            todo="Run it again: the load state says whether the last commit was made, and nothing is loaded twice.",
        )
    problem, kind, todo = next((problem, kind, todo) for some, problem, kind, todo in _KINDS if isinstance(error, some))
    return kind(f"{where} {problem}", came=came, todo=todo)


def lets_nobody_in(error: psycopg.Error) -> bool:
    """Whether the server refuses us, and not only now."""
    return REFUSED.search(str(error)) is not None


def refused(error: psycopg.Error, where: str) -> InternalError:
    """Return the error of an address, a user, a password or a database that is wrong."""
    return InternalError(
        f"{where} does not let us in",
        expected="the user, password and database of REFRESH_WAREHOUSE to be right",
        came=said(error),
        todo="Correct REFRESH_WAREHOUSE in the environment or in .env; create the database if it is missing "
        "(CREATE DATABASE).",
    )


def unreachable(error: psycopg.Error, where: str, patience: float) -> WarehouseBusy:
    """Return the error of a server that was not there for all the time we waited."""
    return WarehouseBusy(
        f"{where} cannot be reached",
        expected=f"a connection within {patience:g} s (REFRESH_LOCK_TIMEOUT)",
        came=said(error),
        todo="Nothing was loaded. Start the server, or correct REFRESH_WAREHOUSE; then run this again.",
    )


def locked(where: str, patience: float, holder: str) -> WarehouseBusy:
    """Return the error of a lock that was not had in time."""
    return WarehouseBusy(
        f"{where} is in use",
        expected=f"the lock within {patience:g} s (REFRESH_LOCK_TIMEOUT)",
        came=f"held by {holder}",
        todo="Wait until that session has finished, or end it (pg_terminate_backend); then run this again.",
    )
