"""Ports that somebody else holds: who it is, and which setting moves us.

`python -m refresh_pipelines.cli.ports` is asked by `make up` before it starts anything. It prints
"<port of the UI> <port of the sandbox> <whether a sandbox is to be started: yes or no> <port of the API>"
and ends with 1 if a port is taken, 2 if a setting is wrong.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence

import click
import psutil

from refresh_pipelines.cli.upstream import is_served
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings, SettingsError

HOST = "127.0.0.1"
UI, SANDBOX, API = "REFRESH_UI_PORT", "REFRESH_SANDBOX_PORT", "REFRESH_API_PORT"
_HERE = frozenset({HOST, "0.0.0.0", "::", "::1"})  # noqa: S104 - compared with, not bound to


class PortInUse(OSError):
    """Another program holds a port; the message names it and the way out."""


def port_in_use(port: int, setting: str, command: str) -> PortInUse:
    """Return the error for a port that is taken.

    Args:
        setting: the variable that moves us to another port.
        command: what the person called, to be called again with it.
    """
    free = next((other for other in range(port + 1, min(port + 100, 65536)) if not taken(other)), port + 1)
    return PortInUse(
        f"port {port} is in use by {holder(port) or 'another program'}. Stop it, or set {setting} to a free port: "
        f"{setting}={free} {command}"
    )


def taken(port: int) -> bool:
    """Whether a program of this machine listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def holder(port: int) -> str | None:
    """Return the program and PID that listens on a port; None where the system does not tell us."""
    for pid in _listeners(port):
        try:
            words = psutil.Process(pid).cmdline()
        except psutil.Error:
            words = []
        program = redact(" ".join(words))[:100]
        return f"`{program}` (PID {pid})" if program else f"PID {pid}"
    return None


def _listeners(port: int) -> Iterator[int]:
    """Yield the processes that listen on a port, of those we may look at."""
    try:
        found = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        # macOS tells everything to root alone, and each process about itself.
        found = []
    for connection in found:
        if connection.pid and _is_listener(connection.status, connection.laddr, port):
            yield connection.pid
    for process in () if found else psutil.process_iter():
        try:
            own = process.net_connections(kind="tcp")
            if any(_is_listener(connection.status, connection.laddr, port) for connection in own):
                yield process.pid
        except psutil.Error:
            continue  # somebody else's process, or one that has just ended


def _is_listener(status: str, address: Sequence[object], port: int) -> bool:
    return status == psutil.CONN_LISTEN and len(address) == 2 and address[1] == port and address[0] in _HERE


def ports_of_up(settings: Settings) -> tuple[int, int, bool]:
    """Return the ports `make up` listens on, and whether it has to start a sandbox.

    Raises:
        SettingsError: a port's setting is no port, or both are the same.
        PortInUse: one is taken; a sandbox that is served already is used instead.
    """
    text = settings.environ.get(UI) or "3000"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingsError(f"{UI}={text!r}: expected a port number")
    ui, sandbox = int(text), settings.sandbox_port
    if settings.sandbox and ui == sandbox:
        raise SettingsError(f"{UI} and {SANDBOX} are both {ui}; they must differ")
    if taken(ui):
        raise port_in_use(ui, UI, "make up")
    if not settings.sandbox or is_served(settings):
        return ui, sandbox, False
    if taken(sandbox):
        raise port_in_use(sandbox, SANDBOX, "make up")
    return ui, sandbox, True


def port_of_api(settings: Settings, others: Sequence[int]) -> int:
    """Return the port that `make up` serves the API on.

    Raises:
        SettingsError: it is one of the `others`.
        PortInUse: it is taken.
    """
    if settings.api_port in others:
        raise SettingsError(f"{API} is {settings.api_port}, as another port of `make up`; they must differ")
    if taken(settings.api_port):
        raise port_in_use(settings.api_port, API, "make up")
    return settings.api_port


def main() -> None:
    """Print the ports for `deploy/up.sh`; see the module."""
    try:
        settings = Settings.load()
        ui, sandbox, start = ports_of_up(settings)
        api = port_of_api(settings, (ui, sandbox))
    except (PortInUse, SettingsError) as error:
        click.echo(f"Nothing was started: {error}", err=True)
        sys.exit(1 if isinstance(error, PortInUse) else 2)
    click.echo(f"{ui} {sandbox} {'yes' if start else 'no'} {api}")


if __name__ == "__main__":
    main()
