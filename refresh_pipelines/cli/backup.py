"""`refresh backup` and `refresh restore`: warehouse, history and operational store as one file, and back."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timezone
from pathlib import Path

import click

from refresh_pipelines.cli.common import json_option, load_settings, print_json, print_table
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import InternalError
from refresh_pipelines.service.backup.pack import Manifest

_OWN_NAME = re.compile(r"refresh-\d{8}T\d{6}Z\.tar\.zst")


@click.command()
@click.argument("target", type=click.Path())
@click.option("--keep", type=click.IntRange(1), help="In a folder: keep so many, and remove older ones afterwards.")
@json_option
def backup(target: str, keep: int | None, as_json: bool) -> None:
    """Write warehouse, history, incidents and pauses to one file, while everything goes on.

    TARGET is a file to be made, or a folder (one that is there, or a name that ends with /), in which the file is
    named after the time. Not in it: .env, which has secrets, and your catalogue folders, which belong under version
    control.

    Databases in PostgreSQL need `pg_dump`, of the server's version or later.
    """
    from refresh_pipelines.orchestration.instance import open_instance  # noqa: PLC0415 - a second's import
    from refresh_pipelines.service.backup.make import ENDING, back_up  # noqa: PLC0415 - loads both drivers

    settings = load_settings()
    now = utc_now()
    folder = Path(target).is_dir() or target.endswith("/")
    file = Path(target) / f"refresh-{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}{ENDING}" if folder else Path(target)
    if keep and not folder:
        raise click.UsageError("--keep goes with a folder")
    if file.exists():
        raise click.UsageError(f"{file} is there already")
    with _told(f"the backup {file}"), open_instance(settings) as instance:
        manifest = back_up(instance, settings, file.absolute(), now, _say(as_json))
    removed = _remove_older(Path(target), keep) if keep else []
    _print(file, manifest, as_json, removed=[str(path) for path in removed])


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also where something is; that is moved aside and kept.")
@json_option
def restore(file: Path, replace: bool, as_json: bool) -> None:
    """Put a backup where the settings say: REFRESH_DATA_DIR, REFRESH_WAREHOUSE, REFRESH_INSTANCE.

    Every file is compared with its hash, and every database opened, before anything is touched. Nothing may be at
    work meanwhile: `refresh stop` first. Runs that were under way when the backup was made are recorded as cancelled.
    """
    from refresh_pipelines.service.backup.restore import PlaceTaken  # noqa: PLC0415 - loads both drivers
    from refresh_pipelines.service.backup.restore import restore as put_back  # noqa: PLC0415

    settings = load_settings()
    try:
        with _told(f"the data folder {settings.data_dir}"):
            done = put_back(file.absolute(), settings, utc_now(), replace=replace, say=_say(as_json))
    except PlaceTaken as error:
        text = f"there is {error} in {settings.data_dir} already; --replace moves it aside"
        raise click.UsageError(text) from error
    _print(file, done.manifest, as_json, aside=done.aside and str(done.aside), cancelled=done.ended)
    if not as_json:
        if done.aside:
            click.echo(f"What was there is in {done.aside}; remove it when all is well.")
        if done.ended:
            click.echo(f"{done.ended} run(s) that had not ended were recorded as cancelled.")


def _say(quiet: bool) -> Callable[[str], None]:
    return lambda what: None if quiet else click.echo(f"{what} …", err=True)


def _remove_older(folder: Path, keep: int) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if _OWN_NAME.fullmatch(path.name))
    for path in found[:-keep]:
        path.unlink(missing_ok=True)
    return found[:-keep]


def _print(file: Path, manifest: Manifest, as_json: bool, **more: object) -> None:
    items = [
        {"database": name, "tables": len(rows), "rows": sum(rows.values())} for name, rows in manifest.tables.items()
    ]
    size = file.stat().st_size
    if as_json:
        about = {"file": str(file), "bytes": size, "made_at": manifest.made_at, "versions": manifest.versions}
        print_json(items, ok=True, **about, **more)
        return
    print_table(["DATABASE", "TABLES", "ROWS"], [tuple(item.values()) for item in items])
    held = sum(member.size for member in manifest.members.values())
    click.echo(
        f"\n{file}: {len(manifest.members)} files, {held / 1e6:.1f} MB in {size / 1e6:.1f} MB, of {manifest.made_at}"
    )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the operating system or SQLite says into an InternalError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise InternalError(
            f"{what} cannot be made",
            came=" ".join(str(error).split())[:300],
            todo="Make room or mend the rights of the folder; then run it again.",
        ) from error
