"""A connection to PostgreSQL that is asked like DuckDB's, and what goes wrong with it, in our words."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import TextLoader

from refresh_pipelines import log
from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.limit import interruptible
from refresh_pipelines.postgres_url import PATIENT
from refresh_pipelines.redact import holding
from refresh_pipelines.warehouse.dialect import Dialect
from refresh_pipelines.warehouse.lock import NOTABLE
from refresh_pipelines.warehouse.postgres_errors import as_ours, lets_nobody_in, locked, refused, unreachable

OLDEST = 15
_CLIENT = f"refresh_pipelines {os.getpid()}"
_SESSION = "-c TimeZone=UTC -c DateStyle=ISO,YMD"
_PLACE = re.compile(r"\?|\$(\w+)")


class Link:
    """One connection. Statements take `?` or `$name`, as DuckDB's do, and no transaction is begun for them."""

    def __init__(self, connection: psycopg.Connection[Any], dialect: Dialect) -> None:
        self.connection, self.dialect = connection, dialect
        self._cursor: psycopg.Cursor[Any] = psycopg.ClientCursor(connection)

    def execute(self, statement: str, values: Any = None, /) -> Link:
        """Run a statement; without values it may be several."""
        if values is None:
            self._cursor.execute(statement)
        else:
            text, values = _translated(statement, values)
            self._cursor.execute(text, values)
        return self

    @property
    def description(self) -> Sequence[Any] | None:
        """For each column a sequence that begins with its name; None for what gives no rows."""
        return self._cursor.description

    def fetchall(self) -> list[Any]:
        """Return all rows; of INSERT, UPDATE and DELETE, as DuckDB does, one row with the number of rows."""
        return self._cursor.fetchall() if self._cursor.description else [(self._cursor.rowcount,)]

    def copy_in(self, statement: str, blocks: Iterator[bytes]) -> None:
        """Send blocks of bytes to COPY … FROM STDIN."""
        with self._cursor.copy(statement) as copy:
            for block in blocks:
                copy.write(block)

    def copy_out(self, statement: str, write: Callable[[bytes], object]) -> None:
        """Hand the bytes of COPY … TO STDOUT to `write`."""
        with self._cursor.copy(statement) as copy:
            for block in copy:
                write(bytes(block))


def _translated(statement: str, values: Sequence[object] | Mapping[str, object]) -> tuple[str, Any]:
    """Write the places of values as psycopg wants them. All statements are ours: no place stands inside a text."""
    unnamed = iter(() if isinstance(values, Mapping) else values)

    def place(found: re.Match[str]) -> str:
        name = found[1]
        value = values[name] if isinstance(values, Mapping) else next(unnamed)
        # An empty list has no type of its own.
        return (f"%({name})s" if name else "%s") + ("::text[]" if isinstance(value, list) else "")

    return _PLACE.sub(place, statement.replace("%", "%%")), values


