"""Putting a backup back: checked whole before anything is touched, then store after store by one rename each.

The order is that of the backup. Whoever is killed in between has a history that is older than the warehouse, which the
next refreshes mend, and starts again with `--replace`.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from filelock import FileLock, Timeout

from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.service import supervised
from refresh_pipelines.service.backup.copies import rows_of_duckdb, rows_of_sqlite
from refresh_pipelines.service.backup.make import (
    FOLDERS_AFTER,
    FOLDERS_BEFORE,
    HISTORY_DUMP,
    WAREHOUSE_DUMP,
    WAREHOUSE_FILE,
    history_database,
    warehouse_database,
)
from refresh_pipelines.service.backup.pack import Manifest, unpack
from refresh_pipelines.service.backup.postgres import Database
from refresh_pipelines.service.daemons import daemons_at
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines.worker import workers

if TYPE_CHECKING:
    from refresh_pipelines.orchestration.internals_stores import Files

_BESIDE = ("", "-wal", "-shm", ".wal")


class PlaceTaken(ValueError):
    """There is something already where a backup is to go; the message says what."""


@dataclass(frozen=True)
class Restored:
    """What was restored; `aside` is where that is now which was there before, `ended` how many runs were cancelled."""

    manifest: Manifest
    aside: Path | None
    ended: int


def restore(path: Path, settings: Settings, now: datetime, *, replace: bool, say: Callable[[str], None]) -> Restored:
    """Put a backup where the settings say: data folder, history and warehouse.

    Raises:
        PlaceTaken: something is there, and it may not be replaced.
        WarehouseBusy: something is at work, or a server cannot be reached.
        InternalError: the backup is damaged, or is of other kinds of stores than the settings name.
        OSError, sqlite3.Error: something cannot be read or written.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=settings.data_dir, prefix=".restore-") as folder,
        _nobody_at_work(settings),
    ):
        say("unpacking")
        manifest = unpack(path, Path(folder))
        _compare(manifest, Path(folder))
        placing = _Placing(manifest, Path(folder), settings, f"{now:%Y%m%d_%H%M%S}", replace)
        placing.put(say)
        # Before the warehouse's lock is let go of: nothing of ours has begun.
        ended = placing.settle()
    return Restored(manifest, placing.aside if placing.aside.exists() else None, ended)


class _Placing:
    def __init__(self, manifest: Manifest, folder: Path, settings: Settings, stamp: str, replace: bool) -> None:
        self.manifest, self.folder, self.settings, self.stamp = manifest, folder, settings, stamp
        self.replace, self.aside = replace, settings.data_dir / f"replaced_{stamp}"

    def put(self, say: Callable[[str], None]) -> None:
        """Look whether everything fits, then put it in place."""
        files, logs, unused = self._look_at_history()
        file = self.settings.warehouse.startswith("duckdb://")
        self._require("history", self.manifest.history, "sqlite" if files else "postgresql", "REFRESH_INSTANCE")
        self._require("warehouse", self.manifest.warehouse, "duckdb" if file else "postgresql", "REFRESH_WAREHOUSE")
        warehouse = None if file else warehouse_database(self.settings)
        loaded = warehouse.rows() if warehouse else {}
        taken = [] if unused else ["history of runs"]
        taken += ["a warehouse"] if any(loaded.values()) or (file and self.settings.warehouse_file.exists()) else []
        if taken and not self.replace:
            raise PlaceTaken(" and ".join(taken))
        say("history")
        self._swap(self.folder / "data/status.sqlite", self.settings.data_dir / "status.sqlite")
        if files:
            self._put_history(files)
        else:
            self._load(HISTORY_DUMP, self.manifest.history, history_database(self.settings), keep=not unused)
        if logs:
            self._swap(self.folder / "history/logs", logs)
        for name in ("ops.sqlite", "status.json", *FOLDERS_BEFORE):
            self._swap(self.folder / "data" / name, self.settings.data_dir / name)
        say("warehouse")
        if warehouse:
            self._load(WAREHOUSE_DUMP, self.manifest.warehouse, warehouse, keep=any(loaded.values()))
        else:
            self._swap(self.folder / WAREHOUSE_FILE, self.settings.warehouse_file)
        for name in FOLDERS_AFTER:
            self._swap(self.folder / "data" / name, self.settings.data_dir / name)
        if not taken:  # empty databases
            shutil.rmtree(self.aside, ignore_errors=True)

    def settle(self) -> int:
        """End the runs of the history that nobody is at work on any more; return how many."""
        from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
        from refresh_pipelines.orchestration.restored import end_runs  # noqa: PLC0415

        with open_instance(self.settings) as instance:
            return end_runs(instance)

    def _look_at_history(self) -> tuple[Files | None, Path | None, bool]:
        """Return where history goes, where what runs have printed goes, and whether nothing is there."""
        from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
        from refresh_pipelines.orchestration.internals_stores import files_of, printed_by_runs  # noqa: PLC0415
        from refresh_pipelines.orchestration.restored import is_empty, require_known_store  # noqa: PLC0415

        with open_instance(self.settings) as instance:
            files = files_of(instance)
            if files is None:
                require_known_store(instance, self.settings)
            return files, printed_by_runs(instance), is_empty(instance)

    def _require(self, what: str, there: str, wanted: str, setting: str) -> None:
        if there.partition(" ")[0] != wanted:
            raise InternalError(
                f"the {what} of the backup is of another kind",
                expected=f"{wanted}, as {setting} says",
                came=there or "none",
                todo=f"Nothing was touched. Set {setting} to that kind and restore; `refresh copy` moves a warehouse.",
            )

    def _put_history(self, files: Files) -> None:
        self._swap(self.folder / "history/schedules.db", files.schedules)
        self._swap(self.folder / "history/runs.db", files.runs)
        self._swap(self.folder / "history/runs", files.events)

    def _load(self, name: str, kind: str, database: Database, *, keep: bool) -> None:
        """Load a dump and count again what is there now."""
        dump = self.folder / name
        if not dump.exists():
            return
        database.load(dump, int(kind.rpartition(" ")[2]), f"replaced_{self.stamp}", keep=keep)
        _require_rows(name, self.manifest, database.rows())

    def _swap(self, new: Path, place: Path) -> None:
        """Put a file or folder in place; what was there, with all that belongs to it, is moved aside."""
        for end in _BESIDE:
            old = place.with_name(place.name + end)
            if old.exists():
                self.aside.mkdir(exist_ok=True)
                shutil.move(old, self.aside / old.name)
        if new.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            # By way of the same folder: the last step is a rename, wherever the disks end.
            beside = place.with_name(f".{place.name}.restore")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.move(new, beside)
            beside.replace(place)


