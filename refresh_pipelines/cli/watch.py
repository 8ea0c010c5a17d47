"""The catalogue watcher as a process: `python -m refresh_pipelines.cli.watch [PORT [HOST]]`.

It is started by `make up` and `refresh start`. PORT and HOST are where the Dagster UI listens (3000, this machine). Its
webserver passes the reload on to the code server that daemon and webserver share; the daemon sees within a second that
this has been replaced.
"""

from __future__ import annotations

import time
from typing import Any

import click
import requests

from refresh_pipelines import log
from refresh_pipelines.cli.ports import HOST
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.watch import Healer, NotReloaded, Watcher

# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
_RELOAD = """mutation ($name: String!) {reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {message}}}
    ... on ReloadNotSupported {message}
    ... on RepositoryLocationNotFound {message}
    ... on UnauthorizedError {message}
    ... on PythonError {message}}}"""
_LOADED = """query ($name: String!) {workspaceLocationEntryOrError(name: $name) {
    ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {message}}}}}"""
# Loading a thousand sources on a busy machine.
_PATIENCE = 180.0


class Webserver:
    """The webserver's GraphQL, on this machine or in the container beside this one."""

    def __init__(self, port: int, host: str = HOST) -> None:
        self._address = f"http://{host}:{port}/graphql"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between

    def reload(self) -> NotReloaded | None:
        """Have the definitions loaded anew; return None once the webserver serves them."""
        body = {"query": _RELOAD, "variables": {"name": LOCATION_NAME}}
        try:
            answer = self._session.post(self._address, json=body, timeout=_PATIENCE)
            answer.raise_for_status()
            return _verdict(answer.json())
        except (requests.RequestException, ValueError) as error:
            kind = type(error).__name__
            return NotReloaded(f"the Dagster UI does not answer on {self._address} ({kind})", again=True)

    def broken(self) -> str:
        """Return why the definitions are not served, "" if they are, or if the webserver does not say."""
        body = {"query": _LOADED, "variables": {"name": LOCATION_NAME}}
        try:
            answer = self._session.post(self._address, json=body, timeout=_PATIENCE)
            entry = (answer.json().get("data") or {}).get("workspaceLocationEntryOrError") or {}
        except (requests.RequestException, ValueError):
            return ""
        loaded = entry.get("locationOrLoadError") or {}
        said = str(loaded.get("message") or "it gave no reason") if loaded.get("__typename") == "PythonError" else ""
        return redact(" ".join(said.split()))[:300]


def _verdict(answer: dict[str, Any]) -> NotReloaded | None:
    result = (answer.get("data") or {}).get("reloadRepositoryLocation") or {}
    kind = result.get("__typename")
    loaded = result.get("locationOrLoadError") or {}
    if kind == "WorkspaceLocationEntry" and loaded.get("__typename") != "PythonError":
        return None
    message = str(loaded.get("message") or result.get("message") or answer.get("errors") or "it gave no reason")
    # A location that is not known is still being loaded for the first time.
    return NotReloaded(f"Dagster says: {redact(message.strip())}", again=kind == "RepositoryLocationNotFound")


@click.command()
@click.argument("port", type=int, default=3000, envvar="REFRESH_UI_PORT")
@click.argument("host", default=HOST, envvar="REFRESH_UI_HOST")
def watch(port: int, host: str) -> None:
    """Watch the catalogue and reload the Dagster UI at HOST and PORT when it changes, until interrupted.

    It is also reloaded where it could not load the definitions.
    """
    try:
        log.configure(Settings.load())
        server = Webserver(port, host)
        watcher = Watcher(Settings.load, server.reload, click.echo)
        healer = Healer(server.broken, server.reload, click.echo)
        while True:
            time.sleep(watcher.step())
            healer.step(time.monotonic())
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    watch()
