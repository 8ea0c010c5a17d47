"""`refresh parse`: stored payloads through a source's parser and contract, without network, Dagster or warehouse."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from refresh_pipelines.cli.common import (
    json_option,
    load_settings,
    print_json,
    print_table,
    read_files,
    select_sources,
)
from refresh_pipelines.contract import placeholder
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.parse import Notes
from refresh_pipelines.rejects import each_reject
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import rejects_path, require_rows, stage
from refresh_pipelines.window import UnknownPartition, Window, window_of

_HEADERS = ("SOURCE", "FILE", "FETCHED", "REJECTED", "DUPLICATES", "FILTERED", "ERROR")


@click.command()
@click.argument("source")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A param or partition name's value.")
@click.option("--partition", help="The partition the payloads belong to; without it none is checked.")
@click.option("--rows", "with_rows", is_flag=True, help="Also print the rows.")
@click.option("--rejects", "with_rejects", is_flag=True, help="Also print the rows that break the contract, and why.")
@json_option
def parse(
    source: str,
    files: tuple[Path, ...],
    params: tuple[str, ...],
    partition: str | None,
    with_rows: bool,
    with_rejects: bool,
    as_json: bool,
) -> None:
    """Read stored payloads as a source would, without loading them.

    Prints what the source's parser and contract make of each file: how many rows, how many
    refused and why. Exit code 1 if any file is refused, as it would be when loading. Of a file with more
    bad rows than load.reject_share allows, --rejects prints the first 1000.
    """
    spec = select_sources(read_files(load_settings()), [source])[0]
    if spec.derived:
        said = (
            f"{spec.name} is a query over other sources and reads no files: `refresh run {spec.source}` makes it anew"
        )
        raise click.UsageError(said)
    window = _window(spec, partition, params)
    _remark(spec, window)
    read = [(Notes(), file) for file in files]
    items = [_item(spec, window, file, notes, with_rows) for notes, file in read]
    if not with_rejects:
        items = [{name: value for name, value in item.items() if name != "rejects"} for item in items]
    ok = all(item["error_class"] is None for item in items)
    if as_json:
        print_json(items, ok)
    else:
        _print(items, with_rows)
        for notes, file in read:
            for text in notes.texts():
                click.echo(f"{file}: {text}", err=True)
    sys.exit(0 if ok else 1)


def _window(spec: SourceSpec, partition: str | None, params: tuple[str, ...]) -> Window:
    try:
        window = window_of(spec, partition)
    except UnknownPartition as error:
        raise click.UsageError(str(error)) from error
    pairs = [param.partition("=") for param in params]
    if any(not separator for _, separator, _ in pairs):
        raise click.UsageError("--param wants NAME=VALUE")
    return replace(window, names={**window.names, **{name: value for name, _, value in pairs}})


def _remark(spec: SourceSpec, window: Window) -> None:
    dimension = spec.partitions.dimension if spec.partitions else None
    used = {placeholder(column) for column in spec.columns.values()}
    if dimension in used and dimension not in window.names:
        click.echo(f"No --partition given: columns filled from {{{dimension}}} stay empty.", err=True)


def _item(spec: SourceSpec, window: Window, file: Path, notes: Notes, with_rows: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "source": spec.source,
        "file": str(file),
        "fetched": 0,
        "rejected": 0,
        "duplicates": 0,
        "filtered": 0,
        "error_class": None,
        "message": None,
        "rows": None,
        "rejects": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.arrow"
        try:
            staged = stage(spec, [file], window, path, notes)
            require_rows(spec, staged)
        except RefreshError as error:
            error.at(spec.name, window.partition)
            refused = {"fetched": error.fetched, "rejected": error.rejected, "rejects": _rejects(path)}
            return {**item, **refused, "error_class": error.error_class, "message": str(error)}
        rows = staged.table().to_pylist() if with_rows else None
        rejects = _rejects(path)
    counts = {"fetched": staged.fetched, "rejected": staged.rejected, "duplicates": staged.duplicates}
    return {**item, **counts, "filtered": staged.filtered, "rows": rows, "rejects": rejects}


def _rejects(rows: Path) -> list[dict[str, Any]]:
    """Return what was rejected beside a file of rows, in the words of quarantine.<table>."""
    return [
        {"row_number": one.row, "column_names": one.columns, "reason": one.reason, "raw": one.raw}
        for one in each_reject(rejects_path(rows))
    ]


def _print(items: list[dict[str, Any]], with_rows: bool) -> None:
    names = ("source", "file", "fetched", "rejected", "duplicates", "filtered", "error_class")
    print_table(_HEADERS, [[item[name] for name in names] for item in items])
    for item in items:
        if item["message"]:
            click.echo(f"\n{item['file']}: {item['message']}", err=True)
        if with_rows and item["rows"]:
            click.echo()
            print_table(list(item["rows"][0]), [list(row.values()) for row in item["rows"]])
        if item.get("rejects"):
            click.echo()
            shown = [[one["row_number"], one["reason"], one["raw"]] for one in item["rejects"]]
            print_table(("ROW", "REASON", "RAW"), shown)
