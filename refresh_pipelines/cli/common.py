"""What the commands share: settings and catalogue with usage errors, and two ways to print."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from refresh_pipelines import log
from refresh_pipelines.catalogue import BrokenSource, Catalogue, UnknownSource, load_catalogue
from refresh_pipelines.credentials import missing_key
from refresh_pipelines.lastgood import working_catalogue
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.spec import SourceSpec

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Add `--json`, which reaches the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document for programs.")(command)


def load_settings() -> Settings:
    """Read the settings and log as they say; a wrong one ends the command with exit code 2 and its message."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    log.configure(settings)
    return settings


def read_catalogue(settings: Settings) -> Catalogue:
    """Read the sources as they run: a broken one is its last good version, if there is one."""
    return working_catalogue(settings)


def read_files(settings: Settings) -> Catalogue:
    """Read the sources as their files are now, for a command that somebody runs while editing them."""
    return load_catalogue(settings.catalog, settings.environ)


def print_stale(catalogue: Catalogue, sources: Collection[str]) -> None:
    """Say which of the sources run on their last good version; nothing if none does."""
    for source, stale in catalogue.stale.items():
        if source in sources:
            when = f"{stale.good_at:%Y-%m-%d %H:%M} UTC"
            click.echo(f"\n{stale.broken.name}: YAML broken, running on the last good one of {when} (`refresh check`)")


def select_sources(catalogue: Catalogue, names: Sequence[str], group: str | None = None) -> list[SourceSpec]:
    """Return the chosen sources; an unknown or broken one ends the command with exit code 2."""
    try:
        return catalogue.select(names, group)
    except (UnknownSource, BrokenSource) as error:
        raise click.UsageError(str(error)) from error


def print_json(items: Iterable[Mapping[str, Any]], ok: bool, **more: object) -> None:
    """Print the one JSON shape of all commands. Paths, dates and the like become text.

    Args:
        more: what belongs to no item.
    """
    document = {"version": 1, "ok": ok, "items": list(items), **more}
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], dimmed: Collection[int] = ()) -> None:
    """Print aligned columns; None is shown as -, numbers are put to the right.

    On a terminal lines are cut to its width, and the rows numbered in `dimmed` (from 0) are grey;
    into a pipe or file everything is written, plainly.
    """
    rows = list(rows)
    body = [["-" if cell is None else _one_line(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(headers, *body, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(headers))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, line in enumerate(([*headers], *body), start=-1):
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        text = "  ".join(cells).rstrip()
        text = text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
        click.echo(click.style(text, dim=True) if number in dimmed else text)


def missing_keys(specs: Iterable[SourceSpec], settings: Settings) -> dict[str, str]:
    """Return which enabled sources wait for a key: the variable to set, by source."""
    found = {spec.source: missing_key(spec, settings) for spec in specs if spec.enabled}
    return {source: variable for source, variable in found.items() if variable}


def print_blocked(keys: Mapping[str, str]) -> None:
    """Say which variables to set and whom that helps; nothing if there is none."""
    for variable in sorted(set(keys.values())):
        sources = ", ".join(source for source, name in keys.items() if name == variable)
        click.echo(f"\nblocked: set {variable} in the environment or in .env ({sources})")


def _one_line(cell: object) -> str:
    return " ".join(str(cell).split())


def short_path(path: Path) -> Path:
    """Return the path from the current folder if it lies below, as terminals and editors link it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def program() -> str:
    """Return how this program can be called from the current folder: by its name, or by where it lies."""
    if shutil.which("refresh"):
        return "refresh"
    path = Path(sys.argv[0])
    return shlex.quote(str(short_path(path.absolute()))) if path.name == "refresh" else "python -m refresh_pipelines"
