"""`refresh start`, `stop` and `restart`: the service in the background, without systemd and as an ordinary user."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import psutil

from refresh_pipelines.cli.common import load_settings
from refresh_pipelines.cli.ports import port_in_use, taken
from refresh_pipelines.cli.processes import print_processes
from refresh_pipelines.cli.upstream import is_served
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.service import supervised
from refresh_pipelines.service.daemons import daemons_at
from refresh_pipelines.service.launch import make_ready
from refresh_pipelines.service.logs import last_lines, logs_of
from refresh_pipelines.service.processes import SANDBOX, WEBSERVER, processes
from refresh_pipelines.service.stopping import Stopped, stop_orphans
from refresh_pipelines.service.stopping import stop as stop_service
from refresh_pipelines.settings import Settings, SettingsError

# Until the UI answers; on a machine with two slow cores it takes half a minute.
_PATIENCE = 180.0


@click.command()
def start() -> None:
    """Start UI, daemon and code server in the background; they outlive the terminal and are started again if they die.

    One instance only for each data folder. `refresh status` shows the processes, `refresh logs` what they print,
    `refresh stop` stops them. Settings and ports are those of `make up`.
    """
    _start(_usable())


@click.command()
@click.option("--now", is_flag=True, help="Give runs no time: cancel them.")
def stop(now: bool) -> None:
    """Stop what `refresh start` has started, and let runs end before.

    No new run begins. Runs under way have REFRESH_STOP_TIMEOUT (five minutes); then they are cancelled, which ends
    their refreshes as failed, class interrupted, with nothing half loaded. Queued runs wait for the next start.
    Ctrl-C while it waits undoes the stop.
    """
    _stop(_usable(), now)


@click.command()
@click.option("--now", is_flag=True, help="Give runs no time: cancel them.")
def restart(now: bool) -> None:
    """Stop as `refresh stop` does, and start again with the settings as they are now."""
    settings = _usable()
    _stop(settings, now)
    _start(settings)


def _usable() -> Settings:
    """Return the settings; wrong ports among them are a usage error."""
    settings = load_settings()
    try:
        processes(settings)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    return settings


def _start(settings: Settings) -> None:
    found = supervised.running(settings)
    if found:
        raise click.ClickException(_already(settings, found))
    left = supervised.orphans(settings)
    if left:
        raise click.ClickException(
            f"Nothing was started: there is {_left(left)}. `refresh restart` ends that and starts."
        )
    _require_ports(settings)
    make_ready(settings)
    daemons = daemons_at(Path(os.environ["DAGSTER_HOME"]))
    if daemons:
        raise click.ClickException(
            f"Nothing was started: a daemon already looks after {settings.data_dir} "
            f"(PID {daemons[0].pid}: {daemons[0].command}). Stop it (`make up`?): two would do everything twice."
        )
    begun = supervised.begin(settings)
    problem = _wait(settings, begun)
    now = supervised.running(settings)
    if begun.poll() is not None:
        why = _already(settings, now) if now else _last_words(settings, "supervisor")
        raise click.ClickException(f"Nothing was started: {why}")
    print_processes(supervised.states(settings))
    if problem:
        raise click.ClickException(f"{problem}\nIt is tried again; `refresh logs` shows more, `refresh stop` ends it.")
    port = next(process.port for process in processes(settings) if process.name == WEBSERVER)
    click.echo(f"\nDagster UI: http://127.0.0.1:{port}. `refresh logs -f` follows, `refresh stop` stops.")


def _require_ports(settings: Settings) -> None:
    for process in processes(settings):
        if process.port is None or not taken(process.port):
            continue
        if process.name == SANDBOX and is_served(settings):
            raise click.ClickException(
                f"Nothing was started: a sandbox is served on port {process.port} already, by `make up` or "
                "`refresh sandbox`. Stop it: the service brings its own."
            )
        raise click.ClickException(
            f"Nothing was started: {port_in_use(process.port, process.setting, 'refresh start')}"
        )


def _wait(settings: Settings, begun: subprocess.Popen[bytes]) -> str:
    """Wait until everything runs and answers; return what does not, "" for nothing."""
    until = time.monotonic() + _PATIENCE
    while begun.poll() is None:
        try:
            bad = [state for state in supervised.states(settings) if not state.up]
        except RefreshError:
            bad = None  # it does not listen yet
        silent = [p for p in processes(settings) if p.port is not None and not taken(p.port)]
        if bad == [] and not silent:
            return ""
        failed = [state.name for state in bad or () if state.state in ("backoff", "fatal")]
        if failed or time.monotonic() > until:
            names = failed or [process.name for process in silent] or ["supervisor"]
            return _silence(settings, names[0])
        time.sleep(0.3)
    return ""


def _silence(settings: Settings, name: str) -> str:
    return f"{name} does not come up:\n{_last_words(settings, name)}"


def _last_words(settings: Settings, name: str) -> str:
    return "\n".join(last_lines(logs_of(settings)[name], 10)) or "it has printed nothing"


def _already(settings: Settings, found: supervised.Running) -> str:
    ports = ", ".join(f"{name} on port {port}" for name, port in found.ports.items())
    return (
        f"the service of {settings.data_dir} runs already: PID {found.pid} since {found.since}"
        f"{f' ({ports})' if ports else ''}. `refresh status` shows it, `refresh stop` stops it."
    )


def _stop(settings: Settings, now: bool) -> None:
    found = supervised.running(settings)
    left = supervised.orphans(settings) if found is None else []
    if found is None and not left:
        supervised.forget(settings)
        click.echo(f"Nothing runs for {settings.data_dir}.")
        return
    click.echo(f"Stopping ({f'PID {found.pid}' if found else _left(left)}): no new runs.")
    try:
        if found:
            done = stop_service(settings, found, click.echo, now=now)
        else:
            done = stop_orphans(settings, left, click.echo, now=now)
    except KeyboardInterrupt:
        click.echo("Not stopped: the daemon runs again, and runs go on.")
        sys.exit(130)
    _print_stopped(done)


def _left(left: Sequence[psutil.Process]) -> str:
    return f"what a killed supervisor has left, PID {', '.join(str(process.pid) for process in left)}"


def _print_stopped(done: Stopped) -> None:
    for run_id in done.cancelled:
        click.echo(f"cancelled: run {run_id[:8]}, its refresh is failed, class interrupted")
    if done.killed:
        click.echo(f"killed, as they did not end: PID {', '.join(map(str, done.killed))}")
    click.echo("Stopped.")
