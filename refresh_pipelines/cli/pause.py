"""`refresh pause` and `refresh resume`: stop a source's schedule and start it again, without touching its YAML."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from refresh_pipelines.cli.common import json_option, load_settings, print_json, read_catalogue, select_sources
from refresh_pipelines.clock import utc_now
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.schedule import cron_of, next_fires
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "everything", is_flag=True, help="Every enabled source.")
@click.option("--group", help="Every enabled source of this group.")
@click.option("--reason", default="", help="Why; `refresh gaps` and the log of pauses show it.")
@json_option
def pause(names: tuple[str, ...], everything: bool, group: str | None, reason: str, as_json: bool) -> None:
    """Stop schedules until `refresh resume`; restarts, deploys and edits of the YAML do not end a pause.

    Works with the daemon up or down. What is queued or under way goes on, and `refresh run` works as always.
    """
    from refresh_pipelines.orchestration import pause as pausing  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415

    settings, specs = _chosen(names, everything, group)
    before, now = open_pauses(settings.data_dir), utc_now()
    with open_instance(settings) as instance:
        changed = pausing.pause(instance, settings, specs, now=now, reason=reason, by=_user())
        paused = pausing.paused_sources(instance, settings, specs)
    items = []
    for spec in specs:
        known = before.get(spec.source)
        since = now if spec in changed else known.paused_at if known else None
        said = _paused(spec, since, fresh=spec in changed, paused=spec.source in paused)
        items.append(_item(spec, paused=spec.source in paused, changed=spec in changed, said=said, since=since))
    _print(items, as_json)
    if changed and not as_json:
        click.echo("Runs that are queued or under way go on; `refresh resume` ends the pause.")


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "everything", is_flag=True, help="Every enabled source.")
@click.option("--group", help="Every enabled source of this group.")
@json_option
def resume(names: tuple[str, ...], everything: bool, group: str | None, as_json: bool) -> None:
    """Start paused schedules again.

    What was due during the pause is not requested one by one: the next tick requests what is due then, and under
    `catch_up: all` what is missing. `refresh run SOURCE` does not wait for it.
    """
    from refresh_pipelines.orchestration import pause as pausing  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415

    settings, specs = _chosen(names, everything, group)
    now = utc_now()
    with open_instance(settings) as instance:
        changed = pausing.resume(instance, settings, specs, now=now)
    items = [
        _item(spec, paused=False, changed=spec in changed, said=_resumed(spec, now, fresh=spec in changed))
        for spec in specs
    ]
    _print(items, as_json)


def _chosen(names: Sequence[str], everything: bool, group: str | None) -> tuple[Settings, list[SourceSpec]]:
    if not (names or everything or group):
        raise click.UsageError("name a source, or say --all or --group (`refresh list` shows the sources)")
    settings = load_settings()
    specs = select_sources(read_catalogue(settings), names, group)
    return settings, [spec for spec in specs if names or spec.enabled]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user without a name


def _paused(spec: SourceSpec, since: datetime | None, *, fresh: bool, paused: bool) -> str:
    if fresh:
        return "paused"
    if paused:
        return f"was already paused{f' since {since:%Y-%m-%d %H:%M} UTC' if since else ''}"
    return "has no schedule to pause" if spec.enabled else "is disabled in its YAML, so nothing is to be paused"


def _resumed(spec: SourceSpec, now: datetime, *, fresh: bool) -> str:
    if not fresh:
        return "was not paused"
    if spec.schedule is None or spec.schedule.frequency == "on_event":
        return "resumed"
    [following] = next_fires(cron_of(spec.schedule, spec.source), spec.schedule.timezone, now, 1)
    return f"resumed; next run {following:%Y-%m-%d %H:%M} UTC"


def _item(spec: SourceSpec, *, paused: bool, changed: bool, said: str, since: datetime | None = None) -> dict[str, Any]:
    at = since.isoformat(timespec="seconds") if since else None
    named = {"source": spec.source, "group": spec.group}
    return {**named, "paused": paused, "changed": changed, "paused_since": at, "message": f"{spec.name} {said}"}


def _print(items: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(items, ok=True)
        return
    for item in items:
        click.echo(item["message"])
