"""A backup of all that is ours, made while refreshes go on.

Each store is copied as of one moment, and no two of them of the same. What belongs together is therefore copied in an
order in which the later copy knows all that the earlier one relies on:

1. `status.sqlite`, which says how far others have read the history: never further than the history that is restored.
2. The history; within SQLite ticks before runs before events, so that no tick names a run that is not there.
3. `ops.sqlite`, which knows every failure that the history says was looked at.
4. The warehouse. Load state says what was loaded; where it knows more than the history, the next refresh of the
   partition writes the missing event. The other way round a partition would count as loaded whose rows are not there.
5. Payloads, which load state names.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from refresh_pipelines.service.backup.copies import copy_sqlite, rows_of_duckdb
from refresh_pipelines.service.backup.pack import Manifest, Pack, packed
from refresh_pipelines.service.backup.postgres import WAREHOUSE_SCHEMAS, Database
from refresh_pipelines.settings import INSTANCE, Settings
from refresh_pipelines.warehouse import DuckDBWarehouse, open_warehouse

if TYPE_CHECKING:
    from dagster import DagsterInstance

ENDING = ".tar.zst"
# In the data folder, beside the databases: what sources said when they were good, and payloads.
FOLDERS_BEFORE, FOLDERS_AFTER = ("last_good",), ("archive", "quarantine")
HISTORY_DUMP, WAREHOUSE_DUMP, WAREHOUSE_FILE = "history.pgdump", "warehouse.pgdump", "warehouse.duckdb"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_RUNLESS = ".db"


def back_up(
    instance: DagsterInstance, settings: Settings, target: Path, now: datetime, say: Callable[[str], None]
) -> Manifest:
    """Write a backup to `target`, or nothing, and return what it holds.

    Raises:
        WarehouseBusy: somebody held the warehouse for too long, or a server cannot be reached.
        InternalError: history is in a database we cannot copy, or `pg_dump` is missing or fails.
        OSError, sqlite3.Error: something cannot be read, or the backup cannot be written.
    """
    names = ("refresh_pipelines", "dagster", "duckdb")
    versions = {name: version(name) for name in names} | {"python": sys.version.split()[0]}
    manifest = Manifest(now.isoformat(timespec="seconds"), versions)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder,
        packed(target, manifest) as pack,
    ):
        making = _Making(instance, settings, pack, Path(folder), say)
        making.sqlite("data/status.sqlite", settings.data_dir / "status.sqlite")
        making.history()
        making.sqlite("data/ops.sqlite", settings.data_dir / "ops.sqlite")
        making.folders(FOLDERS_BEFORE)
        making.warehouse()
        making.folders(FOLDERS_AFTER)
    return manifest


def history_database(settings: Settings) -> Database:
    """Return the history's part of its PostgreSQL database."""
    from refresh_pipelines.orchestration.internals_stores import tables_of_history  # noqa: PLC0415 - a second's import

    return Database(
        settings.instance or "", f"the history {settings.instance_name}", INSTANCE, tables=tables_of_history()
    )


def warehouse_database(settings: Settings) -> Database:
    """Return the warehouse's part of its PostgreSQL database."""
    what = f"the warehouse {settings.warehouse_name}"
    return Database(settings.warehouse, what, "REFRESH_WAREHOUSE", schemas=WAREHOUSE_SCHEMAS)


class _Making:
    """A backup that is being made. Copies lie in `folder` until they are packed, one at a time."""

    def __init__(
        self, instance: DagsterInstance, settings: Settings, pack: Pack, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.instance, self.settings, self.pack, self.folder, self.say = instance, settings, pack, folder, say
        self.tables = pack.manifest.tables

    def sqlite(self, name: str, path: Path) -> None:
        """Add a SQLite database, if it is there."""
        if path.exists():
            self._copied(name, lambda copy: copy_sqlite(path, copy))

    def history(self) -> None:
        """Add Dagster's history."""
        from refresh_pipelines.orchestration.internals_stores import files_of, printed_by_runs  # noqa: PLC0415
        from refresh_pipelines.orchestration.restored import require_known_store  # noqa: PLC0415

        self.say("history")
        files, printed = files_of(self.instance), printed_by_runs(self.instance)
        if files is None:
            require_known_store(self.instance, self.settings)
            self.pack.manifest.history = f"postgresql {self._dumped(HISTORY_DUMP, history_database(self.settings))}"
        else:
            self.pack.manifest.history = "sqlite"
            self.sqlite("history/schedules.db", files.schedules)
            self.sqlite("history/runs.db", files.runs)
            ended = _ended(files.runs)
            self.sqlite("history/runs/index.db", files.events / "index.db")
            for path in sorted(files.events.glob("*.db")):
                self._shard(path, ended)
        if printed is not None:
            self._tree("history/logs", printed)

    def warehouse(self) -> None:
        """Add the warehouse, if there is one."""
        self.say("warehouse")
        warehouse = open_warehouse(self.settings)
        if not isinstance(warehouse, DuckDBWarehouse):
            self.pack.manifest.warehouse = (
                f"postgresql {self._dumped(WAREHOUSE_DUMP, warehouse_database(self.settings))}"
            )
            return
        self.pack.manifest.warehouse = "duckdb"
        if warehouse.path.exists():

            def copied(copy: Path) -> dict[str, int]:
                warehouse.copy_file(copy)
                return rows_of_duckdb(copy)

            self._copied(WAREHOUSE_FILE, copied)

    def folders(self, names: tuple[str, ...]) -> None:
        """Add folders of the data folder that are there."""
        for name in names:
            self._tree(f"data/{name}", self.settings.data_dir / name)

    def _shard(self, path: Path, ended: set[str]) -> None:
        if path.name == "index.db":
            return
        with suppress(FileNotFoundError):  # an old run was removed meanwhile
            # Nobody writes any more where a run had ended when the copy of the runs was made.
            if path.stem in ended and not path.with_name(f"{path.name}-wal").exists():
                self.pack.add(f"history/runs/{path.name}", path)
            elif path.name == _RUNLESS or path.exists():
                self._copied(f"history/runs/{path.name}", lambda copy: copy_sqlite(path, copy) and {})

    def _tree(self, name: str, folder: Path) -> None:
        for path in _files(folder):
            with suppress(FileNotFoundError):
                self.pack.add(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def _dumped(self, name: str, database: Database) -> int:
        made: list[int] = []

        def dump(copy: Path) -> dict[str, int]:
            major, rows = database.dump(copy)
            made.append(major)
            return rows

        self._copied(name, dump)
        return made[0]

    def _copied(self, name: str, make: Callable[[Path], dict[str, int]]) -> None:
        copy = self.folder / "copy"
        try:
            rows = make(copy)
            if rows:
                self.tables[name] = rows
            if copy.exists():
                self.pack.add(name, copy)
        finally:
            copy.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            yield path


def _ended(runs: Path) -> set[str]:
    query = f"SELECT run_id FROM runs WHERE status IN {_ENDED}"  # noqa: S608 - words of ours
    with closing(sqlite3.connect(f"{runs.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as store:
        return {run_id for (run_id,) in store.execute(query)}
