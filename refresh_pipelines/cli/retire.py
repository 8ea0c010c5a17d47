"""`refresh retire`: remove what a deleted source has left, or forget a source's rows to load it anew."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refresh_pipelines.catalogue import Catalogue
from refresh_pipelines.cli.common import json_option, load_settings, print_json, program, read_catalogue
from refresh_pipelines.notices import Notices
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse import Remains, Warehouse, open_warehouse
from refresh_pipelines.warehouse.lock import held

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Plan:
    """What is removed for one source.

    Attributes:
        remains: rows and load states in the warehouse.
        locks: files of locks; kept when the source is to be loaded anew.
        staging: folders of runs that were killed.
        notices: alerts that wait for the webhook.
        keys: asset keys whose history is wiped; empty unless that was asked for.
    """

    source: str
    remains: Remains
    locks: tuple[Path, ...] = ()
    staging: tuple[Path, ...] = ()
    notices: int = 0
    keys: tuple[dg.AssetKey, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remove."""
        parts = (self.remains.states, self.remains.holdings, self.locks, self.staging, self.notices, self.keys)
        return not any(parts)

    def item(self, *, removed: bool) -> dict[str, Any]:
        """Return the JSON item."""
        return {
            "source": self.source,
            "removed": removed,
            "load_states": self.remains.states,
            "tables": [
                {"table": f"raw.{held.table}", "rows": held.rows, "dropped": not held.others}
                for held in self.remains.holdings
            ],
            "locks": len(self.locks),
            "staging": len(self.staging),
            "notices": self.notices,
            "history": [key.to_user_string() for key in self.keys],
        }

    def lines(self) -> Iterator[str]:
        """Yield what is removed, in words."""
        for holding in self.remains.holdings:
            kept = f"; {holding.others} rows of others stay" if holding.others else ", and the table"
            yield f"{holding.rows} rows of raw.{holding.table}{kept}"
        counts = {
            "load states": self.remains.states,
            "lock files": len(self.locks),
            "folders in staging": len(self.staging),
            "waiting notices": self.notices,
        }
        yield from (f"{count} {what}" for what, count in counts.items() if count)
        yield from (f"the history of {key.to_user_string()}: all its events, for ever" for key in self.keys)


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

    if reload and history:
        raise click.UsageError("--reload keeps the history; leave out --history")
    settings = load_settings()
    catalogue, warehouse = read_catalogue(settings), open_warehouse(settings)
    with open_instance(settings) as instance:
        finder = _Finder(settings, warehouse, instance)
        for name in names:
            _refuse(catalogue, name, reload=reload)
        plans = [finder.plan(name, reload=reload, history=history) for name in dict.fromkeys(names)]
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


class _Finder:
    """Looks for what a source has, and removes it."""

    def __init__(self, settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance) -> None:
        self.settings, self.warehouse, self.instance = settings, warehouse, instance
        self.notices = Notices(settings)

    def plan(self, name: str, *, reload: bool, history: bool) -> Plan:
        from refresh_pipelines.orchestration.leftovers import asset_keys, staging_folders  # noqa: PLC0415

        group, _, source = name.rpartition("/")
        keys = asset_keys(self.instance, source, group) if history else []
        if len(keys) > 1:
            both = " or ".join(key.to_user_string() for key in keys)
            raise click.UsageError(f"history knows {source} in several groups: say {both}")
        return Plan(
            source,
            self.warehouse.remains(source),
            () if reload else tuple(self._locks(source)),
            tuple(staging_folders(self.instance, source, self.settings)),
            0 if reload else self.notices.waiting(source),
            tuple(keys),
        )

    def remove(self, plan: Plan) -> Plan:
        """Remove it while nobody can refresh the source; return what really was removed."""
        with ExitStack() as stack:
            for lock in self._locks(plan.source):
                stack.enter_context(held(lock, 0, f"{plan.source} is being refreshed: its lock"))
            remains = self.warehouse.retire(plan.source)
            for folder in plan.staging:
                shutil.rmtree(folder, ignore_errors=True)
            if plan.notices:
                self.notices.forget(plan.source)
            if plan.keys:
                self.instance.wipe_assets([*plan.keys])
            for lock in plan.locks:
                lock.unlink(missing_ok=True)
        return replace(plan, remains=remains)

    def known(self) -> set[str]:
        """Return all names under which something is left."""
        from refresh_pipelines.orchestration.leftovers import known_sources  # noqa: PLC0415

        locked = {path.stem.partition("@")[0] for path in (self.settings.data_dir / "locks").glob("*.lock")}
        return self.warehouse.sources() | known_sources(self.instance) | locked

    def _locks(self, source: str) -> list[Path]:
        folder = self.settings.data_dir / "locks"
        return sorted([*folder.glob(f"{source}.lock"), *folder.glob(f"{source}@*.lock")])


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


def _refuse_unknown(plans: list[Plan], finder: _Finder) -> None:
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
