"""Commands and daemons in a copy of the repository, for the tests that need them live."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import requests

from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.dagster_bench import wait_until

ROOT = Path(__file__).resolve().parent.parent
OURS = (
    "refresh_pipelines",
    "deploy",
    "dagster.yaml",
    "workspace.yaml",
    "pyproject.toml",
    "requirements.lock",
    "Makefile",
)


def copied(folder):
    """Copy the repository into a new folder, with the interpreter of this one, and return the folder."""
    folder.mkdir()
    for name in OURS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def environment(root, **more):
    ours = ("REFRESH_", "DAGSTER_", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(root), "FRED_API_KEY": "planted5ecret", **more}


def command(root, *args, **more):
    """Run a command in the root and return what it did; its output is in the assertion if it fails."""
    env = environment(root, **more)
    return subprocess.run(args, cwd=root, env=env, capture_output=True, text=True, timeout=400, check=False)


def daemon_of(root, log, **more):
    """Start `dagster-daemon` in the root, in a session of its own, and return its process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [".venv/bin/dagster-daemon", "run", "-w", "workspace.yaml"],
            cwd=root,
            env=environment(root, **more),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def instance_of(root):
    """Return the instance of the root, made if need be, and leave this process where and as it was."""
    settings = Settings.load({"REFRESH_CATALOG": "mine", "DAGSTER_HOME": str(root)}, root=root)
    before, here = os.environ.get("DAGSTER_HOME"), Path.cwd()
    try:
        return open_instance(settings)
    finally:
        os.chdir(here)
        os.environ.pop("DAGSTER_HOME", None)
        if before is not None:
            os.environ["DAGSTER_HOME"] = before


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`deploy/up.sh` in the foreground of a process of its own, and questions to its GraphQL."""

    def __init__(self, root, sandbox, log, **more):
        self.port, self.log = free_port(), log
        env = environment(
            root,
            **{
                "REFRESH_UPSTREAM": sandbox.base,
                "REFRESH_UI_PORT": str(self.port),
                "REFRESH_API_PORT": str(free_port()),
                "REFRESH_CATALOG": "builtin:mine",
                **more,
            },
        )
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["deploy/up.sh"], cwd=root, env=env, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self):
        wait_until(self.loaded, 120, f"the location to be loaded; see {self.log}")
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Interrupt as Ctrl-C does; return the processes that are left over."""
        family = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            process.kill()
        return [process.pid for process in alive]

    def ask(self, query, **variables):
        answer = requests.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=30
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def loaded(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            found = self.ask("{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}")
        except requests.RequestException:
            return None
        return [node["location"]["name"] for node in found["repositoriesOrError"].get("nodes", [])]

    def launch(self, *path, **tags):
        """Launch a run of an asset as the UI's button does: with every check of the asset, also `fresh`."""
        found = self.ask(
            """mutation ($params: ExecutionParams!) {launchRun(executionParams: $params) {
                __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}""",
            params={
                "selector": {
                    "repositoryLocationName": "refresh_pipelines",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": list(path)}],
                    "assetCheckSelection": [
                        {"name": name, "assetKey": {"path": list(path)}} for name in self._checks(path)
                    ],
                },
                "mode": "default",
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            },
        )["launchRun"]
        return found["run"]["runId"]

    def _checks(self, path):
        query = """query ($keys: [AssetKeyInput!]!) {assetNodes(assetKeys: $keys) {
            assetChecksOrError {... on AssetChecks {checks {name}}}}}"""
        (node,) = self.ask(query, keys=[{"path": list(path)}])["assetNodes"]
        return [check["name"] for check in node["assetChecksOrError"]["checks"]]

    def again(self, run_id):
        """Re-execute a run as the UI's button does."""
        found = self.ask(
            """mutation ($params: ReexecutionParams!) {launchRunReexecution(reexecutionParams: $params) {
                __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}""",
            params={"parentRunId": run_id, "strategy": "ALL_STEPS"},
        )["launchRunReexecution"]
        return found["run"]["runId"]

    def ended(self, run_id):
        """Return a run's status and tags once it has ended."""
        query = "query ($id: ID!) {runOrError(runId: $id) {... on Run {status tags {key value}}}}"
        run = self.ask(query, id=run_id)["runOrError"]
        ended = run["status"] in ("SUCCESS", "FAILURE", "CANCELED")
        return (run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}) if ended else None

    def scheduled(self, name):
        """Return the newest run that a schedule has launched and that has ended."""
        query = """query ($tags: [ExecutionTag!]) {runsOrError(filter: {tags: $tags}, limit: 1) {
            ... on Runs {results {runId}}}}"""
        runs = self.ask(query, tags=[{"key": "dagster/schedule_name", "value": name}])["runsOrError"]["results"]
        return runs and self.ended(runs[0]["runId"])

    def materializations(self, *path):
        query = """query ($key: AssetKeyInput!) {assetOrError(assetKey: $key) {
            ... on Asset {assetMaterializations {partition runId}}}}"""
        found = self.ask(query, key={"path": list(path)})["assetOrError"]
        return [event["partition"] for event in found.get("assetMaterializations", [])]
