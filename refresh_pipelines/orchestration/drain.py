"""The runs that a code server has started: which go on, and how they are ended when nobody waits any longer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from refresh_pipelines.orchestration.internals import cancel_run
from refresh_pipelines.orchestration.tags import BATCH, SOURCE

# By which Dagster's default launcher remembers the server that it asked to start a run.
_SERVER = ".dagster/grpc_info"
_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def runs_of(instance: dg.DagsterInstance, socket: Path) -> list[dg.DagsterRun]:
    """Return the runs under way that the code server at `socket` has started, oldest first.

    What a person has started in a terminal is none of them, and goes on.
    """
    found = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    return [run for run in reversed(found) if _server(run) == str(socket)]


def names_of(runs: Sequence[dg.DagsterRun]) -> str:
    """Return the runs in words: their sources and the beginnings of their numbers."""
    whose = [run.tags.get(SOURCE) or run.tags.get(BATCH, "several sources") for run in runs]
    return ", ".join(f"{who} ({run.run_id[:8]})" for who, run in zip(whose, runs, strict=True))


def cancel_runs(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], why: str) -> None:
    """Ask runs to stop. Each ends its refresh as `failed`, class `interrupted`, with nothing half loaded."""
    for run in runs:
        cancel_run(instance, run.run_id, why)


def _server(run: dg.DagsterRun) -> str | None:
    said = json.loads(run.tags.get(_SERVER) or "{}")
    socket = said.get("socket")
    return str(socket) if socket else None
