"""`python -m refresh_pipelines.service.health NAME` ends with 0 if a process of the service answers, else 1.

For health checks of containers, so it is asked often: it imports little and leaves no trace. It looks from the
process's own container; the daemon and the watcher listen nowhere, and only the daemon leaves a sign of life.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path

from refresh_pipelines.clock import utc_now
from refresh_pipelines.heartbeat import life_of
from refresh_pipelines.service.processes import API, CODE, DAEMON, HOST, UI_PORT, WEBSERVER, code_socket, port_of
from refresh_pipelines.settings import Settings

# Shorter than the timeout of the check, so that the reason is printed.
_PATIENCE = 8.0
# A minute more than what `refresh status` calls silent: a daemon that is busy is no dead one.
_QUIET = timedelta(minutes=3)
# grpc.health.v1.HealthCheckRequest(service="DagsterApi"), and a response that says SERVING. So short a message is no
# reason to load protobuf.
_ASKED, _SERVING = b"\n\nDagsterApi", b"\x08\x01"


def trouble(name: str, settings: Settings) -> str:
    """Return what is wrong with a process, "" for nothing. Raises ValueError for one that cannot be asked."""
    if name == CODE:
        return _grpc(code_socket(settings))
    if name == WEBSERVER:
        return _http(port_of(settings, UI_PORT, 3000), "/server_info")
    if name == API:
        return _http(settings.api_port, "/healthz")
    if name == DAEMON:
        return _sign(settings)
    raise ValueError(f"expected one of {CODE}, {WEBSERVER}, {API}, {DAEMON}; got {name!r}")


def _grpc(socket: Path) -> str:
    import grpc  # noqa: PLC0415 - the others do not need it

    with grpc.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            said = ask(_ASKED, timeout=_PATIENCE)
        except grpc.RpcError as error:
            return f"{socket} does not answer: {error.details()}"
    return "" if said == _SERVING else f"the code server does not serve: {said!r}"


def _http(port: int, path: str) -> str:
    connection = HTTPConnection(HOST, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except OSError as error:
        return f"port {port} does not answer: {error}"
    finally:
        connection.close()
    return "" if status == 200 else f"{path} answers {status}"


def _sign(settings: Settings) -> str:
    life = life_of(settings.data_dir)
    if life.at is None:
        return life.problem or "no daemon has looked yet"
    return "" if utc_now() - life.at <= _QUIET else life.sentence(utc_now())


def main() -> None:
    """Say what is wrong, if anything is; 1 then, 2 for a name that is none."""
    try:
        said = trouble(sys.argv[1] if len(sys.argv) == 2 else "", Settings.load())
    except ValueError as error:  # SettingsError is one
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    if said:
        sys.stderr.write(f"{said}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
