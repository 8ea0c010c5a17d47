"""The template: a process that has loaded the definitions and forks a process for each run it is asked for.

`python -m refresh_pipelines.orchestration.template FD`, where FD is one end of a pair of sockets; the other end is the
launcher's, and nobody else can ask. A line of JSON each way:

    {"origin", "instance", "warehouse"}    what to load, once    {"ready": true, "files": […]} or {"error": text}
    {"run", "instance"}                    fork for this run     {"run", "pid"} or {"unfit": text}

With the question for a run comes the reading end of a pipe, which the fork takes with it. It begins when the launcher,
which has read the answer, writes a byte; where the launcher gives up or dies there is no byte but the end, and the
fork goes.
When the launcher is gone or asks no more, the template waits for its last fork and ends. Runs outlive both.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from refresh_pipelines.orchestration import run_process

# How often forks that have ended are looked for while nobody asks.
_LOOK = 1.0
# Between SIGTERM and SIGKILL for runs whose server has ended.
_LAST_WORDS = 10.0
# A process that is to take the runs with it when it ends; `make up` sets it. Not a user's setting.
END_WITH = "_REFRESH_RUNS_END_WITH"
# For `ps` and `pkill`: at most 15 bytes, prctl(2).
NAME = b"refresh-run"
_PR_SET_NAME = 15
# Threads that libraries start when they are imported, and that hold nothing a fork could miss.
_HARMLESS = ("jemalloc_bg_thd",)


def main() -> None:
    """Serve the socket whose number is the argument."""
    Template(socket.socket(fileno=int(sys.argv[1]))).serve()


class Template:
    """This process, which loads once and forks often."""

    def __init__(self, line: socket.socket) -> None:
        self.line, self.rest = line, b""
        self.sent: list[int] = []
        self.forks: dict[int, tuple[str, str]] = {}
        # Where the runs end with another process: what that is now.
        given = os.environ.get(END_WITH, "")
        self.end_with = (int(given), run_process.began(int(given))) if given.isdecimal() else None

    def serve(self) -> None:
        """Answer until nobody asks any more and the last fork has ended."""
        first = self._next()
        if first is None or not self._load(first):
            return
        while (asked := self._next()) is not None:
            self._fork(asked["run"], asked["instance"])
        self.line.close()
        self._wait_for_the_last()

    def _load(self, asked: dict[str, str]) -> bool:
        # Nothing of what is made now is garbage, and a collection in a fork would copy all of it.
        gc.disable()
        try:
            from refresh_pipelines.orchestration.internals_forked import preload  # noqa: PLC0415 - as all that follows

            preload(asked["origin"], asked["instance"], asked["warehouse"])
        except Exception:  # noqa: BLE001 - told to whoever asked: code of any kind may be loaded
            self._say({"error": traceback.format_exc()})
            return False
        gc.collect()
        gc.freeze()
        gc.enable()
        self._say({"ready": True, "files": sorted(_own_files())})
        return True

    def _fork(self, run_id: str, instance: str) -> None:
        begin = self.sent.pop()
        try:
            wrong = unfit((self.line.fileno(), begin))
            if wrong:
                self._say({"unfit": wrong})
                return
            pid = os.fork()
            if pid == 0:
                self._be_the_run(run_id, instance, begin)
        finally:
            os.close(begin)
        self.forks[pid] = (run_id, instance)
        self._say({"run": run_id, "pid": pid})

    def _be_the_run(self, run_id: str, instance: str, begin: int) -> None:
        """Execute the run in this fork, and never return."""
        code = 1
        try:
            self.line.close()
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME, 0, 0, 0)
            random.seed()
            from refresh_pipelines.orchestration.internals_forked import execute, interruptible  # noqa: PLC0415

            with interruptible():
                told = os.read(begin, 1)
                os.close(begin)
                if told:
                    execute(run_id, instance, {run_process.TAG: run_process.of_this(run_id).mark()})
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the template's own frames must not go on in the fork
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _next(self) -> dict[str, Any] | None:
        """Return the next line, None at the end; look after forks that have ended while there is none."""
        while b"\n" not in self.rest:
            self._reap()
            ready, _, _ = select.select([self.line], [], [], _LOOK if self.forks else None)
            if ready:
                try:
                    more, descriptors, _, _ = socket.recv_fds(self.line, 65536, 1)
                except ConnectionResetError:
                    return None
                self.sent += descriptors
                if not more:
                    return None
                self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return dict(json.loads(line))

    def _say(self, answer: dict[str, object]) -> None:
        self.line.sendall(json.dumps(answer).encode() + b"\n")

    def _reap(self) -> None:
        """Take notice of forks that have ended; of one that died its instance is told, by a fork that opens it."""
        while self.forks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            run_id, instance = self.forks.pop(pid, ("", ""))
            if run_id and status:
                code = os.waitstatus_to_exitcode(status)
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                self._tell(run_id, instance, how)

    def _tell(self, run_id: str, instance: str, how: str) -> None:
        pid = os.fork()
        if pid:
            self.forks[pid] = ("", "")
            return
        try:
            with suppress(OSError):
                self.line.close()
            from refresh_pipelines.orchestration.internals_forked import report_death  # noqa: PLC0415

            report_death(run_id, instance, how)
        except BaseException:  # noqa: BLE001 - the sensor `failures` finds the run too; this is only sooner
            traceback.print_exc()
        finally:
            os._exit(0)

    def _wait_for_the_last(self) -> None:
        waited = 0.0
        while self.forks:
            self._reap()
            if self.end_with and run_process.began(self.end_with[0]) != self.end_with[1]:
                for pid in list(self.forks):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if waited > _LAST_WORDS else signal.SIGTERM)
                waited += _LOOK
            time.sleep(_LOOK if self.forks else 0)


def unfit(own: Collection[int]) -> str | None:
    """Return why this process must not be forked: what it holds that two processes must not share; None if nothing.

    A DuckDB connection works in a fork without a lock of its own, and then two write (seen); a connection to a server
    is answered to whoever reads first; a lock of a thread that is not in the fork is held for ever.

    Args:
        own: what may be open: the socket to the launcher, and what a fork takes with it.
    """
    for descriptor, target in _open_files():
        if descriptor > 2 and descriptor not in own and not target.startswith(("/dev/", "anon_inode:", "/proc/")):
            return f"the file or socket {target} is open"
    threads = [name for name in _threads() if name not in _HARMLESS]
    if len(threads) > 1:
        return f"the threads {', '.join(threads)} run"
    return None


def _open_files() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that the listing itself had open
            yield int(entry.name), str(entry.readlink())


def _threads() -> list[str]:
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def _own_files() -> Iterator[str]:
    """Yield the files of the modules loaded that are no installed package's: the project's and the user's."""
    installed = tuple({sys.prefix, sys.base_prefix})
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and not file.startswith(installed):
            yield file


if __name__ == "__main__":
    main()
