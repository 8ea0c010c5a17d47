"""`refresh retire`: remove what a deleted source has left, or forget a source's rows to load it anew."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import json_option, load_settings, print_json, program, read_catalogue
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.warehouse import open_warehouse

if TYPE_CHECKING:
    from refresh_pipelines.orchestration.leftovers import Finder, Plan


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--reload", is_flag=True, help="Of a source that still exists: forget its rows, to load it anew.")
@click.option("--history", is_flag=True, help="Also wipe the events of its asset; by default history stays.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def retire(names: tuple[str, ...], reload: bool, history: bool, yes: bool, as_json: bool) -> None:
    """Remove what a deleted source has left: rows, load state, locks, staging, waiting notices.

    Says what will be removed and asks. A raw table is dropped when no other source has rows in it.
    With --json nothing is asked; without --yes nothing is removed either, and the items say what
    would be.
    """
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.orchestration.leftovers import Ambiguous, Finder  # noqa: PLC0415

    if reload and history:
        raise click.UsageError("--reload keeps the history; leave out --history")
    settings = load_settings()
    catalogue, warehouse = read_catalogue(settings), open_warehouse(settings)
    with open_instance(settings) as instance:
        finder = Finder(settings, warehouse, instance)
        for name in names:
            _refuse(catalogue, name, reload=reload)
        try:
            plans = [finder.plan(name, reload=reload, history=history) for name in dict.fromkeys(names)]
        except Ambiguous as error:
            raise click.UsageError(str(error)) from error
        _refuse_unknown([plan for plan in plans if plan.empty and not reload], finder)
        if not as_json:
            _show(plans)
            if not yes and any(not plan.empty for plan in plans):
                click.confirm("Remove this?", abort=True)
        if yes or not as_json:
            plans = [finder.remove(plan) for plan in plans]
    if as_json:
        print_json([plan.item(removed=yes) for plan in plans], ok=True)
    else:
        click.echo(_afterwards(plans, reload=reload))
    sys.exit(0)


def _refuse(catalogue: Catalogue, name: str, *, reload: bool) -> None:
    """Keep a person from removing what would be loaded again, or carried over."""
    source = name.rpartition("/")[2]
    present = source in catalogue.sources or any(broken.source == source for broken in catalogue.broken.values())
    if present and not reload:
        raise click.UsageError(
            f"{source} is in the catalogue; delete its YAML first, or say --reload to forget its rows and load it anew"
        )
    if not present and reload:
        hint = did_you_mean(source, catalogue.sources)
        raise click.UsageError(f"no source is called {source!r}, so there is nothing to load anew ({hint})")
    heir = next((spec.name for spec in catalogue.sources.values() if source in _former(spec.aliases)), None)
    if heir:
        raise click.UsageError(
            f"{source} is the old name of {heir}, which carries its rows over; take it out of `aliases` first"
        )


def _former(aliases: tuple[str, ...]) -> set[str]:
    return {alias.rpartition("/")[2] for alias in aliases}


def _refuse_unknown(plans: list[Plan], finder: Finder) -> None:
    known = finder.known() if plans else set()
    for plan in plans:
        if plan.source in known:
            text = f"{plan.source} has left nothing but its history; --history wipes that too"
        else:
            hint = did_you_mean(plan.source, known) or "nothing is"
            text = f"nothing is left of a source called {plan.source!r} ({hint})"
        raise click.UsageError(text)


def _show(plans: list[Plan]) -> None:
    for plan in plans:
        click.echo(f"{plan.source}:")
        for line in plan.lines() if not plan.empty else ["nothing is loaded"]:
            click.echo(f"  {line}")


def _afterwards(plans: list[Plan], *, reload: bool) -> str:
    names = " ".join(plan.source for plan in plans)
    if reload:
        return f"Forgotten. Load anew with: {program()} run {names} --missing"
    return f"Removed. The history of runs stays, unless it was wiped: {names}"
