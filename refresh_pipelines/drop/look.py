"""One look at a drop: what lies there, what of it is whole, and what no run has dealt with yet.

Sensor, command and refresh all look this way. It opens no warehouse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from refresh_pipelines.drop.listing import Folder, drop_of
from refresh_pipelines.drop.sightings import Sightings
from refresh_pipelines.drop.stability import Seen, Sighting, arrival, look
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import Drop, SourceSpec

_SHOWN = 5


@dataclass(frozen=True)
class Look:
    """What one look has found.

    Attributes:
        folder: where; open, so that files can be copied.
        files: every file that is there and counts, in the order of arrival.
        unmarked: files whose folder lacks the marker.
    """

    folder: Folder
    files: tuple[Sighting, ...]
    unmarked: tuple[str, ...] = ()

    def pending(self, spec_hash: str) -> list[Sighting]:
        """Return the whole files that no run has dealt with, or that were refused under another YAML."""
        return [
            file
            for file in self.files
            if file.stable_at
            and (file.settled is None or (file.settled == "refused" and file.settled_spec != spec_hash))
        ]

    def sentence(self) -> str:
        """Say why there is nothing to do."""
        growing = [file.key for file in self.files if file.stable_at is None]
        refused = [file.key for file in self.files if file.settled == "refused"]
        out = "nothing new"
        if growing:
            out += f"; {_are(growing)} not stable yet: {_some(growing)}"
        if refused:
            out += f"; {_are(refused)} refused until changed: {_some(refused)}"
        if self.unmarked:
            out += f"; {_are(self.unmarked)} waiting for the marker: {_some(self.unmarked)}"
        return out


def _are(keys: Sequence[str]) -> str:
    return "1 file is" if len(keys) == 1 else f"{len(keys)} files are"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (" …" if len(keys) > _SHOWN else "")


def look_at(spec: SourceSpec, settings: Settings, now: datetime) -> Look:
    """Look at a source's drop and remember what was seen.

    Raises:
        RefreshError: the folder cannot be listed, as `Folder.files`, or the operational store not be used.
    """
    drop = drop_of(spec)
    folder, store = Folder(spec, settings), Sightings(settings.data_dir, spec.source)
    listed, unmarked = _marked(folder.files(), drop.marker)
    known = store.read()
    # The sandbox's files are part of the program, and as old as its installation.
    quiet = timedelta(0) if folder.sandboxed else drop.quiet
    files = look(known, listed, now, quiet)
    before = {(sighting.key, sighting.version): sighting for sighting in known}
    store.write(file for file in files if before.get((file.key, file.version)) != file)
    return Look(folder, tuple(sorted(files, key=arrival)), tuple(unmarked))


def _marked(files: list[Seen], marker: str | None) -> tuple[list[Seen], list[str]]:
    """Divide files into those that count and those whose folder lacks the marker."""
    if marker is None:
        return files, []
    whole = {_folder(file.key) for file in files if _name(file.key) == marker}
    data = [file for file in files if _name(file.key) != marker]
    return [f for f in data if _folder(f.key) in whole], [f.key for f in data if _folder(f.key) not in whole]


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def by_day(files: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    """Return files by the day of their arrival, oldest first."""
    out: dict[str, list[Sighting]] = {}
    for file in sorted(files, key=arrival):
        out.setdefault(file.day, []).append(file)
    return dict(sorted(out.items()))


def pick(files: Sequence[Sighting], drop: Drop) -> list[Sighting]:
    """Return what one run takes of the files that are due, in the order of arrival.

    Files that were asked for in vain come last: what cannot be read must not stand in the way of what
    can. The first request does not count, since the run it was for asks here again.
    """
    chosen: list[Sighting] = []
    size = 0
    for file in sorted(files, key=lambda file: (max(0, file.requests - 1), arrival(file))):
        if len(chosen) == drop.max_files or (chosen and size + file.size > drop.max_total):
            break
        chosen.append(file)
        size += file.size
    return sorted(chosen, key=arrival)
