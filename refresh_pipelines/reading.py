"""One payload into staged rows, as a refresh reads it, whether it has just come or lay in the archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refresh_pipelines.absent import behind_a_page
from refresh_pipelines.archive.journal import Load
from refresh_pipelines.archive.keep import open_entry
from refresh_pipelines.archive.pieces import piece_of
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drop.stage import stage_files
from refresh_pipelines.errors import Interrupted, RefreshError, WrongPeriod
from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, Staged, naming, require_rows, stage
from refresh_pipelines.window import Window


def read_payload(
    spec: SourceSpec, window: Window, answer: Delivery, folder: Path, notes: Notes, stored: Load | None = None
) -> tuple[Staged, Delivery]:
    """Return the staged rows, and the delivery without the parts that could not be read and need not be.

    Args:
        folder: where the rows are written.
        stored: the load whose payload this is; of one that holds several partitions those of the window are taken.

    Raises:
        RefreshError: as `stage` and `require_rows`.
    """
    rows = folder / "rows.arrow"
    if stored and stored.origin.keys:
        staged = piece_of(spec, answer, stored, window, folder, notes)
        require_rows(spec, staged)
        return staged, answer
    if spec.request.each and spec.request.each.on_error == "keep_rest":
        answer = _readable(spec, window, answer, rows)
    try:
        staged = stage(spec, answer.parts, window, rows, notes)
    except WrongPeriod as wrong:
        raise behind_a_page(wrong, answer.url, answer.passed_over) from wrong
    require_rows(spec, staged)
    return staged, answer


def read_again(
    spec: SourceSpec, window: Window, load: Load, settings: Settings, folder: Path
) -> tuple[Window, Delivery, Staged, Notes]:
    """Read a payload of the archive as its refresh would by this YAML: its window, parts, rows, and remarks.

    Raises as `read_payload` and `open_entry`.
    """
    window, notes = replace(window, start=load.origin.start or window.start), Notes()
    answer = open_entry(spec, settings, load.payload, folder, load.origin)
    if not answer.files:
        staged, answer = read_payload(spec, window, answer, folder, notes, load)
        return window, answer, staged, notes
    staged, answer = stage_files(spec, answer, window, folder / "rows.arrow", notes)
    if answer.missing and all(entry.status == "refused" for entry in answer.files):
        raise answer.missing[0][1]
    return window, answer, staged, notes


def _readable(spec: SourceSpec, window: Window, answer: Delivery, rows: Path) -> Delivery:
    """Leave out values whose payload cannot be read; raise the first error if none is left."""
    missing = list(answer.missing)
    good: list[Part] = []
    by_value: dict[tuple[tuple[str, str], ...], list[Part]] = {}
    for part in answer.parts:
        by_value.setdefault(tuple(part.names.items()), []).append(part)
    for ((_, value),), parts in by_value.items():
        try:
            with naming(parts[0].names):
                stage(spec, parts, window, rows, Notes())
        except RefreshError as error:
            if isinstance(error, Interrupted):
                raise
            missing.append((value, error))
        else:
            good += parts
    if not good:
        raise missing[0][1]
    return replace(answer, parts=tuple(good), missing=tuple(missing))
