"""The process of a run, named so that any process of the machine finds it again, and no other that has its number.

A mark is text in a tag of the run: the beginning of its id, the kernel's start, the numbering of processes, the number
and when that process began. The run's id is in it because a run that is made again bears the tags of the first.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TAG = "refresh/process"
# In place of a mark: it is being made; or somebody else starts and watches the process.
FORKING, ELSEWHERE = "forking", "elsewhere"
Sight = Literal["alive", "gone", "unseen"]


@dataclass(frozen=True)
class RunProcess:
    """A process at work on a run.

    Attributes:
        boot: the kernel's start.
        space: the numbering of processes that `pid` belongs to; a container has its own.
        began: when it began, in ticks since the kernel's start.
    """

    run: str
    boot: str
    space: str
    pid: int
    began: int

    def mark(self) -> str:
        """Return the text that `read` reads."""
        return f"{self.run} {self.boot} {self.space} {self.pid} {self.began}"

    def look(self) -> Sight:
        """Return whether it lives; `unseen` where that cannot be said from here."""
        if (self.boot, self.space) != place():
            return "unseen"
        return "alive" if began(self.pid) == self.began else "gone"

    def interrupt(self) -> bool:
        """Ask it to stop, as Ctrl-C does; return whether it was there to be asked."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor holds on to what has the number now; only then is it compared.
            if self.look() != "alive":
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGINT)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def of_this(run_id: str) -> RunProcess:
    """Return the calling process, at work on a run."""
    boot, space = place()
    own = began(os.getpid())
    if own is None:
        raise RuntimeError("/proc does not show the calling process")
    return RunProcess(run_id[:8], boot, space, os.getpid(), own)


def read(run_id: str, mark: str | None) -> RunProcess | None:
    """Return the process that a mark names; None where there is none, or it is another run's."""
    words = (mark or "").split()
    if len(words) != 5 or words[0] != run_id[:8]:
        return None
    return RunProcess(words[0], words[1], words[2], int(words[3]), int(words[4]))


def word(run_id: str, said: str) -> str:
    """Return a mark that says FORKING or ELSEWHERE of a run."""
    return f"{run_id[:8]} {said}"


def is_forking(run_id: str, mark: str | None) -> bool:
    """Whether a run's process is being made, and will say its number soon."""
    return mark == word(run_id, FORKING)


def serves_here(path: str) -> bool:
    """Whether the process that listens at a socket's path is one whose number can be seen from here.

    A folder that containers share shows the sockets of all of them. The kernel gives the number of the other end as it
    is here, and 0 where it has none: unix(7), SO_PEERCRED.
    """
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(path)
        except OSError:
            return False
        pid, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(pid)


def place() -> tuple[str, str]:
    """Return the kernel's start and the numbering of processes here. Linux only."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, str(Path("/proc/self/ns/pid").readlink())


def began(pid: int) -> int | None:
    """Return when a process began, in ticks since the kernel's start; None if it is gone, or dead and not yet reaped.

    Fields 3 and 22 of /proc/PID/stat, as proc(5) counts them; the name in field 2 may hold anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
