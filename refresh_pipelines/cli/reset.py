"""`refresh reset`: close the breaker of a source by hand, so that its schedule asks again."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from refresh_pipelines import log
from refresh_pipelines.breaker import State
from refresh_pipelines.cli.common import json_option, load_settings, print_json, read_catalogue, select_sources
from refresh_pipelines.clock import utc_now
from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.resets import log_resets
from refresh_pipelines.spec import SourceSpec


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@json_option
def reset(names: tuple[str, ...], as_json: bool) -> None:
    """Close the breaker of sources: their failures up to now no longer keep schedules from asking.

    A source that still fails opens it again after as many failures as `breaker.failures` says. Nothing is
    requested by this: the next tick does, or `refresh run SOURCE` now, which asks whatever the breaker says.
    """
    from refresh_pipelines.orchestration.breakers import Breakers  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415

    settings = load_settings()
    catalogue = read_catalogue(settings)
    specs, now = select_sources(catalogue, names), utc_now()
    with open_instance(settings) as instance:
        before = Breakers(catalogue.sources.values(), settings).states(instance, now)
    failing = [spec for spec in specs if spec.source in before and before[spec.source].failures]
    if failing:
        log_resets(settings.data_dir, [spec.source for spec in failing], now, _user())
    for spec in failing:
        many = before[spec.source].failures
        log.event("breaker.reset", source=spec.source, group=spec.group, failures=many, user=_user())
    items = [_item(spec, before, now) for spec in specs]
    if as_json:
        print_json(items, ok=True)
        return
    for item in items:
        click.echo(item["message"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user without a name


def _item(spec: SourceSpec, before: Mapping[str, State], now: datetime) -> dict[str, Any]:
    state = before.get(spec.source)
    changed = bool(state and state.failures)
    return {
        "source": spec.source,
        "group": spec.group,
        "breaker_before": state.phase if state else None,
        "failures_before": state.failures if state else None,
        "reset": changed,
        "message": f"{spec.name}: {_said(spec, state, now)}",
    }


def _said(spec: SourceSpec, state: State | None, now: datetime) -> str:
    if state is None:
        return "a derived source has no breaker, because it asks no upstream"
    if not state.failures:
        return "its breaker is closed, and no failure was counted"
    many = state.failures > 1
    count = f"{state.failures} failure{'s' if many else ''} in a row"
    if not state.holds:
        return f"its breaker was closed; {count} no longer count{'' if many else 's'}"
    rhythm = rhythm_of(spec)
    following = f"the next tick is {rhythm.first_from(now):%Y-%m-%d %H:%M} UTC; " if rhythm else ""
    return f"closed after {count}; {following}`refresh run {spec.source}` asks now"
