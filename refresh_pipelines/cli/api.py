"""`refresh api`: the API and the status page, in the foreground."""

from __future__ import annotations

import click

from refresh_pipelines.cli.common import load_settings
from refresh_pipelines.cli.ports import API, port_in_use, taken
from refresh_pipelines.settings import SettingsError


@click.command()
@click.option("--host", help="The address to listen at; default REFRESH_API_BIND, which is 127.0.0.1 unless set.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: REFRESH_API_PORT, 8087.")
def api(host: str | None, port: int | None) -> None:
    """Serve the API, /metrics and the status page until Ctrl-C.

    It reads the history of Dagster and the catalogue, never the warehouse. At any address but one of
    this machine's own it starts only with REFRESH_API_TOKEN set. Answers are described at /openapi.json.
    """
    from refresh_pipelines.service.api import serve  # noqa: PLC0415 - a second's import

    settings = load_settings()
    host, port = host or settings.api_bind, port or settings.api_port
    if taken(port):
        raise click.ClickException(str(port_in_use(port, API, "refresh api")))
    try:
        serve(settings, host, port, click.echo)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
