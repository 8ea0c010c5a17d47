"""`refresh sandbox`: the bundled upstream in the foreground, as well or as badly behaved as asked for."""

from __future__ import annotations

from threading import Event
from urllib.parse import urlencode

import click

from refresh_pipelines.cli.ports import SANDBOX, port_in_use
from refresh_pipelines.redact import redact
from refresh_pipelines.sandbox import Request, Sandbox, SandboxPortInUse
from refresh_pipelines.sandbox_faults import Fault, FaultError, parse_assignment
from refresh_pipelines.sandbox_kinds import KINDS
from refresh_pipelines.sandbox_routes import Revision, SandboxError
from refresh_pipelines.settings import Settings, SettingsError

Assigned = tuple[str, Fault, int | None]


def _assigned(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[Assigned]:
    try:
        return [parse_assignment(text) for text in texts]
    except FaultError as error:
        raise click.BadParameter(str(error)) from error


def _list_faults(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    names = {name: name + kind.spelling for name, kind in KINDS.items()}
    width = max(map(len, names.values()))
    for name, kind in KINDS.items():
        default = f" (default {kind.default})" if kind.default else ""
        click.echo(f"{names[name]:{width}}  {kind.says}{default}")
    context.exit()


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Default: REFRESH_SANDBOX_PORT; 0 takes any free port.")
@click.option("--revision", type=click.Choice(["good", "revised"]), default="good", help="Which version to serve.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    callback=_assigned,
    metavar="TARGET=KIND[:ARG][*TIMES]",
    help="Misbehave for a source, a path or * (all); may be repeated.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="Print the kinds of faults and stop.",
)
@click.option("--verbose", is_flag=True, help="Print one line per request.")
def sandbox(port: int | None, revision: Revision, faults: list[Assigned], verbose: bool) -> None:
    """Serve samples in place of the real hosts, until Ctrl-C: the bundled ones and your own."""
    try:
        settings = Settings.load()
        chosen = settings.sandbox_port if port is None else port
        served = Sandbox(settings.samples, chosen, revision, on_request=_print if verbose else None)
        for assigned in faults:
            served.fault(*assigned)
        with served:
            click.echo(f"Sandbox at {served.base} ({revision}); use it with {_setting(served.base)}. Ctrl-C stops it.")
            for target, fault, times in faults:
                click.echo(f"Fault: {target}={fault.text}" + (f"*{times}" if times else ""))
            _wait()
    except FaultError as error:
        raise click.BadParameter(str(error), param_hint="'--fault'") from error
    except SandboxPortInUse as error:
        raise click.ClickException(str(port_in_use(chosen, SANDBOX, "refresh sandbox"))) from error
    except (SandboxError, SettingsError) as error:
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
    met = f" ({request.fault})" if request.fault else ""
    click.echo(f"{request.status} {request.method} {request.path}{'?' if query else ''}{query}{met}")
