"""What a source has in Dagster's history, and which of its files in the data folder are safe to remove."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from refresh_pipelines.orchestration.tags import SOURCE
from refresh_pipelines.settings import Settings


def asset_keys(instance: dg.DagsterInstance, source: str, group: str = "") -> list[dg.AssetKey]:
    """Return the keys under which Dagster knows a source, in any group or in one."""
    keys = (key for key in instance.all_asset_keys() if len(key.path) == 2 and key.path[1] == source)
    return sorted(key for key in keys if group in ("", key.path[0]))


def known_sources(instance: dg.DagsterInstance) -> set[str]:
    """Return the names of all assets that have a history."""
    return {key.path[1] for key in instance.all_asset_keys() if len(key.path) == 2}


def staging_folders(instance: dg.DagsterInstance, source: str, settings: Settings) -> list[Path]:
    """Return what ended runs of a source have left in staging; the folders bear the first letters of run ids."""
    folders = {path.name: path for path in (settings.data_dir / "staging").glob("*")}
    if not folders:
        return []
    runs = instance.get_runs(dg.RunsFilter(tags={SOURCE: source}))
    return sorted({folders[run.run_id[:8]] for run in runs if run.is_finished and run.run_id[:8] in folders})
