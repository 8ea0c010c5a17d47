"""`refresh run`: refresh now, through Dagster, and print one row per source and partition."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    print_table,
    program,
    read_catalogue,
    select_sources,
)
from refresh_pipelines.cli.keys import Wanted, nothing_due, runs_wanted
from refresh_pipelines.cli.upstream import sandbox_if_needed
from refresh_pipelines.lineage import in_order
from refresh_pipelines.notices import Notices
from refresh_pipelines.outcome import GOOD_EXIT, Outcome
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.warehouse import open_warehouse

_HEADERS = (
    "SOURCE", "PARTITION", "OUTCOME", "FETCHED", "ADDED", "UPDATED", "UNCHANGED", "DELETED", "SECONDS",
)  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE]...")
@click.option("--all", "everything", is_flag=True, help="Every enabled source.")
@click.option("--group", help="Every enabled source of this group.")
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

    Exit code 0: every refresh was good, had nothing to load yet, or waits for a missing key.
    """
    if not (names or everything or group):
        raise click.UsageError("name a source, or say --all or --group (`refresh list` shows the sources)")
    if partitions and (first or last or missing):
        raise click.UsageError("--partition does not go with --from, --to or --missing")
    wanted = Wanted(partitions, first, last, missing)
    settings = load_settings()
    catalogue = read_catalogue(settings)
    specs = _chosen(catalogue, names, group, include_disabled)
    with sandbox_if_needed(settings) as settings:
        for spec in specs:
            if not wanted.needs_history(spec):
                _runs(spec, wanted)  # a wrong key is told before anything starts
        outcomes = list(_run_all(specs, wanted, settings, force=force, verbose=verbose, quiet=as_json))
    broken = [] if names else [b for b in catalogue.broken.values() if group in (None, b.group)]
    ok = not broken and all(outcome.outcome in GOOD_EXIT for outcome in outcomes)
    if as_json:
        print_json([outcome.item() for outcome in outcomes], ok)
    else:
        _print(outcomes, settings)
    for b in broken:
        click.echo(f"{b.name} was not refreshed, its YAML has problems: run `refresh check`.", err=True)
    sys.exit(0 if ok else 1)


def _chosen(catalogue: Catalogue, names: tuple[str, ...], group: str | None, disabled: bool) -> list[SourceSpec]:
    specs = select_sources(catalogue, names, group)
    off = [spec.name for spec in specs if not spec.enabled and not disabled]
    if off and names:
        raise click.UsageError(f"{', '.join(off)} is disabled in its YAML; add --include-disabled to run it anyway")
    return in_order(spec for spec in specs if spec.enabled or disabled)


def _runs(
    spec: SourceSpec, wanted: Wanted, dynamic: Sequence[str] = (), succeeded: Collection[str] = ()
) -> list[tuple[str, ...]]:
    try:
        return runs_wanted(spec, wanted, datetime.now(timezone.utc), dynamic, succeeded)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _run_all(
    specs: list[SourceSpec],
    wanted: Wanted,
    settings: Settings,
    *,
    force: bool,
    verbose: bool,
    quiet: bool,
) -> Iterator[Outcome]:
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.past import past_of  # noqa: PLC0415
    from refresh_pipelines.orchestration.runner import Order, run_order  # noqa: PLC0415

    warehouse = open_warehouse(settings)
    with open_instance(settings) as instance:
        orders = []
        for spec in specs:
            try:
                past = past_of(instance, spec, warehouse, wanted.partitions) if wanted.needs_history(spec) else None
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            runs = _runs(spec, wanted, past.dynamic, past.succeeded) if past else _runs(spec, wanted)
            orders += [Order(spec, part) for part in runs]
            if not runs and not quiet:
                click.echo(f"{spec.name}: nothing is missing", err=True)
        with _progress(len(orders), quiet) as step:
            for order in orders:
                step(order.spec.name)
                if order.spec.partitions and not order.keys:
                    message = nothing_due(order.spec)
                    yield Outcome(order.spec.source, order.spec.group, None, "not_yet", message=message)
                    continue
                outcomes = run_order(instance, order, settings, force=force, verbose=verbose)
                yield from outcomes
                if any(outcome.error_class == "interrupted" for outcome in outcomes):
                    return  # Ctrl-C means the command, and not only the run it happened to be in.


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[_Step]:
    """Yield a function to call before each run: a bar on a terminal, plain lines otherwise."""
    step = _Step(total, quiet)
    try:
        yield step
    finally:
        step.close()


class _Step:
    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.done, self.quiet, self.bar = total, 0, quiet, None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415

            self.bar = tqdm(total=total, unit="source", leave=False, bar_format="{desc} {bar} {n}/{total}")

    def __call__(self, name: str) -> None:
        if self.bar is not None:
            self.bar.update(self.done - self.bar.n)
            self.bar.set_description(name)
        elif not self.quiet:
            click.echo(f"[{self.done + 1}/{self.total}] {name}", err=True)
        self.done += 1

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _print(outcomes: list[Outcome], settings: Settings) -> None:
    print_table(
        _HEADERS,
        [
            (
                f"{o.group}/{o.source}", o.partition, o.outcome, o.counts.fetched, o.counts.added, o.counts.updated,
                o.counts.unchanged, o.counts.deleted, round(o.seconds.total, 2),
            )
            for o in outcomes
        ],
    )  # fmt: skip
    # A missing key is the same sentence for every partition.
    for verdict, message in dict.fromkeys((o.outcome, o.message) for o in outcomes if o.message):
        click.echo(f"\n{verdict}: {message}", err=verdict == "failed")
    _say_waiting(Notices(settings))
    click.echo(_next(outcomes, settings))


def _say_waiting(notices: Notices) -> None:
    try:
        waiting = notices.waiting()
    except sqlite3.Error as error:
        text = f"Notices cannot be written to {notices.path}: {error}. Move that file away; a new one is then made."
        click.echo(f"\n{text}", err=True)
        return
    if waiting:
        click.echo(f"\nThe webhook did not take {waiting} notice(s); later runs and the daemon send them.", err=True)


def _next(outcomes: list[Outcome], settings: Settings) -> str:
    failed = next((o for o in outcomes if o.outcome not in GOOD_EXIT), None)
    refresh = program()
    steps = [(f"{refresh} history {failed.source}", "what it did before")] if failed else []
    steps += [
        (f"{refresh} status", "how every source is doing"),
        (f'{refresh} sql "FROM refresh.load_state"', "what the warehouse knows of each load"),
        ("make up", "the Dagster UI with assets, schedules and history"),
    ]
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command.ljust(width)}  {what}" for command, what in steps]
    return "\n".join(["", f"Warehouse: {settings.warehouse_file}", "Next:", *lines])
