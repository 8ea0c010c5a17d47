"""The warehouse of tests whose subject is something else: the same file, attached to one DuckDB per test process.

A DuckDB of its own costs 30 ms of CPU each time, for the functions it brings along; a refresh opens the file three
times. What opening and closing does itself is tested with the real one (test_warehouse, test_locks, test_kill).
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import duckdb

from refresh_pipelines.warehouse import DuckDBWarehouse

_numbers = itertools.count()
_hosts: dict[int, duckdb.DuckDBPyConnection] = {}


def _host() -> duckdb.DuckDBPyConnection:
    # Tests fork: a child has one of its own, and none has threads, which would not be there in the child.
    if os.getpid() not in _hosts:
        _hosts[os.getpid()] = duckdb.connect(config={"threads": 1})
    return _hosts[os.getpid()]


class Attached:
    """A connection that sees one database file as its own; leaving it closes the file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._host, self._name = _host(), f"file{next(_numbers)}"
        place, how = str(path).replace("'", "''"), " (READ_ONLY)" if read_only else ""
        self._host.execute(f"ATTACH '{place}' AS {self._name}{how}")
        self._connection = self._host.cursor()
        self._connection.execute(f"USE {self._name}")

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        try:
            self._host.execute(f"DETACH {self._name}")
        except duckdb.Error:
            del _hosts[os.getpid()]  # an error that DuckDB does not recover from ends this one and no other test
            raise

    def __getattr__(self, name: str):
        return getattr(self._connection, name)


class AttachedWarehouse(DuckDBWarehouse):
    """A warehouse that is quickly opened; what cannot be attached is opened as ever, and says what is wrong."""

    def _connect(self, read_only, patience, *, own):
        try:
            return Attached(self.path, read_only=read_only), 0.0
        except duckdb.Error:
            return super()._connect(read_only, patience, own=own)

    def _create(self):
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        with Attached(new):
            pass
        new.replace(self.path)

    def select(self, query, tables, path):
        # Its query is shut in by settings that hold for the whole of a DuckDB and for good.
        return DuckDBWarehouse(self.path, self.lock_timeout).select(query, tables, path)
