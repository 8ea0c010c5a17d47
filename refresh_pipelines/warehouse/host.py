"""The DuckDB of this process that a warehouse file is attached to while it is needed.

Opening a DuckDB costs 30 ms of CPU, for the functions it brings along; attaching a file to one that is open costs 4.
Between calls nothing is attached, so the file is closed and others may have it.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

import duckdb

# At most one: a process works with one warehouse.
_hosts: dict[Path, duckdb.DuckDBPyConnection] = {}


class Attached:
    """A file that is attached, until the block ends, which is given a connection that sees it as its own."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Attach the file. Raises duckdb.Error as `duckdb.connect` does, and where a catalogue has the file's name."""
        self._host = _host(path)
        # People write the name that the file gives its catalogue into statements: it stays the same.
        self._name = '"' + path.stem.replace('"', '""') + '"'
        place, how = str(path).replace("'", "''"), "READ_ONLY" if read_only else "READ_WRITE"
        self._host.execute(f"ATTACH '{place}' AS {self._name} ({how})")
        try:
            self._connection = self._host.cursor()
            self._connection.execute(f"USE {self._name}")
        except BaseException:
            self._detach(healthy=False)
            raise

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        """Return the connection."""
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the connection and the file. What was committed is, whatever happens here."""
        self._connection.close()
        self._detach(healthy=kind is None)

    def _detach(self, *, healthy: bool) -> None:
        try:
            self._host.execute(f"DETACH {self._name}")
        except duckdb.Error:
            healthy = False  # the log could not be put into the file, say: whoever opens it next does that
        if not healthy:
            # After some errors a DuckDB refuses all work. Its last connection closes the file for certain.
            forget()
            with suppress(duckdb.Error):
                self._host.close()


def _host(path: Path) -> duckdb.DuckDBPyConnection:
    """Return the one for a file. What does not fit into memory lies beside the file, as with a DuckDB of its own."""
    host = _hosts.get(path)
    if host is None:
        forget()
        host = _hosts[path] = duckdb.connect(":memory:", config={"temp_directory": f"{path}.tmp"})
    return host


def forget() -> None:
    """Let the next one who needs it open a new one."""
    _hosts.clear()


def _leave_to_the_parent() -> None:
    """In a forked child: open a new one when one is needed, and never close the inherited; see `measure`."""
    for host in _hosts.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(host))
    forget()


os.register_at_fork(after_in_child=_leave_to_the_parent)