class Server:
    """The server and database that a URL names.

    Attributes:
        name: database and host, all of the URL that is shown.
        patience: seconds to wait for a server that cannot be reached, and for locks.
    """

    def __init__(self, url: str, patience: float, dialect: Dialect) -> None:
        self.patience, self._dialect = patience, dialect
        try:
            self._options = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise InternalError(
                "REFRESH_WAREHOUSE is no address of PostgreSQL",
                expected="postgresql://user:password@host:5432/database",
                todo="Correct it; write special characters of the password as in a URL (@ is %40).",
            ) from error
        self._password = str(self._options.get("password") or "")
        host = str(self._options.get("host") or os.environ.get("PGHOST") or "localhost")
        port = self._options.get("port")
        database = self._options.get("dbname") or self._options.get("user") or "its default database"
        self.name = f"{database} on {host}{f':{port}' if port else ''}"

    @property
    def where(self) -> str:
        """The warehouse, in words for a message."""
        return f"the warehouse {self.name}"

    @contextmanager
    def open(self, patience: float | None = None) -> Iterator[tuple[Link, float]]:
        """Yield a link without a transaction, and the seconds waited for the server.

        Raises:
            WarehouseBusy: the server cannot be reached, or the connection broke off.
            InternalError: it lets nobody in with this name, password and database, or is too old.
        """
        with holding([self._password] if self._password else []):
            connection, waited = self._connect(self.patience if patience is None else patience)
            with connection, interruptible(connection.cancel_safe):
                with self.told(connection):
                    self._prepare(connection)
                yield Link(connection, self._dialect), waited

    @contextmanager
    def told(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Turn what psycopg raises into a RefreshError that says what to do."""
        try:
            yield
        except psycopg.Error as error:
            raise as_ours(error, self.where, broken=connection.broken) from error

    def _connect(self, patience: float) -> tuple[psycopg.Connection[Any], float]:
        begun, waited = time.monotonic(), 0.0
        # Of 0 PostgreSQL makes a lock that is waited for without end.
        limit = f"-c lock_timeout={max(1, round(self.patience * 1000))}"
        options = f"{_SESSION} {limit} {self._options.get('options') or ''}".strip()
        wanted = {"application_name": _CLIENT, **PATIENT, **self._options, "options": options}
        while True:
            try:
                connection = psycopg.connect(**wanted, autocommit=True)  # type: ignore[arg-type]
            except psycopg.OperationalError as error:
                if lets_nobody_in(error):
                    raise refused(error, self.where) from error
                waited = time.monotonic() - begun
                if waited >= patience:
                    self._log_wait(waited, "warning")
                    raise unreachable(error, self.where, patience) from error
                time.sleep(min(1.0, max(0.1, waited / 10)))
            else:
                if waited >= NOTABLE:
                    self._log_wait(waited, "info")
                return connection, waited

    def _log_wait(self, seconds: float, level: Literal["info", "warning"]) -> None:
        log.event("warehouse.waited", level=level, lock=self.name, owner="no connection", seconds=seconds)

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        version = connection.info.server_version // 10_000
        if version < OLDEST:
            raise InternalError(
                f"{self.where} is too old",
                expected=f"PostgreSQL {OLDEST} or later",
                came=f"PostgreSQL {version}",
                todo="Upgrade the server, or set REFRESH_WAREHOUSE to another one.",
            )
        for name in ("json", "jsonb"):
            connection.adapters.register_loader(name, TextLoader)
        # Without it a commit that was acknowledged could be lost with the machine.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    def busy(self, holder: str) -> WarehouseBusy:
        """Return the error of a lock that was not had in time."""
        return locked(self.where, self.patience, holder)


def lock_key(name: str) -> int:
    """Return the advisory lock of a name, a signed number of 64 bits. PostgreSQL keeps them apart by database."""
    digest = hashlib.blake2b(f"refresh_pipelines {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def holder_of(link: Link, keys: Sequence[int], *, alone: bool) -> str:
    """Say who holds one of these advisory locks, or a lock on a table of ours, as far as the server tells us.

    Args:
        alone: whether the locks were wanted against those who share them, too.
    """
    query = (
        "SELECT a.pid, a.application_name, a.client_addr, a.xact_start"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND a.pid <> pg_backend_pid()"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (l.locktype = 'advisory' AND (l.mode = 'ExclusiveLock' OR $alone) AND"
        " (l.classid::bigint << 32 | l.objid::bigint)::text IN (SELECT unnest($keys)) OR l.locktype = 'relation' AND"
        " l.relation IN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('raw', 'refresh')))"
        " ORDER BY l.locktype = 'advisory' DESC, l.mode = 'AccessShareLock', a.xact_start LIMIT 1"
    )
    with suppress(psycopg.Error):
        rows = link.execute(query, {"keys": [str(key) for key in keys], "alone": alone}).fetchall()
        if rows:
            pid, program, address, since = rows[0]
            begun = f" since {since:%Y-%m-%dT%H:%M:%S}+00:00" if since else ""
            where = f" at {address}" if address else ""
            return f"server process {pid} ({program or 'a program without a name'}{where}){begun}"
    return "another session"
