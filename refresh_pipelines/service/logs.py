"""What the processes print: the last lines of their logs, and lines as they come, also across a rotation."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from refresh_pipelines.service.processes import log_folder, processes
from refresh_pipelines.settings import Settings

POLL = 0.5
_BLOCK = 64 * 1024


def logs_of(settings: Settings) -> dict[str, Path]:
    """Return where each process writes, by name, and `supervisor`, which says what was started and what died."""
    names = [*(process.name for process in processes(settings)), "supervisor"]
    return {name: log_folder(settings) / f"{name}.log" for name in names}


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log, none where there is none; a file of any size costs no more than its end."""
    try:
        with path.open("rb") as file:
            at, data = file.seek(0, os.SEEK_END), b""
            while at > 0 and data.count(b"\n") <= count:
                size = min(at, _BLOCK)
                at = file.seek(at - size)
                data = file.read(size) + data
    except FileNotFoundError:
        return []
    return list(deque(data.decode(errors="replace").splitlines(), maxlen=count)) if count else []


def follow(
    paths: Mapping[str, Path], pause: Callable[[], None] = lambda: time.sleep(POLL)
) -> Iterator[tuple[str, str]]:
    """Yield (name, line) as lines are written from now on, for ever; a log that is put aside is read to its end."""
    return _news({name: _Tail(path) for name, path in paths.items()}, pause)


def _news(tails: Mapping[str, _Tail], pause: Callable[[], None]) -> Iterator[tuple[str, str]]:
    while True:
        for name, tail in tails.items():
            for line in tail.news():
                yield name, line
        pause()


class _Tail:
    """The end of one log as it grows. Whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb") if path.exists() else None
        self._rest = b""
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def news(self) -> list[str]:
        """Return the lines written since the last call."""
        data = self._rest + (self._file.read() if self._file else b"")
        if self._replaced():
            data += self._file.read() if self._file else b""
            if self._file:
                self._file.close()
            self._file = self._path.open("rb")
            data += self._file.read()
        *lines, self._rest = data.split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _replaced(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return self._file is None or os.fstat(self._file.fileno()).st_ino != now.st_ino
