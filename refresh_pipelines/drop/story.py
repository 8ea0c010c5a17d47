"""What a refresh does with the files it took: read them, and keep ledger and operational store in step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drop.delivery import DropTools
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.drop.sightings import Sightings
from refresh_pipelines.drop.stage import stage_files
from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.window import Window


def read_dropped(
    spec: SourceSpec, answer: Delivery, window: Window, folder: Path, notes: Notes, tools: DropTools
) -> tuple[Staged, Delivery]:
    """Return the rows of the files that are good (none where all are copies), and what became of each file.

    Raises:
        RefreshError: files are bad and none is good. That is in the ledger by then, so that nobody reads
            them again before they change.
    """
    staged, answer = stage_files(spec, answer, window, folder / "rows.arrow", notes)
    good = [entry for entry in answer.files if entry.status != "refused"]
    if answer.missing and not good:
        tools.warehouse.record_files(answer.files)
        settle(spec, tools.settings, answer.files)
        raise _all_bad(answer)
    return staged, answer


def settle(spec: SourceSpec, settings: Settings, files: Sequence[FileEntry]) -> None:
    """Let the sensor know what the ledger now says. Raises InternalError, as `Sightings.settle`."""
    Sightings(settings.data_dir, spec.source).settle(files)


def _all_bad(answer: Delivery) -> Exception:
    """Return the first error, which says how many others there are."""
    first = answer.missing[0][1]
    rest = [key for key, _ in answer.missing[1:]]
    if rest:
        first.todo += f" So are {len(rest)} other files: {', '.join(rest[:5])}{' …' if len(rest) > 5 else ''}."
    return first
