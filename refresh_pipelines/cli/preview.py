"""`refresh preview`: what a refresh would do to the table, without doing it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table, read_files, select_sources
from refresh_pipelines.cli.keys import Wanted, nothing_due, runs_wanted
from refresh_pipelines.cli.upstream import sandbox_if_needed
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.effects import Effects
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.lineage import required_of
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.preview import Preview, preview
from refresh_pipelines.rate import host_rates
from refresh_pipelines.refresh import Tools
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse
from refresh_pipelines.window import window_of

_COUNTS = ("fetched", "added", "updated", "unchanged", "deleted", "rejected", "duplicates", "filtered")
_PAYLOAD = click.Path(exists=True, dir_okay=False, path_type=Path)
_NOTHING = Effects().item()


@click.command("preview")
@click.argument("source")
@click.option("--partition", help="Default: the newest that is due.")
@click.option("--file", type=_PAYLOAD, help="A payload to read instead of asking for one.")
@click.option("--rows", "examples", default=5, show_default=True, type=click.IntRange(0, 1000), help="Examples.")
@json_option
def preview_source(source: str, partition: str | None, file: Path | None, examples: int, as_json: bool) -> None:
    """Show what a refresh would do to the table, and do nothing.

    Asks the upstream as a refresh would, whatever breaker and pause say, reads and checks the answer, and
    merges it in a transaction that is rolled back. No run, no load state, no alert, nothing in the archive or in
    quarantine. Other refreshes of the table wait for the time of the merge.

    Exit code 1: it would fail, or wait in quarantine.
    """
    settings = load_settings()
    catalogue = read_files(settings)
    spec = select_sources(catalogue, [source])[0]
    if file:
        _refuse_file(spec)
    key = _key(spec, partition)
    variable = None if file else missing_key(spec, settings)
    if variable:
        message = f"set {variable} in the environment or in .env"
        done = Preview(Outcome(spec.source, spec.group, key, "blocked", message=message), None)
    else:
        with sandbox_if_needed(settings) as settings:
            done = preview(spec, window_of(spec, key), _tools(spec, settings, catalogue), examples=examples, file=file)
    ok = done.outcome.outcome in GOOD_EXIT
    if as_json:
        print_json([_item(done)], ok)
    else:
        _print(spec, done)
    sys.exit(0 if ok else 1)


def _tools(spec: SourceSpec, settings: Settings, catalogue: Catalogue) -> Tools:
    sources = catalogue.sources
    tables = frozenset(required.raw_table for required in required_of(spec, sources))
    tools = Tools(settings, open_warehouse(settings), Fetcher(settings), tables=tables)
    tools.fetcher.pace.join(host_rates(sources.values()), lambda text: click.echo(text, err=True))
    return tools


def _refuse_file(spec: SourceSpec) -> None:
    request = spec.request
    several = (("derive", spec.derived), ("drop", request.drop), ("each", request.each), ("paging", request.paging))
    what = next((name for name, there in several if there), None)
    if what:
        raise click.UsageError(f"--file is for a source that is one request, and {spec.name} has {what}")


def _key(spec: SourceSpec, partition: str | None) -> str | None:
    """Return the partition that is meant, None for a source without any."""
    if spec.request.drop:
        hint = f"`refresh parse {spec.source} FILE` reads one and loads nothing"
        raise click.UsageError(f"{spec.name} takes files: {hint}")
    try:
        wanted = Wanted((partition,) if partition else ())
        keys = [key for run in runs_wanted(spec, wanted, datetime.now(timezone.utc)) for key in run]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if spec.partitions is None:
        return None
    if not keys:
        raise click.UsageError(nothing_due(spec))
    if len(keys) > 1:
        click.echo(f"{len(keys)} partitions are due; this is {keys[-1]}, --partition shows another", err=True)
    return keys[-1]


def _item(done: Preview) -> dict[str, Any]:
    outcome = done.outcome.item()
    for name in ("run_id", "started_at", "trigger"):
        outcome.pop(name)
    return {**outcome, **(done.effects.item() if done.effects else _NOTHING), "notes": done.outcome.notes}


def _print(spec: SourceSpec, done: Preview) -> None:
    outcome, effects = done.outcome, done.effects
    where = f"{spec.name}[{outcome.partition}]" if outcome.partition else spec.name
    click.echo(f"{where} would be {outcome.outcome}" + (f": {outcome.message}" if outcome.message else ""))
    if effects is None:
        return
    click.echo()
    counts = vars(outcome.counts)
    print_table([name.upper() for name in _COUNTS], [[counts[name] for name in _COUNTS]])
    _print_columns(spec, effects)
    _print_updated(effects, outcome)
    _print_rows("New", effects.added, outcome.counts.added)
    _print_rows("Deleted", effects.deleted, outcome.counts.deleted)
    for reason in effects.reasons:
        click.echo(f"\n{reason.text}: accepted {reason.was}, came {reason.now}; passes {reason.limit}")
    for note in outcome.notes:
        click.echo(f"\n{note}")
    if outcome.success:
        click.echo("\nNothing was loaded. `refresh run` does it.")


def _print_columns(spec: SourceSpec, effects: Effects) -> None:
    if effects.new_columns:
        what = "The table would be made" if effects.creates else "New columns"
        listed = ", ".join(f"{name} {kind}" for name, kind in effects.new_columns.items())
        click.echo(f"\n{what}{f', raw.{spec.raw_table}' if effects.creates else ''}: {listed}")


def _print_updated(effects: Effects, outcome: Outcome) -> None:
    if not effects.columns:
        return
    columns = ", ".join(f"{name} in {count}" for name, count in effects.columns.items())
    click.echo(f"\nUpdated, {len(effects.updated)} of {outcome.counts.updated} ({columns}):")
    lines = [
        [" ".join(row.key.values()), name, old, new]
        for row in effects.updated
        for name, (old, new) in row.changes.items()
    ]
    if lines:
        print_table([" ".join(effects.updated[0].key), "COLUMN", "OLD", "NEW"], lines)


def _print_rows(title: str, rows: Sequence[Mapping[str, str]], number: int) -> None:
    if rows:
        click.echo(f"\n{title}, {len(rows)} of {number}:")
        print_table(list(rows[0]), [list(row.values()) for row in rows])
