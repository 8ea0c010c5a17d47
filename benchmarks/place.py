"""A service of made-up sources in a folder of its own, whose processes are started one by one or all at once.

The processes are those of `refresh start`, and runs are asked for as the UI's button does, over GraphQL. `prefork` is
the instance as it is shipped with REFRESH_LAUNCHER set so, `default` one without a word about a launcher.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

from benchmarks.harness import ROOT, BenchError, Sample, clean, weighed
from refresh_pipelines.service.processes import LOCATION_NAME, code_socket
from refresh_pipelines.settings import Settings

# Loading a thousand sources on a busy machine.
PATIENCE = 300.0
GROUP = "bench"
PREFORK, DEFAULT = "prefork", "default"
_LAUNCH = """
mutation ($params: ExecutionParams!) {launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
_CHECKS = """
query ($keys: [AssetKeyInput!]!) {assetNodes(assetKeys: $keys) {
  assetChecksOrError {... on AssetChecks {checks {name}}}}}"""
_LOADED = """
{workspaceOrError {__typename ... on PythonError {message} ... on Workspace {locationEntries {
  locationOrLoadError {__typename ... on PythonError {message}}}}}}"""


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Place:
    """A catalogue with its data folder, and the settings that lead there; `more` are further settings."""

    def __init__(self, folder: Path, base: str, sources: Mapping[str, str], launcher: str, **more: str) -> None:
        self.folder, self.names, self.port = folder, tuple(sources), free_port()
        catalogue = folder / "catalog" / GROUP
        catalogue.mkdir(parents=True)
        for name, text in sources.items():
            (catalogue / f"{name}.yaml").write_text(text)
        self.environ = {
            "REFRESH_CATALOG": str(folder / "catalog"),
            "REFRESH_DATA_DIR": str(folder / "data"),
            "REFRESH_UPSTREAM": base,
            "REFRESH_UI_PORT": str(self.port),
            "REFRESH_API_PORT": str(free_port()),
            "REFRESH_LAUNCHER": launcher,
            "REFRESH_STOP_TIMEOUT": "20s",
            **more,
        }
        if launcher == DEFAULT:
            self.environ["DAGSTER_HOME"] = str(_plain_home(folder))
        self.settings = Settings.load(self.environ, root=ROOT)

    def refresh(self, *words: str) -> Sample:
        """Run a command of ours to its end; return what it took. Raises BenchError when it fails."""
        return weighed([Path(sys.executable).parent / "refresh", *words], self.environ)[1]

    @contextmanager
    def process(self, *words: str) -> Iterator[psutil.Process]:
        """Have a process of the service running: `python -m …`, away from ours; it and its children are ended after."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=ROOT, env=clean(self.environ), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield psutil.Process(started.pid)
        finally:
            family = _family(started.pid)
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
            for one in psutil.wait_procs(family, timeout=10)[1]:
                one.kill()

    def named(self, name: str) -> Any:
        """Have a process of the service running by its name; see `process`."""
        return self.process("refresh_pipelines.service.launch", name)

    def code(self, module: str) -> Any:
        """Have a code server running with another module's definitions; see `process`."""
        words = (
            "refresh_pipelines.service.code_server",
            "code-server",
            "start",
            "--socket",
            str(code_socket(self.settings)),
        )
        return self.process(*words, "-m", module, "--location-name", LOCATION_NAME)

    def ask(self, query: str, **variables: object) -> Any:
        """Ask the UI's GraphQL. Raises BenchError."""
        url = f"http://127.0.0.1:{self.port}/graphql"
        answer = requests.post(url, json={"query": query, "variables": variables}, timeout=120).json()
        if "errors" in answer:
            raise BenchError(f"GraphQL: {str(answer['errors'])[:200]}")
        return answer["data"]

    def wait_loaded(self) -> None:
        """Return once the UI has the sources. Raises BenchError when it does not in time."""

        def loaded() -> bool:
            try:
                found = self.ask(_LOADED)["workspaceOrError"]
            except requests.RequestException:
                return False
            entries = [entry["locationOrLoadError"] for entry in found.get("locationEntries", [found])]
            for entry in filter(None, entries):
                if entry["__typename"] == "PythonError":
                    raise BenchError(f"the sources cannot be loaded: {entry['message'][:200]}")
            return bool(entries) and all(entries)

        wait(loaded, "the sources to be loaded", self.folder / "log")

    def queue(self, names: Sequence[str]) -> list[str]:
        """Ask for a run of each source; return their ids. Raises BenchError when one is refused."""
        out = []
        for name in names:
            key = {"path": [GROUP, name]}
            (node,) = self.ask(_CHECKS, keys=[key])["assetNodes"]
            # As a tick asks for it: with the checks that a refresh itself decides.
            checks = {check["name"] for check in node["assetChecksOrError"]["checks"]} & {"plausible", "complete"}
            selector = {
                "repositoryLocationName": LOCATION_NAME, "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB", "assetSelection": [key],
                "assetCheckSelection": [{"name": check, "assetKey": key} for check in sorted(checks)],
            }  # fmt: skip
            found = self.ask(_LAUNCH, params={"selector": selector, "mode": "default"})["launchRun"]
            if found["__typename"] != "LaunchRunSuccess":
                raise BenchError(f"a run of {name} was refused: {str(found)[:200]}")
            out.append(found["run"]["runId"])
        return out


def wait(until: Callable[[], object], what: str, log: Path, patience: float = PATIENCE) -> None:
    """Return once it is so. Raises BenchError when it is not in time."""
    end = time.monotonic() + patience
    while not until():
        if time.monotonic() > end:
            last = log.read_text(errors="replace").splitlines()[-2:] if log.exists() else []
            raise BenchError(f"waited {patience:.0f} s for {what}; {' / '.join(last)[:200]}")
        time.sleep(0.25)


@contextmanager
def dagster_home(place: Place) -> Iterator[Any]:
    """Open the history of a place in this process, and leave the process where and as it was."""
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import

    before, here = os.environ.pop("DAGSTER_HOME", None), Path.cwd()
    try:
        with open_instance(place.settings) as instance:
            yield instance
    finally:
        os.chdir(here)
        os.environ.pop("DAGSTER_HOME", None)
        if before is not None:
            os.environ["DAGSTER_HOME"] = before


def _plain_home(folder: Path) -> Path:
    """Make an instance like ours, below the folder, in which nothing is said of a launcher: it is Dagster's own."""
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    config.pop("run_launcher", None)
    home = folder / "home"
    config["storage"] = {"sqlite": {"base_dir": str(home / "dagster")}}
    config["compute_logs"]["config"]["base_dir"] = str(home / "logs")
    config["local_artifact_storage"]["config"]["base_dir"] = str(home / "artifacts")
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return home


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
