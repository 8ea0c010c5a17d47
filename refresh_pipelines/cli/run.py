"""`refresh run`: refresh now, through Dagster, and print one row per source and partition."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timezone

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.cli.due import Shown, run_due
from refresh_pipelines.cli.keys import Wanted, nothing_due, runs_wanted
from refresh_pipelines.cli.outcomes import print_outcomes, progress, send_notices
from refresh_pipelines.cli.upstream import sandbox_if_needed
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.lineage import in_order
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "everything", is_flag=True, help="Every enabled source.")
@click.option("--group", help="Every enabled source of this group.")
@click.option("--due", is_flag=True, help="What has no success for its newest due tick; all sources if none is named.")
@click.option("--partition", "partitions", multiple=True, help="This partition; may be given several times.")
@click.option("--from", "first", help="A range of partitions: the first key.")
@click.option("--to", "last", help="A range of partitions: the last key; default the newest.")
@click.option("--missing", is_flag=True, help="Every partition (of the range) that was never loaded, oldest first.")
@click.option("--force", is_flag=True, help="Ask and read anew even if nothing seems to have changed.")
@click.option("--include-disabled", is_flag=True, help="Also sources with `enabled: false`.")
@click.option("--verbose", is_flag=True, help="Show Dagster's log of each run.")
@json_option
def run(
    names: tuple[str, ...],
    everything: bool,
    group: str | None,
    due: bool,
    partitions: tuple[str, ...],
    first: str | None,
    last: str | None,
    missing: bool,
    force: bool,
    include_disabled: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Refresh sources now and say what each refresh did.

    Without a partition a source's due ones are refreshed: the newest period and its look-back, times
    all static keys. Each source is one Dagster run, with history, logs and tags as any other;
    partitions that do not lie together are runs of their own.

    With two dimensions a key is 2026-01-01|NAME; 2026-01-01 alone means all names.

    --due is for system cron, in place of Dagster's daemon or beside it: a tick that had its success is
    left alone, and a late or missed one is treated as `misfire_grace` and `catch_up` say.

    Exit code 0: every refresh was good, had nothing to load yet, or waits for a missing key.
    """
    if not (names or everything or group or due):
        raise click.UsageError("name a source, or say --all or --group (`refresh list` shows the sources)")
    if partitions and (first or last or missing):
        raise click.UsageError("--partition does not go with --from, --to or --missing")
    if due and (partitions or first or last or missing):
        raise click.UsageError("--due does not go with --partition, --from, --to or --missing")
    wanted = Wanted(partitions, first, last, missing)
    settings = load_settings()
    catalogue = read_catalogue(settings)
    specs = _chosen(catalogue, names, group, include_disabled)
    with sandbox_if_needed(settings) as settings:
        for spec in specs:
            if not due and not wanted.needs_history(spec):
                _runs(spec, wanted)  # a wrong key is told before anything starts
        shown = Shown(force=force, verbose=verbose, quiet=as_json)
        made = run_due(specs, catalogue, settings, shown) if due else _run_all(specs, wanted, settings, shown)
        outcomes, trouble = _gathered(made)
    send_notices(outcomes, settings)
    broken = [] if names else [b for b in catalogue.broken.values() if group in (None, b.group)]
    ok = not broken and not trouble and all(outcome.outcome in GOOD_EXIT for outcome in outcomes)
    if as_json:
        print_json([outcome.item() for outcome in outcomes], ok)
    elif outcomes or not due:
        print_outcomes(outcomes, settings)
    else:
        click.echo("nothing is due")
    for b in broken:
        click.echo(f"{b.name} was not refreshed, its YAML has problems: run `refresh check`.", err=True)
    if trouble:
        raise trouble
    sys.exit(0 if ok else 1)


def _gathered(made: Iterator[Outcome]) -> tuple[list[Outcome], RefreshError | None]:
    """Return the outcomes, and what kept the rest from being made: a person should see those that were.

    Raises:
        RefreshError: it came before there was any.
    """
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(made)
    except RefreshError as error:
        if not outcomes:
            raise
        return outcomes, error
    return outcomes, None


def _chosen(catalogue: Catalogue, names: tuple[str, ...], group: str | None, disabled: bool) -> list[SourceSpec]:
    specs = select_sources(catalogue, names, group)
    off = [spec.name for spec in specs if not spec.enabled and not disabled]
    if off and names:
        raise click.UsageError(f"{', '.join(off)} is disabled in its YAML; add --include-disabled to run it anyway")
    return in_order(spec for spec in specs if spec.enabled or disabled)


def _runs(
    spec: SourceSpec,
    wanted: Wanted,
    dynamic: Sequence[str] = (),
    succeeded: Collection[str] = (),
    arrived: Sequence[str] | None = None,
) -> list[tuple[str, ...]]:
    try:
        return runs_wanted(spec, wanted, datetime.now(timezone.utc), dynamic, succeeded, arrived)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _run_all(
    specs: list[SourceSpec],
    wanted: Wanted,
    settings: Settings,
    shown: Shown,
) -> Iterator[Outcome]:
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.past import past_of  # noqa: PLC0415
    from refresh_pipelines.orchestration.runner import Order, run_order  # noqa: PLC0415

    warehouse = open_warehouse(settings)
    with open_instance(settings) as instance:
        orders = []
        for spec in specs:
            try:
                asked = wanted.needs_history(spec)
                past = past_of(instance, spec, warehouse, settings, wanted.partitions) if asked else None
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            runs = _runs(spec, wanted, past.dynamic, past.succeeded, past.arrived) if past else _runs(spec, wanted)
            runs = [()] if past and past.trouble else runs
            orders += [Order(spec, part, past.instead(spec, part) if past else None) for part in runs]
            if not runs and not shown.quiet:
                click.echo(f"{spec.name}: nothing is missing", err=True)
        with progress(len(orders), shown.quiet) as step:
            for order in orders:
                step(order.spec.name)
                if order.instead:
                    yield order.instead
                    continue
                if order.spec.partitions and not order.keys:
                    message = nothing_due(order.spec)
                    yield Outcome(order.spec.source, order.spec.group, None, "not_yet", message=message)
                    continue
                outcomes = run_order(instance, order, settings, force=shown.force, verbose=shown.verbose)
                yield from outcomes
                if any(outcome.error_class == "interrupted" for outcome in outcomes):
                    return  # Ctrl-C means the command, and not only the run it happened to be in.
