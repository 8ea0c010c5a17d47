"""A PostgreSQL server for the length of a measurement: as `initdb` makes it, listening on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from benchmarks.harness import BenchError
from refresh_pipelines.errors import InternalError
from refresh_pipelines.service.embedded import programs

_PATIENCE = 60.0


class Cluster:
    """The server; `url` with {} in it is for a database of any name."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    def url(self, database: str = "{}") -> str:
        """Return the address of a database."""
        return f"postgresql://bench:bench@127.0.0.1:{self.port}/{database}"

    def fresh(self, *databases: str) -> None:
        """Make empty databases, in place of those of the same names."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for name in databases:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                connection.execute(f"CREATE DATABASE {name}")


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Make and start a server below a folder, and stop it in the end.

    Raises:
        BenchError: its programs are not installed, or it does not start.
    """
    try:
        bin_folder = programs()
    except InternalError as error:
        raise BenchError(str(error)) from error
    place, person = folder / "cluster", _person(folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    words = ["-D", place, "-U", "bench", "--auth=trust", "--encoding=UTF8", "--no-sync"]
    done = subprocess.run(
        [bin_folder / "initdb", *words], capture_output=True, text=True, env=env, cwd=folder, check=False, **person
    )
    if done.returncode:
        raise BenchError(f"initdb ended with {done.returncode}: {done.stderr[-300:]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [bin_folder / "postgres", "-D", place, *options], stdout=log, stderr=log, env=env, cwd=folder, **person
        )
    try:
        found = Cluster(port, process)
        _wait(found, folder / "postgres.log")
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_PATIENCE)
        shutil.rmtree(place, ignore_errors=True)


def _wait(found: Cluster, log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while found.process.poll() is None and time.monotonic() < until:
        with suppress(psycopg.OperationalError):
            psycopg.connect(found.url("postgres")).close()
            return
        time.sleep(0.05)
    raise BenchError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-300:]}")


def _person(folder: Path) -> dict[str, object]:
    """PostgreSQL does not run as root: it gets another user, who may enter the folder and that around it."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    for one in (folder, folder.parent):
        one.chmod(0o755)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
