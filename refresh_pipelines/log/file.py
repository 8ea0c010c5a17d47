"""The log's file: many processes append to it at once, and whoever finds it full or old puts it aside.

Each line is one `write` to a file opened for appending, which no other line can tear on a local disk, and nobody
waits for anybody. The file is opened for each line: it costs 25 µs and leaves nothing to inherit, to reopen or to lose
when another process puts the file aside. A line that is written meanwhile ends up in the file that was put aside.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

MOST = 10_000_000
KEPT = 5
WEEK, MONTH = timedelta(days=7), timedelta(days=30)
_HOUR = 3600.0
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


class LogFile:
    """The file at `path` and those put aside: `path.1`, the newest, up to `path.<kept>`.

    Args:
        most: bytes after which it is put aside.
        kept: how many files are kept beside it.
        clock: seconds since 1970.
    """

    def __init__(
        self, path: Path, most: int = MOST, kept: int = KEPT, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.path, self.most, self.kept, self.clock = path, most, kept, clock
        self._tidied = float("-inf")
        self._torn = False

    def append(self, line: str) -> None:
        """Add one line. Raises OSError when it cannot be written."""
        now = self.clock()
        if now - self._tidied > _HOUR:
            self._tidied = now
            self._tidy(now)
        data = ("\n" * self._torn + line + "\n").encode(errors="backslashreplace")
        file = self._open()
        try:
            self._write(file, data)
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if size >= self.most:
            self._put_aside(lambda: self._size() >= self.most)

    def aside(self) -> list[Path]:
        """Return the files that were put aside, the newest first."""
        places = (self._place(number) for number in range(1, self.kept + 1))
        return [place for place in places if place.exists()]

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with suppress(FileNotFoundError):
            return os.open(self.path, flags, 0o640)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, flags, 0o640)

    def _write(self, file: int, data: bytes) -> None:
        written = os.write(file, data)
        # Only a disk that is getting full takes less than the whole; the rest is worth one more try.
        self._torn = written < len(data)
        if self._torn:
            self._torn = os.write(file, data[written:]) < len(data) - written

    def _tidy(self, now: float) -> None:
        """Put the file aside when it is a week old, so that files can be removed by age, and remove old ones."""
        if now - self._begun(now) >= WEEK.total_seconds():
            self._put_aside(lambda: now - self._begun(now) >= WEEK.total_seconds())
        for place in self.aside():
            with suppress(FileNotFoundError):  # another process was quicker
                if now - place.stat().st_mtime > MONTH.total_seconds():
                    place.unlink()

    def _begun(self, now: float) -> float:
        """Return when the file's first line was written, as far as it says so."""
        with suppress(FileNotFoundError, NotADirectoryError), self.path.open("rb") as file:
            found = _TIME.search(file.read(100))
            if found:
                return datetime.fromisoformat(found[0].decode() + "+00:00").timestamp()
        return now

    def _size(self) -> int:
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def _put_aside(self, still: Callable[[], bool]) -> None:
        """Rename the files, unless another process does so now or has done it since."""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - once in 10 MB

        try:
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0):
                if still():
                    self._shift()
        except Timeout:
            return

    def _shift(self) -> None:
        # Up to the first gap, which a process that died in between has left: nothing is pushed out without need.
        free = next((n for n in range(1, self.kept + 1) if not self._place(n).exists()), self.kept)
        for number in range(free, 1, -1):
            self._place(number - 1).replace(self._place(number))
        self.path.replace(self._place(1))

    def _place(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
