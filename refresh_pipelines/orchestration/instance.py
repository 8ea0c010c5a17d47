"""The Dagster instance our commands use: always the one of the repository root.

`python -m refresh_pipelines.orchestration.instance` creates its storage, prints its folder (what
DAGSTER_HOME should be) and ends. Do that before starting several processes: two that create the same
SQLite files or PostgreSQL tables at once collide. Where history is in PostgreSQL a second line has the address, with
its password, as REFRESH_INSTANCE should be for plain Dagster commands: for a variable of a script, not for a screen.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dagster as dg
import yaml
from filelock import FileLock

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.kept import start_over
from refresh_pipelines.orchestration.server import require_server
from refresh_pipelines.orchestration.trouble import require_folder, told
from refresh_pipelines.postgres_url import for_dagster
from refresh_pipelines.settings import INSTANCE, Settings, SettingsError
from refresh_pipelines.whole import write_whole
from refresh_pipelines.worker import workers

_FOLDERS = (
    ("storage", "custom", "config", "base_dir"),
    ("storage", "sqlite", "base_dir"),
    ("compute_logs", "config", "base_dir"),
    ("local_artifact_storage", "config", "base_dir"),
)


def prepare(settings: Settings) -> Path:
    """Set DAGSTER_HOME unless it is set, and return it.

    It is the root, whose dagster.yaml names folders below `data/`. With REFRESH_DATA_DIR elsewhere, or history in
    PostgreSQL, a copy of dagster.yaml is kept in the data folder, with those folders moved and that storage. It names
    the variable REFRESH_INSTANCE, which is set here for all processes that are started from this one.

    Raises:
        InternalError: DAGSTER_HOME is set, and its dagster.yaml keeps history elsewhere than REFRESH_INSTANCE says.
    """
    home = home_of(settings)
    if settings.environ.get("DAGSTER_HOME"):
        _require_agreement(settings, home)
    elif home != settings.root:
        _move(settings)
    home.mkdir(parents=True, exist_ok=True)
    os.environ["DAGSTER_HOME"] = str(home)
    if settings.instance:
        os.environ[INSTANCE] = for_dagster(settings.instance)
    # Daemon and webserver post whatever lies in `logs` of that folder to the maker of Dagster, and take it away, also
    # where dagster.yaml switches telemetry off. Our own logs are in `log`; what a person keeps there is theirs too.
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    # dagster.yaml names relative folders so that plain `dagster dev` shares them; they start at the working folder.
    os.chdir(settings.root)
    return home


def home_of(settings: Settings) -> Path:
    """Return the folder whose dagster.yaml our commands use; it need not be there yet."""
    given = settings.environ.get("DAGSTER_HOME")
    if given:
        return Path(given).expanduser().resolve()
    at_root = settings.data_dir == settings.root / "data" and settings.instance is None
    return settings.root if at_root else settings.data_dir


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Return the instance, creating its storage if this is the first start. Runs whose process was killed are ended.

    Raises:
        InternalError: the data folder or Dagster's storage in it cannot be used, on disk or by right.
        WarehouseBusy: the PostgreSQL server of REFRESH_INSTANCE cannot be reached.
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
    history = require_server(settings)
    with FileLock(settings.data_dir / ".first-start.lock"):
        start_over(settings.data_dir, history)
        instance = dg.DagsterInstance.from_config(str(home)) if (home / "dagster.yaml").exists() else None
        instance = instance or dg.DagsterInstance.get()
        # Each store is created on first use; use them while nobody else does.
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.get_asset_records([])
    return instance


def _require_agreement(settings: Settings, home: Path) -> None:
    """Refuse a home of somebody's own whose history is another one: half of the past would be missed in silence."""
    path = home / "dagster.yaml"
    named = path.exists() and INSTANCE in path.read_text()
    if named == bool(settings.instance):
        return
    wanted = f"{{storage: {{postgres: {{postgres_url: {{env: {INSTANCE}}}}}}}}}"
    raise InternalError(
        f"DAGSTER_HOME and {INSTANCE} disagree on where Dagster's history is",
        expected=f"{INSTANCE} to be set" if named else f"{wanted} in {path}",
        came=f"{path}, which names it" if named else f"{INSTANCE} set, and a dagster.yaml that does not name it",
        todo=f"Nothing was started. Unset DAGSTER_HOME, or {f'set {INSTANCE}' if named else 'write that there'}.",
    )


def _move(settings: Settings) -> None:
    """Write dagster.yaml with its folders below the chosen data folder, and its storage where the settings say."""
    config = yaml.safe_load((settings.root / "dagster.yaml").read_text())
    for path in _FOLDERS:
        section = config
        for name in path[:-1]:
            section = section.get(name) if isinstance(section, dict) else None
        # Another store, or a folder elsewhere, stays what somebody has made it.
        folder = section.get(path[-1]) if isinstance(section, dict) else None
        if isinstance(folder, str) and Path(folder).is_relative_to("data"):
            section[path[-1]] = str(settings.data_dir / Path(folder).relative_to("data"))
    if settings.instance:
        # The variable, not its value: the file may be read by others, and the UI shows what is in it.
        config["storage"] = {"postgres": {"postgres_url": {"env": INSTANCE}}}
    target = settings.data_dir / "dagster.yaml"
    text = "# Written by refresh_pipelines from dagster.yaml of the root; edit that one.\n" + yaml.safe_dump(config)
    if not target.exists() or target.read_text() != text:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        write_whole(target, text)


if __name__ == "__main__":
    try:
        found = Settings.load()
        open_instance(found).dispose()
    except (RefreshError, SettingsError) as error:
        sys.exit(str(error))
    lines = [os.environ["DAGSTER_HOME"], *([os.environ[INSTANCE]] if found.instance else [])]
    sys.stdout.write("\n".join(lines) + "\n")
