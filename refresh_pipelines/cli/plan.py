"""`refresh plan`: when each source fires next, and what would be done now; works with no daemon and no history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import json_option, load_settings, print_json, read_catalogue, select_sources
from refresh_pipelines.clock import utc_now
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.plan import (
    MOST_IN_A_MINUTE,
    Fire,
    Peak,
    Standing,
    fires_of,
    peaks_of,
    shift_text,
    why_no_fires,
)
from refresh_pipelines.schedule import cron_of
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec

_NO_HISTORY = Standing("nothing", "nothing has run here yet")


@dataclass(frozen=True)
class _Known:
    """What the history says: who is paused, dynamic keys, and what would be done now."""

    paused: frozenset[str]
    dynamic: Mapping[str, Sequence[str]]
    standings: Mapping[str, Standing]


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--group", help="Only the sources of this group.")
@click.option("--at", "at_text", metavar="TIME", help="Answer for this ISO time, UTC unless it names a zone.")
@click.option("--count", default=3, show_default=True, type=click.IntRange(1, 1000), help="So many fires per source.")
@json_option
def plan(names: tuple[str, ...], group: str | None, at_text: str | None, count: int, as_json: bool) -> None:
    """Show when each source fires next, local and UTC, what each fire asks for, and what would be done now.

    Marked is what a change of the clock does to a fire. "Now" is the newest due tick, as a daemon that
    looks at it this moment would decide; with --at at that time, by the history as it is.
    At the end: the minutes of the next 24 hours in which several sources fall together.
    """
    at = _instant(at_text)
    settings = load_settings()
    catalogue = read_catalogue(settings)
    specs = select_sources(catalogue, names, group)
    known = _known(specs, catalogue, settings, at)
    items = [_item(spec, settings, known, at, count) for spec in specs]
    peaks = peaks_of([spec for spec in specs if spec.source not in known.paused], at)
    if as_json:
        print_json(items, ok=True, peaks=[_peak(peak) for peak in peaks])
        return
    for item in items:
        _print(item, "at that time" if at_text else "now")
    _print_peaks(peaks)
    if not settings.schedules_enabled:
        click.echo("\nREFRESH_SCHEDULES_ENABLED is false: every tick is skipped.")
    for broken in [] if names else catalogue.broken.values():
        if group in (None, broken.group):
            click.echo(f"{broken.name} is left out, its YAML has problems: run `refresh check`.", err=True)


def _instant(text: str | None) -> datetime:
    if text is None:
        return utc_now()
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise click.UsageError(f"--at {text!r}: expected an ISO time such as 2026-10-25T00:00:00Z") from error
    at = at.replace(tzinfo=at.tzinfo or timezone.utc).astimezone(timezone.utc)
    if not 1990 <= at.year <= 2200:
        raise click.UsageError(f"--at {text!r}: expected a year from 1990 to 2200")
    return at


def _known(specs: Sequence[SourceSpec], catalogue: Catalogue, settings: Settings, at: datetime) -> _Known:
    """Ask the history, if there is one: a question creates none."""
    home = settings.environ.get("DAGSTER_HOME")
    if not (home or (settings.data_dir / "dagster").exists()):
        return _Known(frozenset(open_pauses(settings.data_dir)), {}, {})
    from refresh_pipelines.orchestration.due import standing  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415
    from refresh_pipelines.orchestration.partitions import dynamic_keys  # noqa: PLC0415
    from refresh_pipelines.orchestration.pause import paused_sources  # noqa: PLC0415
    from refresh_pipelines.orchestration.reads import Reads  # noqa: PLC0415

    with open_instance(settings) as instance:
        reads = Reads(specs, settings, sources=catalogue.sources, noting=False)
        return _Known(
            frozenset(paused_sources(instance, settings, specs)),
            {
                spec.source: dynamic_keys(instance, spec)
                for spec in specs
                if spec.partitions and spec.partitions.dynamic
            },
            {spec.source: standing(instance, spec, settings, reads, at) for spec in specs},
        )


def _item(spec: SourceSpec, settings: Settings, known: _Known, at: datetime, count: int) -> dict[str, Any]:
    paused = spec.source in known.paused
    fires = fires_of(spec, at, count, known.dynamic.get(spec.source, ()))
    schedule = spec.schedule if not why_no_fires(spec) else None
    return {
        "source": spec.source,
        "group": spec.group,
        "cron": cron_of(schedule, spec.source) if schedule else None,
        "timezone": schedule.timezone if schedule else None,
        "jitter": shift_text(spec) or None,
        "enabled": spec.enabled,
        "paused": paused,
        "blocked": missing_key(spec, settings),
        "why_no_fires": why_no_fires(spec) or None,
        "fires": [_fire(fire) for fire in fires],
        "now": _now(known.standings.get(spec.source, _NO_HISTORY), paused) if schedule else None,
    }


def _fire(fire: Fire) -> dict[str, Any]:
    return {
        "at": fire.at.isoformat(),
        "local": fire.local.isoformat(),
        "abbreviation": fire.local.tzname(),
        "mark": fire.mark or None,
        "partitions": list(fire.keys),
    }


def _now(standing: Standing, paused: bool) -> dict[str, Any]:
    tick = standing.tick.isoformat() if standing.tick else None
    if paused:
        return {"action": "skip", "reason": "paused", "tick": tick, "requests": []}
    requests = [{"partitions": list(one.keys), "trigger": one.trigger} for one in standing.requests]
    return {"action": standing.action, "reason": standing.reason or None, "tick": tick, "requests": requests}


def _peak(peak: Peak) -> dict[str, Any]:
    return {
        "at": peak.at.isoformat(),
        "count": len(peak.sources),
        "runs": peak.runs,
        "hosts": peak.hosts,
        "sources": list(peak.sources),
    }


def _print(item: Mapping[str, Any], when: str) -> None:
    name = f"{item['group']}/{item['source']}"
    if item["why_no_fires"]:
        click.echo(f"{name}: {item['why_no_fires']}")
        return
    states = {"paused": item["paused"], f"blocked: set {item['blocked']}": item["blocked"]}
    said = "".join(f" [{word}]" for word, holds in states.items() if holds)
    jitter = f", {item['jitter']}" if item["jitter"] else ""
    click.echo(f"{name}: {item['cron']} {item['timezone']}{jitter}{said}")
    for fire in item["fires"]:
        click.echo(f"  {_fire_text(fire)}")
    click.echo(f"  {when}: {_now_text(item['now'])}")


def _fire_text(fire: Mapping[str, Any]) -> str:
    local, at = datetime.fromisoformat(fire["local"]), datetime.fromisoformat(fire["at"])
    offset = f"{local:%z}"
    zone = f"{fire['abbreviation']} {offset[:3]}:{offset[3:]}" if fire["abbreviation"] != "UTC" else "UTC"
    parts = [f"{local:%a %Y-%m-%d %H:%M} {zone}", f"{at:%Y-%m-%d %H:%M} UTC", keys_text(fire["partitions"])]
    return "  ".join(filter(None, parts)) + (f"\n    {fire['mark']}" if fire["mark"] else "")


def keys_text(keys: Sequence[str]) -> str:
    """Name partitions on a line: all of a few, the first and last of many."""
    return ", ".join(keys) if len(keys) < 4 else f"{keys[0]} … {keys[-1]} ({len(keys)})"


def _now_text(now: Mapping[str, Any]) -> str:
    tick = f" at the tick of {datetime.fromisoformat(now['tick']):%Y-%m-%d %H:%M} UTC" if now["tick"] else ""
    if not now["requests"]:
        return f"{now['action']}{tick}" + (f": {now['reason']}" if now["reason"] else "")
    asked = [f"{one['trigger']} {keys_text(one['partitions'])}".rstrip() for one in now["requests"]]
    return f"{len(asked)} run{'s' if len(asked) > 1 else ''}{tick}: " + "; ".join(asked)


def _print_peaks(peaks: Sequence[Peak]) -> None:
    if not peaks:
        return
    click.echo("\nMost sources in one minute, next 24 hours:")
    for peak in peaks:
        hosts = ", ".join(f"{host} {count}" for host, count in list(peak.hosts.items())[:3])
        shared = f" in {peak.runs} run{'s' if peak.runs > 1 else ''}" if peak.runs < len(peak.sources) else ""
        click.echo(f"  {peak.at:%Y-%m-%d %H:%M} UTC  {len(peak.sources)} sources{shared}  {hosts}")
    if any(peak.runs > MOST_IN_A_MINUTE for peak in peaks):
        click.echo(
            f"More than {MOST_IN_A_MINUTE} runs in a minute are requested over several minutes. Sources that are due "
            "together share one run with\nthe same `schedule.batch: NAME` in their YAML; `jitter` spreads them instead."
        )
