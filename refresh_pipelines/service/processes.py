"""The one list of the processes that make up the service: what supervisor and the systemd units start."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from refresh_pipelines.errors import InternalError
from refresh_pipelines.settings import Settings, SettingsError

HOST = "127.0.0.1"
UI_PORT = "REFRESH_UI_PORT"
# Dagster's UI has no login, so any address but loopback is for a network that nobody else shares: a container's.
UI_BIND = "REFRESH_UI_BIND"
# Where the watcher of the catalogue finds the UI, if it is not on its own machine.
UI_HOST = "REFRESH_UI_HOST"
_HERE = frozenset({HOST, "localhost", "0.0.0.0"})  # noqa: S104 - compared with, not bound to
# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
CODE, WEBSERVER, DAEMON, WATCH, API, SANDBOX = "code", "webserver", "daemon", "watch", "api", "sandbox"
# In the environment of all that a supervisor starts: the folder of sockets, as `run_folder` has it.
MARKER = "REFRESH_PIPELINES_SERVICE"
# The kernel's limit for the address of a socket is 108 bytes on Linux and 104 on macOS, with a zero at the end.
_LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
# Supervisor's socket has its PID in its name until it listens.
_WITH_PID = len(".4194304")


@dataclass(frozen=True)
class Process:
    """One process of the service.

    Attributes:
        words: what follows the Python interpreter on its command line.
        about: what it does, for people.
        after_code: whether it asks the code server, and so begins once that answers.
        port: where it listens on this machine, None for nowhere.
        setting: the variable that moves the port.
    """

    name: str
    words: tuple[str, ...]
    about: str
    after_code: bool = False
    port: int | None = None
    setting: str = ""


def processes(settings: Settings) -> tuple[Process, ...]:
    """Return the processes in the order they are started in; the API and the sandbox only where there is one to start.

    Raises:
        SettingsError: a port's setting is no port, or two are the same; the UI's address is none of this machine.
        InternalError: the path of the data folder is too long for a socket in it.
    """
    ui, space = port_of(settings, UI_PORT, 3000), ("-w", str(workspace_file(settings)))
    bind, found_at = _ui_bind(settings), settings.environ.get(UI_HOST) or HOST
    module = ("-m", "refresh_pipelines.definitions", "--location-name", LOCATION_NAME)
    start = ("-m", "refresh_pipelines.service.code_server", "code-server", "start")
    server = (*start, "--socket", str(code_socket(settings)))
    found = [
        Process(CODE, (*server, *module), "holds the sources and starts the processes of runs"),
        Process(
            WEBSERVER,
            ("-m", "dagster_webserver", "-h", bind, "-p", str(ui), *space),
            "serves the Dagster UI",
            after_code=True,
            port=ui,
            setting=UI_PORT,
        ),
        Process(DAEMON, ("-m", "dagster._daemon", "run", *space), "asks for runs and starts them", after_code=True),
        Process(WATCH, ("-m", "refresh_pipelines.cli.watch", str(ui), found_at), "sees changes of the catalogue"),
    ]
    words: tuple[str, ...] = ("-m", "refresh_pipelines.service.api")
    # At an address of another network nobody looks for it here.
    port = settings.api_port if settings.api_bind in _HERE else None
    found.append(Process(API, words, "serves the API and the status page", port=port, setting="REFRESH_API_PORT"))
    if settings.sandbox:
        words = ("-m", "refresh_pipelines", "sandbox")
        port = settings.sandbox_port
        found.append(Process(SANDBOX, words, "stands in for all upstreams", port=port, setting="REFRESH_SANDBOX_PORT"))
    _differ(found)
    return tuple(found)


def launch_words(name: str) -> tuple[str, ...]:
    """Return the command that becomes the process: the same under supervisor, systemd and in a container.

    What depends on settings (ports, folders) is read where it starts, so that a unit file holds nothing of it.
    """
    return (sys.executable, "-m", "refresh_pipelines.service.launch", name)


def port_of(settings: Settings, setting: str, default: int) -> int:
    """Return a port. Raises SettingsError when the variable holds none."""
    text = settings.environ.get(setting) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingsError(f"{setting}={text!r}: expected a port number")
    return int(text)


def run_folder(settings: Settings) -> Path:
    """Return the folder of sockets, lock and what is written for the processes; nothing in it outlives a stop."""
    return settings.data_dir / "run"


def code_socket(settings: Settings) -> Path:
    """Return where the code server listens. Raises InternalError where a socket's address cannot be so long."""
    return _socket(settings, "code.sock", _LONGEST_SOCKET)


def supervisor_socket(settings: Settings) -> Path:
    """Return where the supervisor listens. Raises InternalError where a socket's address cannot be so long."""
    return _socket(settings, "supervisor.sock", _LONGEST_SOCKET - _WITH_PID)


def _socket(settings: Settings, name: str, longest: int) -> Path:
    path = run_folder(settings) / name
    if len(str(path).encode()) > longest:
        raise InternalError(
            "the path of the data folder is too long for a socket in it",
            expected=f"at most {longest} bytes",
            came=str(path),
            todo="Set REFRESH_DATA_DIR to a folder with a shorter path.",
        )
    return path


def workspace_file(settings: Settings) -> Path:
    """Return the workspace that names the code server, for webserver and daemon."""
    return run_folder(settings) / "workspace.yaml"


def log_folder(settings: Settings) -> Path:
    """Return where the processes write what they print: `<name>.log`, and the older ones beside it."""
    return settings.data_dir / "log"


def _ui_bind(settings: Settings) -> str:
    text = settings.environ.get(UI_BIND) or HOST
    if text not in _HERE:
        raise SettingsError(f"{UI_BIND}={text!r}: expected 127.0.0.1, or 0.0.0.0 in a container behind a login")
    return text


def _differ(found: list[Process]) -> None:
    taken: dict[int, str] = {}
    for process in found:
        if process.port is not None and process.port in taken:
            raise SettingsError(
                f"{taken[process.port]} and {process.setting} are both {process.port}; they must differ"
            )
        if process.port is not None:
            taken[process.port] = process.setting
