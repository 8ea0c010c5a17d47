"""`python -m refresh_pipelines.service.gentle` is the code server of a container: SIGTERM lets its runs end first.

A container gets one signal and then has until it is killed, and with its first process every run in it dies. systemd
and `refresh stop` wait for runs before they send the signal; here that has to be done after it came.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.service.launch import wait_for_runs
from refresh_pipelines.service.processes import CODE, launch_words
from refresh_pipelines.settings import Settings, SettingsError

_POLL = 0.5


def serve(words: Sequence[str], drain: Callable[[], None]) -> int:
    """Run a server until it ends or this process is asked to stop, which calls `drain` first; return its exit code.

    To be called in the main thread. A drain that fails is told and keeps nobody from stopping.
    """
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    # In a group of its own: Ctrl-C in a terminal is for this process alone.
    server = subprocess.Popen(words, start_new_session=True)  # noqa: S603 - words of ours, no shell
    while server.poll() is None and not asked.wait(_POLL):
        pass
    if server.poll() is None:
        try:
            drain()
        except RefreshError as error:
            sys.stderr.write(f"{error}\n")
        server.terminate()
    return server.wait()


def main() -> None:
    """Serve what the settings say; 2 for wrong ones."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.exit(max(serve(launch_words(CODE), lambda: wait_for_runs(settings)), 0))


if __name__ == "__main__":
    main()
