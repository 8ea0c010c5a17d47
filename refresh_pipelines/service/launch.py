"""`python -m refresh_pipelines.service.launch NAME` becomes one process of the service.

It reads the settings, makes what the process needs, and is replaced by it, so that its number, signals and output
are the process's own. With the name `drain` it waits for the runs of the code server, as a unit does before it stops.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.service.processes import (
    LOCATION_NAME,
    MARKER,
    SANDBOX,
    WATCH,
    Process,
    code_socket,
    processes,
    run_folder,
    workspace_file,
)
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.whole import write_whole

# Loading a thousand sources on a busy machine.
_PATIENCE = 180.0
DRAIN = "drain"


def make_ready(settings: Settings) -> None:
    """Make the folder, the workspace and Dagster's storage, and set DAGSTER_HOME. Several may do so at once.

    Raises:
        InternalError: the data folder or Dagster's storage cannot be used.
    """
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import

    open_instance(settings).dispose()
    folder = run_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # who may talk to the code server may run code
    server = {"socket": str(code_socket(settings)), "location_name": LOCATION_NAME}
    write_whole(workspace_file(settings), yaml.safe_dump({"load_from": [{"grpc_server": server}]}))


def wait_for(path: Path, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Return once somebody listens on a socket. Raises InternalError when nobody does in time."""
    until = clock() + patience
    while True:
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(path))
            return
        if clock() >= until:
            raise InternalError(
                "the code server does not answer",
                expected=f"an answer at {path} within {patience:g} s",
                todo="`refresh logs code` says why; `refresh check` finds what is wrong with the sources.",
            )
        time.sleep(0.2)


def wait_for_history(settings: Settings, say: Callable[[str], None]) -> None:
    """Return once the PostgreSQL server of Dagster's history lets us in; at once where history is in SQLite.

    What starts while it is away ends at once, and a code server goes on and holds no definitions.

    Raises:
        InternalError: user, password or database are wrong.
    """
    from refresh_pipelines.orchestration.server import HistoryAway, require_server  # noqa: PLC0415 - for these only

    told = False
    while True:
        try:
            require_server(settings)
        except HistoryAway as error:
            if not told:
                say(f"{error.problem}, so this waits for it: {error.came}")
            told = True
        else:
            return


def become(process: Process, settings: Settings) -> None:
    """Replace this program by the process."""
    # `refresh start` has done so, once for all and with its environment, which spares each a second's import.
    if os.environ.get(MARKER) != str(run_folder(settings)):
        make_ready(settings)
    elif process.name not in (WATCH, SANDBOX):
        wait_for_history(settings, _say)
    if process.after_code:
        wait_for(code_socket(settings), _PATIENCE)
    elif process.name == "code":
        # Of a server that was killed; one that lives cannot be here, since there is one supervisor.
        code_socket(settings).unlink(missing_ok=True)
    sys.stdout.flush()
    # A shell starts background jobs deaf to SIGINT, and Dagster's processes would then be deaf to SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *process.words])  # noqa: S606 - words of ours, no shell


def wait_for_runs(settings: Settings) -> None:
    """Give the runs of the code server REFRESH_STOP_TIMEOUT, then cancel those that are left."""
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.service.stopping import drain  # noqa: PLC0415

    with open_instance(settings) as instance:
        drain(instance, settings, _say, settings.stop_timeout.total_seconds())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Become the process named on the command line; 1 if it cannot start, 2 for a wrong name or setting."""
    try:
        settings = Settings.load()
        known = {process.name: process for process in processes(settings)}
        name = sys.argv[1] if len(sys.argv) == 2 else ""
        if name == DRAIN:
            wait_for_runs(settings)
            return
        if name not in known:
            sys.stderr.write(f"expected one of {', '.join([*known, DRAIN])}; got {name!r}\n")
            sys.exit(2)
        become(known[name], settings)
    except (RefreshError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, SettingsError) else 1)


if __name__ == "__main__":
    main()
