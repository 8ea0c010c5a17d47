"""The catalogue watcher as a process: `python -m refresh_pipelines.cli.watch [PORT]`, started by `make up`.

PORT is where the Dagster UI listens (REFRESH_UI_PORT, 3000). Its webserver passes the reload on to the code server
that daemon and webserver share; the daemon sees within a second that this has been replaced.
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
from refresh_pipelines.watch import NotReloaded, Watcher

# As in workspace.yaml.
LOCATION_NAME = "refresh_pipelines"
_RELOAD = """mutation ($name: String!) {reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry {locationOrLoadError {__typename ... on PythonError {message}}}
    ... on ReloadNotSupported {message}
    ... on RepositoryLocationNotFound {message}
    ... on UnauthorizedError {message}
    ... on PythonError {message}}}"""
# Loading a thousand sources on a busy machine.
_PATIENCE = 180.0


class Webserver:
    """The webserver's GraphQL on this machine."""

    def __init__(self, port: int) -> None:
        self._address = f"http://{HOST}:{port}/graphql"
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between this machine and itself

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
def watch(port: int) -> None:
    """Watch the catalogue and reload the Dagster UI on PORT when it changes, until interrupted."""
    try:
        log.configure(Settings.load())
        watcher = Watcher(Settings.load, Webserver(port).reload, click.echo)
        while True:
            time.sleep(watcher.step())
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    watch()