@contextmanager
def _nobody_at_work(settings: Settings) -> Iterator[None]:
    """Hold the locks under which others begin to work; refuse where somebody works already. Raises WarehouseBusy."""
    from refresh_pipelines.orchestration.instance import home_of  # noqa: PLC0415 - a second's import

    found = [f"the service (PID {one.pid})" for one in [supervised.running(settings)] if one]
    found += [f"process {process.pid} of a service that is gone" for process in supervised.orphans(settings)]
    found += [f"the daemon, PID {one.pid}" for one in daemons_at(home_of(settings))]
    found += [f"run {one.run_id[:8]}, PID {one.pid}" for one in workers(settings.data_dir) if one.alive]
    if found:
        raise _at_work(", ".join(found))
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(settings.data_dir / ".due.lock").acquire(timeout=0))
        except Timeout:
            raise _at_work("`refresh run --due` or `refresh gaps --fill`") from None
        if settings.warehouse.startswith("duckdb://"):
            file = settings.warehouse_file
            stack.enter_context(held(file.with_name(file.name + ".lock"), 1, f"the warehouse {file.name}"))
        yield


def _at_work(came: str) -> WarehouseBusy:
    return WarehouseBusy(
        "a backup cannot be restored under what is at work",
        expected="nothing that reads or writes the data folder",
        came=came,
        todo="Nothing was touched. Stop it (`refresh stop`, Ctrl-C in `make up`, systemctl), then run this again.",
    )


def _compare(manifest: Manifest, folder: Path) -> None:
    """Open every database that was unpacked and count its rows. Raises InternalError."""
    for name in manifest.tables:
        path = folder / name
        if name.endswith((".db", ".sqlite")):
            _require_rows(name, manifest, _counted(rows_of_sqlite, path))
        elif name == WAREHOUSE_FILE:
            _require_rows(name, manifest, _counted(rows_of_duckdb, path))


def _counted(count: Callable[[Path], dict[str, int]], path: Path) -> dict[str, int]:
    try:
        return count(path)
    except (sqlite3.Error, duckdb.Error) as error:
        raise InternalError(
            f"{path.name} of the backup cannot be opened here",
            came=" ".join(str(error).split())[:300],
            todo="Nothing was touched. Restore it by the Python and versions that made it: its manifest names them.",
        ) from error


def _require_rows(name: str, manifest: Manifest, found: dict[str, int]) -> None:
    wanted = manifest.tables.get(name, {})
    wrong = sorted(table for table in {*wanted, *found} if wanted.get(table) != found.get(table))
    if wrong:
        raise InternalError(
            f"{name} of the backup does not hold what it held",
            expected=f"{wanted.get(wrong[0])} rows in {wrong[0]}",
            came=str(found.get(wrong[0])),
            todo="Take another backup.",
        )
