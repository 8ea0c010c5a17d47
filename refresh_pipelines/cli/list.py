"""`refresh list`: what is declared, from the files alone. What happened is `refresh status`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from refresh_pipelines.catalogue import Broken, Catalogue
from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    missing_keys,
    print_blocked,
    print_json,
    print_stale,
    print_table,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Partitions, SourceSpec

_HEADERS = ("SOURCE", "GROUP", "ENABLED", "TABLE", "PARTITIONS", "SCHEDULE", "MISSING KEY")


@click.command()
@click.option("--group", help="Only the sources of this group.")
@json_option
def list_sources(group: str | None, as_json: bool) -> None:
    """List the sources: table, partitions, schedule, missing keys.

    A source with a missing key is not refreshed until the variable named there is set, in the
    environment or in .env. A source that cannot be loaded is listed as broken, and the exit code
    is then 1; `refresh check` says why. Paused is what `refresh pause` has paused, and what Dagster
    was seen to have stopped; `refresh status` asks Dagster itself.
    """
    settings = load_settings()
    catalogue = read_catalogue(settings)
    specs = select_sources(catalogue, (), group)
    paused = open_pauses(settings.data_dir)
    items = [source_item(spec, settings) for spec in specs]
    for item in items:
        stale = catalogue.stale.get(item["source"])
        item |= {"paused": item["source"] in paused, "stale_yaml": stale and stale.good_at.isoformat()}
    broken = [b for b in catalogue.broken.values() if group in (None, b.group)]
    items += [_broken_item(b) for b in broken]
    ok = not broken and not any(item["stale_yaml"] for item in items)
    if as_json:
        print_json(items, ok)
    else:
        blocked = missing_keys(specs, settings)
        grey = [number for number, item in enumerate(items) if item["source"] in blocked]
        print_table(_HEADERS, [_row(item) for item in items], grey)
        print_blocked(blocked)
        print_stale(catalogue, {spec.source for spec in specs})
        _say_more(catalogue, items)
    sys.exit(0 if ok else 1)


def source_item(spec: SourceSpec, settings: Settings) -> dict[str, Any]:
    """Return the JSON item of one source."""
    schedule = spec.schedule
    if schedule and not schedule.cron and schedule.frequency in (None, "on_event"):
        schedule = None
    return {
        "source": spec.source,
        "group": spec.group,
        "enabled": spec.enabled,
        "broken": False,
        "table": f"raw.{spec.raw_table}",
        "partitions": partition_words(spec.partitions),
        "cron": cron_of(schedule, spec.source) if schedule else None,
        "timezone": schedule.timezone if schedule else None,
        "missing_key": missing_key(spec, settings),
        "description": spec.description,
        "file": spec.file,
    }


def _broken_item(broken: Broken) -> dict[str, Any]:
    blank = dict.fromkeys(("table", "partitions", "cron", "timezone", "missing_key", "description"))
    place = {"source": broken.source, "group": broken.group, "file": str(broken.file)}
    return {**place, **blank, "enabled": False, "broken": True, "paused": False, "stale_yaml": None}


def partition_words(partitions: Partitions | None) -> str | None:
    """Return in a few words the pieces a source is refreshed in; None if it is one piece."""
    if partitions is None:
        return None
    if partitions.dynamic:
        return f"each {partitions.dynamic} that is added"
    name = partitions.dimension or ""
    keys = f"{len(partitions.static.get(name, ()))} of {name}"
    if partitions.time is None or partitions.start_at is None:
        return keys
    start = partitions.start_at
    since = f"{start:%Y-%m-%d}" if partitions.time != "hour" else f"{start:%Y-%m-%d %H:%M}"
    return f"each {partitions.time} since {since}" + (f" x {keys}" if name else "")


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    words = {"broken": item["broken"], "no": not item["enabled"], "paused": item["paused"]}
    enabled = next((word for word, holds in words.items() if holds), "yes")
    schedule = f"{item['cron']} {item['timezone']}" if item["cron"] else None
    cells = (item["source"], item["group"], enabled, item["table"], item["partitions"])
    return (*cells, schedule, item["missing_key"])


def _say_more(catalogue: Catalogue, items: list[dict[str, Any]]) -> None:
    if not items:
        click.echo("No sources. REFRESH_CATALOG names the folders that are read.")
    if catalogue.broken:
        click.echo("Some sources cannot be loaded: `refresh check` says why.")
