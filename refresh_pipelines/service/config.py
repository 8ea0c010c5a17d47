"""Supervisor's configuration, made from the one list of processes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from refresh_pipelines.service.processes import (
    CODE,
    SANDBOX,
    Process,
    launch_words,
    log_folder,
    processes,
    run_folder,
    supervisor_socket,
)
from refresh_pipelines.settings import Settings

# A process that ends at once is started again after 1, 2, 3 … seconds: after an hour every minute and a half, after a
# day every seven minutes. It is never given up: supervisor would leave it down until somebody looks.
_TRIES = 1_000_000
_LOG_SIZE, _LOGS_KEPT = "10MB", 5


def config_text(settings: Settings) -> str:
    """Return supervisor's configuration. It holds no setting and no secret: the processes read these themselves."""
    folder, logs = run_folder(settings), log_folder(settings)
    general = {
        "nodaemon": "true",
        "silent": "true",
        "strip_ansi": "true",
        "directory": settings.root,
        "logfile": own_log(settings),
        "logfile_maxbytes": _LOG_SIZE,
        "logfile_backups": _LOGS_KEPT,
        "pidfile": folder / "supervisord.pid",
        "childlogdir": logs,
        "nocleanup": "true",
        # Said in so many words, or it warns at each start.
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }
    server = {"file": supervisor_socket(settings), "chmod": "0700"}
    factory = {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}
    parts = [
        _section("supervisord", general),
        _section("unix_http_server", server),
        _section("rpcinterface:supervisor", factory),
    ]
    for number, process in enumerate(processes(settings), start=1):
        parts.append(_section(f"program:{process.name}", _program(process, number, settings)))
    return "\n".join(parts)


def _program(process: Process, number: int, settings: Settings) -> dict[str, object]:
    # The code server waits for its runs when it is asked to stop; after `refresh stop` there are none left.
    patience = int(settings.stop_timeout.total_seconds()) if process.name == CODE else 20
    return {
        "command": shlex.join(launch_words(process.name)),
        # What others ask is started first and stopped last.
        "priority": 0 if process.name == SANDBOX else number,
        "autorestart": "true",
        "startsecs": 5,
        "startretries": _TRIES,
        "stopwaitsecs": patience + 10,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": log_folder(settings) / f"{process.name}.log",
        "stdout_logfile_maxbytes": _LOG_SIZE,
        "stdout_logfile_backups": _LOGS_KEPT,
    }


def _section(name: str, values: Mapping[str, object]) -> str:
    lines = [f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def own_log(settings: Settings) -> Path:
    """Return where supervisor itself writes."""
    return log_folder(settings) / "supervisor.log"
