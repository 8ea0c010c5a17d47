"""`refresh sandbox`: the bundled upstream in the foreground."""

from __future__ import annotations

from threading import Event
from urllib.parse import urlencode

import click

from refresh_pipelines.redact import redact
from refresh_pipelines.sandbox import Request, Sandbox, SandboxPortInUse
from refresh_pipelines.sandbox_routes import Revision, SandboxError
from refresh_pipelines.settings import SAMPLES, Settings, SettingsError


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Default: REFRESH_SANDBOX_PORT; 0 takes any free port.")
@click.option("--revision", type=click.Choice(["good", "revised"]), default="good", help="Which version to serve.")
@click.option("--verbose", is_flag=True, help="Print one line per request.")
def sandbox(port: int | None, revision: Revision, verbose: bool) -> None:
    """Serve the bundled samples in place of the real hosts, until Ctrl-C."""
    try:
        chosen = Settings.load().sandbox_port if port is None else port
        with Sandbox(SAMPLES, chosen, revision, on_request=_print if verbose else None) as served:
            click.echo(f"Sandbox at {served.base} ({revision}); use it with {_setting(served.base)}. Ctrl-C stops it.")
            _wait()
    except (SandboxPortInUse, SandboxError, SettingsError) as error:
        raise click.ClickException(str(error)) from error


def _wait() -> None:
    try:
        Event().wait()
    except KeyboardInterrupt:
        click.echo("Sandbox stopped.")


def _setting(base: str) -> str:
    port = int(base.rpartition(":")[2])
    moved = "" if port == Settings.load().sandbox_port else f" REFRESH_SANDBOX_PORT={port}"
    return f"REFRESH_UPSTREAM=sandbox{moved}"


def _print(request: Request) -> None:
    # A person's real key may be sent here, and this line may end in a log.
    query = redact(urlencode(request.query))
    click.echo(f"{request.status} {request.method} {request.path}{'?' if query else ''}{query}")
