"""The processes of the service for people and programs: a table and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from refresh_pipelines.cli.common import print_table
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.service import supervised
from refresh_pipelines.settings import Settings

_HEADERS = ("PROCESS", "STATE", "PID", "SINCE", "WHY")


def process_states(settings: Settings) -> tuple[list[supervised.State], str]:
    """Return the processes that `refresh start` has started, and what is wrong with all of them; nothing without it."""
    if not supervised.was_started(settings):
        return [], ""
    if supervised.running(settings) is None:
        return (
            [],
            "The service was started, and its supervisor is gone: killed, or the machine restarted. `refresh restart`.",
        )
    try:
        return supervised.states(settings), ""
    except RefreshError as error:
        return [], str(error)


def print_processes(states: Sequence[supervised.State]) -> None:
    """Print one line per process."""
    rows = [
        (one.name, one.state, one.pid, f"{one.since:%Y-%m-%d %H:%M:%S}" if one.since else None, one.why)
        for one in states
    ]
    print_table(_HEADERS, rows)


def print_service(states: Sequence[supervised.State], problem: str) -> None:
    """Print the processes above what else there is to say; nothing where none was started."""
    if states:
        print_processes(states)
    if problem:
        click.echo(problem)
    if states or problem:
        click.echo()


def process_item(state: supervised.State) -> dict[str, Any]:
    """Return a process as JSON has it."""
    return {
        "name": state.name,
        "state": state.state,
        "pid": state.pid,
        "since": state.since.isoformat() if state.since else None,
        "why": state.why,
    }
