"""The Dagster instance our commands use: always the one of the repository root.

`python -m refresh_pipelines.orchestration.instance` creates its storage, prints its folder (what
DAGSTER_HOME should be) and ends. Do that before starting several processes: two that create the same
SQLite files at once collide.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dagster as dg
import yaml
from filelock import FileLock

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.trouble import require_folder, told
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.whole import write_whole
from refresh_pipelines.worker import workers

_FOLDERS = (
    ("storage", "sqlite", "base_dir"),
    ("compute_logs", "config", "base_dir"),
    ("local_artifact_storage", "config", "base_dir"),
)


def prepare(settings: Settings) -> Path:
    """Set DAGSTER_HOME unless it is set, and return it.

    It is the root, whose dagster.yaml names folders below `data/`. With REFRESH_DATA_DIR elsewhere,
    a copy of dagster.yaml with those folders moved is kept in that data folder.
    """
    given = settings.environ.get("DAGSTER_HOME")
    if given:
        home = Path(given).expanduser().resolve()
    else:
        home = settings.root if settings.data_dir == settings.root / "data" else _moved(settings)
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(home)
    # dagster.yaml names relative folders so that plain `dagster dev` shares them; they start at the working folder.
    os.chdir(settings.root)
    return home


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Return the instance, creating its storage if this is the first start. Runs whose process was killed are ended.

    Raises:
        InternalError: the data folder or Dagster's storage in it cannot be used, on disk or by right.
    """
    with told(settings, "Dagster's history", "Nothing was started."):
        instance = _opened(settings)
        if workers(settings.data_dir):
            # With all the engine; what it looks for is rare.
            from refresh_pipelines.orchestration.stuck import settle  # noqa: PLC0415

            settle(instance, settings, kill=False)
        return instance


def _opened(settings: Settings) -> dg.DagsterInstance:
    require_folder(settings)
    home = prepare(settings)
    with FileLock(settings.data_dir / ".first-start.lock"):
        instance = dg.DagsterInstance.from_config(str(home)) if (home / "dagster.yaml").exists() else None
        instance = instance or dg.DagsterInstance.get()
        # Each store is created on first use; use them while nobody else does.
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.get_asset_records([])
    return instance


def _moved(settings: Settings) -> Path:
    """Write dagster.yaml with its folders below the chosen data folder, and return that folder."""
    config = yaml.safe_load((settings.root / "dagster.yaml").read_text())
    for path in _FOLDERS:
        section = config
        for name in path[:-1]:
            section = section.get(name) if isinstance(section, dict) else None
        # Another store, or a folder elsewhere, stays what somebody has made it.
        folder = section.get(path[-1]) if isinstance(section, dict) else None
        if isinstance(folder, str) and Path(folder).is_relative_to("data"):
            section[path[-1]] = str(settings.data_dir / Path(folder).relative_to("data"))
    target = settings.data_dir / "dagster.yaml"
    text = "# Written by refresh_pipelines from dagster.yaml of the root; edit that one.\n" + yaml.safe_dump(config)
    if not target.exists() or target.read_text() != text:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        write_whole(target, text)
    return settings.data_dir


if __name__ == "__main__":
    try:
        open_instance(Settings.load()).dispose()
    except (RefreshError, SettingsError) as error:
        sys.exit(str(error))
    sys.stdout.write(os.environ["DAGSTER_HOME"] + "\n")
