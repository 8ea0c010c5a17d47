"""What a source has in warehouse, history and data folder, and its removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from refresh_pipelines.archive.store import Store
from refresh_pipelines.notices import Notices
from refresh_pipelines.ops import count_about, forget_about
from refresh_pipelines.orchestration.tags import SOURCE
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse import Remains, Warehouse
from refresh_pipelines.warehouse.lock import held


class Ambiguous(ValueError):
    """Several assets have that name; the message says which."""


@dataclass(frozen=True)
class Plan:
    """What is removed for one source.

    Attributes:
        remains: rows and load states in the warehouse.
        locks: files of locks; kept when the source is to be loaded anew.
        staging: folders of runs that were killed.
        notices: alerts that wait for the webhook.
        incidents: troubles that are open.
        remembered: pauses, resets and the like in the operational store.
        payloads: bytes of the payloads in the archive; kept when the source is to be loaded anew.
        keys: asset keys whose history is wiped; empty unless that was asked for.
    """

    source: str
    remains: Remains
    locks: tuple[Path, ...] = ()
    staging: tuple[Path, ...] = ()
    notices: int = 0
    incidents: int = 0
    remembered: int = 0
    payloads: int = 0
    keys: tuple[dg.AssetKey, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remove."""
        kept = (self.notices, self.incidents, self.remembered, self.payloads)
        return not any((self.remains.states, self.remains.holdings, self.locks, self.staging, *kept, self.keys))

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
            "rejected": self.remains.rejected,
            "locks": len(self.locks),
            "staging": len(self.staging),
            "notices": self.notices,
            "incidents": self.incidents,
            "remembered": self.remembered,
            "archive_bytes": self.payloads,
            "history": [key.to_user_string() for key in self.keys],
        }

    def lines(self) -> Iterator[str]:
        """Yield what is removed, in words."""
        for holding in self.remains.holdings:
            kept = f"; {holding.others} rows of others stay" if holding.others else ", and the table"
            yield f"{holding.rows} rows of raw.{holding.table}{kept}"
            if holding.versions:
                yield f"{holding.versions} past versions in history.{holding.table}"
        counts = {
            "load states": self.remains.states,
            "rejected rows": self.remains.rejected,
            "lock files": len(self.locks),
            "folders in staging": len(self.staging),
            "waiting notices": self.notices,
            "open incidents": self.incidents,
            "notes of pauses, resets, schedules and files": self.remembered,
        }
        yield from (f"{count} {what}" for what, count in counts.items() if count)
        if self.payloads:
            yield f"its payloads in the archive: {self.payloads / 1e6:.1f} MB"
        yield from (f"the history of {key.to_user_string()}: all its events, for ever" for key in self.keys)


class Finder:
    """Looks for what a source has, and removes it."""

    def __init__(self, settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance) -> None:
        self.settings, self.warehouse, self.instance = settings, warehouse, instance
        self.notices = Notices(settings)

    def plan(self, name: str, *, reload: bool, history: bool) -> Plan:
        """Count what a source has; `reload` leaves what its next refresh needs. Raises Ambiguous."""
        group, _, source = name.rpartition("/")
        keys = _asset_keys(self.instance, source, group) if history else []
        if len(keys) > 1:
            both = " or ".join(key.to_user_string() for key in keys)
            raise Ambiguous(f"history knows {source} in several groups: say {both}")
        return Plan(
            source,
            self.warehouse.remains(source),
            () if reload else tuple(self._locks(source)),
            tuple(_staging_folders(self.instance, source, self.settings)),
            0 if reload else self.notices.waiting(source),
            0 if reload else len(self.notices.open(source)),
            0 if reload else count_about(self.settings.data_dir, source),
            0 if reload else Store(self.settings.data_dir, source).size(),
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
            if plan.notices or plan.incidents:
                self.notices.forget(plan.source)
            if plan.remembered:
                forget_about(self.settings.data_dir, plan.source)
            if plan.payloads:
                Store(self.settings.data_dir, plan.source).remove_all()
            if plan.keys:
                self.instance.wipe_assets([*plan.keys])
            for lock in plan.locks:
                lock.unlink(missing_ok=True)
        return replace(plan, remains=remains)

    def known(self) -> set[str]:
        """Return all names under which something is left."""
        locked = {path.stem.partition("@")[0] for path in (self.settings.data_dir / "locks").glob("*.lock")}
        return self.warehouse.sources() | _known_sources(self.instance) | locked

    def _locks(self, source: str) -> list[Path]:
        folder = self.settings.data_dir / "locks"
        return sorted([*folder.glob(f"{source}.lock"), *folder.glob(f"{source}@*.lock")])


def _asset_keys(instance: dg.DagsterInstance, source: str, group: str = "") -> list[dg.AssetKey]:
    """Return the keys under which Dagster knows a source, in any group or in one."""
    keys = (key for key in instance.all_asset_keys() if len(key.path) == 2 and key.path[1] == source)
    return sorted(key for key in keys if group in ("", key.path[0]))


def _known_sources(instance: dg.DagsterInstance) -> set[str]:
    """Return the names of all assets that have a history."""
    return {key.path[1] for key in instance.all_asset_keys() if len(key.path) == 2}


def _staging_folders(instance: dg.DagsterInstance, source: str, settings: Settings) -> list[Path]:
    """Return what ended runs of a source have left in staging; the folders bear the first letters of run ids."""
    folders = {path.name: path for path in (settings.data_dir / "staging").glob("*")}
    if not folders:
        return []
    runs = instance.get_runs(dg.RunsFilter(tags={SOURCE: source}))
    return sorted({folders[run.run_id[:8]] for run in runs if run.is_finished and run.run_id[:8] in folders})
