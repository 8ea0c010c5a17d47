"""`refresh logs`: what the processes of the service print. Needs no Dagster."""

from __future__ import annotations

import click

from refresh_pipelines.cli.common import load_settings
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.service.logs import follow, last_lines, logs_of
from refresh_pipelines.service.processes import log_folder
from refresh_pipelines.settings import SettingsError


@click.command()
@click.argument("process", required=False)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", default=20, show_default=True, type=click.IntRange(0, 100_000), help="Of each process.")
def logs(process: str | None, following: bool, lines: int) -> None:
    """Show the last lines that PROCESS has printed: code, webserver, daemon, watch, supervisor ... Without it, all.

    What each refresh did is in another log, `data/log/refresh.log`.
    """
    settings = load_settings()
    try:
        known = logs_of(settings)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    if process and process not in known:
        names = ", ".join(known)
        raise click.UsageError(f"no process is called {process!r} ({did_you_mean(process, known)}); there are {names}")
    chosen = {process: known[process]} if process else known
    coming = follow(chosen)
    for name, path in chosen.items():
        for line in last_lines(path, lines):
            click.echo(line if process else f"{name}: {line}")
    if not following:
        if not any(path.exists() for path in chosen.values()):
            click.echo(f"Nothing was printed to {log_folder(settings)} yet; `refresh start` starts the service.")
        return
    try:
        for name, line in coming:
            click.echo(line if process else f"{name}: {line}")
    except KeyboardInterrupt:
        return
