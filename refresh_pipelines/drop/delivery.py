"""The files one refresh of a drop takes: those of its day that are whole and that the file ledger does not know.

They are copied one at a time. What need not be read (a copy of what was loaded) or must not be (too
large, a name that may not come twice) gets its entry of the ledger here; the others get theirs when
they have been read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path

from refresh_pipelines.delivery import Delivery
from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.drop.listing import Moved, drop_of
from refresh_pipelines.drop.look import Look, look_at, pick
from refresh_pipelines.drop.sightings import Sightings
from refresh_pipelines.drop.stability import Sighting
from refresh_pipelines.errors import Interrupted, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Part, naming
from refresh_pipelines.warehouse import Warehouse
from refresh_pipelines.window import Window

_CHUNK = 1 << 20
_HELD = ("loaded", "unchanged", "duplicate")


@dataclass(frozen=True)
class NothingToRead:
    """No file of this day has to be read; `why` says what lies there instead."""

    why: str


@dataclass(frozen=True)
class DropTools:
    """What taking files needs of a refresh. `now` is the instant of the look."""

    settings: Settings
    warehouse: Warehouse
    now: datetime
    run_id: str
    force: bool = False


@dataclass
class _Copied:
    """One file on our disk."""

    file: Sighting
    path: Path
    sha256: str


@dataclass
class _Take:
    """What is known so far of the files of one refresh."""

    spec: SourceSpec
    partition: str
    tools: DropTools
    copied: list[_Copied] = field(default_factory=list)
    entries: list[FileEntry] = field(default_factory=list)
    missing: list[tuple[str, RefreshError]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def entry(self, file: Sighting, sha256: str = "", reason: str | None = None) -> FileEntry:
        """Return what the ledger says of a file that is loaded; refused where there is a reason."""
        return FileEntry(
            self.spec.source,
            file.key,
            file.version,
            file.size,
            sha256,
            file.first_seen_at,
            file.stable_at,
            self.tools.now,
            "refused" if reason else "loaded",
            reason=reason,
            partition=self.partition,
            run_id=self.tools.run_id,
            spec_hash=self.spec.spec_hash,
        )

    def refuse(self, file: Sighting, error: RefreshError, sha256: str = "") -> None:
        """Refuse a file: it is not read again until it changes."""
        self.missing.append((file.key, error))
        self.entries.append(self.entry(file, sha256, str(error)))


def take_files(spec: SourceSpec, window: Window, tools: DropTools, folder: Path) -> Delivery | NothingToRead:
    """Copy the files of one day that have to be read into `folder`.

    Raises:
        RefreshError: the folder cannot be listed, the warehouse not be asked, or the first file not be copied.
    """
    look = look_at(spec, tools.settings, tools.now)
    take = _Take(spec, window.partition or "", tools)
    due = _due(take, look)
    chosen = pick(due, drop_of(spec))
    if len(chosen) < len(due):
        take.remarks.append(f"{len(due) - len(chosen)} files are left for the next run")
    for file in chosen:
        if not _copy(take, look, file, folder / f"file-{len(take.copied)}"):
            break
    _set_aside(take)
    if take.missing and not take.copied and not take.entries:
        raise take.missing[0][1]
    if not take.copied and not take.entries:
        return NothingToRead("; ".join([look.sentence(), *take.remarks]))
    return _delivery(take, look)


def _due(take: _Take, look: Look) -> list[Sighting]:
    """Return the files of the day that are to be read, and tell the operational store what the ledger knows."""
    spec, tools = take.spec, take.tools
    asked = [file for file in look.files if file.stable_at and (file.settled is None or file.day == take.partition)]
    entries, _ = tools.warehouse.files(spec.source, spec.raw_table, keys=[file.key for file in asked])
    known = {(entry.key, entry.version): entry for entry in entries if entry.status != "replaced"}
    lost = [file for file in asked if file.settled is None and (file.key, file.version) in known]
    Sightings(tools.settings.data_dir, spec.source).settle([known[file.key, file.version] for file in lost])
    due = []
    for file in asked:
        entry = known.get((file.key, file.version))
        day = entry.partition if entry else file.day
        if day == take.partition and (entry is None or tools.force or entry.spec_hash != spec.spec_hash):
            due.append(replace(file, first_seen_at=entry.first_seen_at) if entry else file)
    return due


def _copy(take: _Take, look: Look, file: Sighting, path: Path) -> bool:
    """Copy one file; return False when the storage cannot be reached, so that the rest is left for later."""
    most = take.spec.request.max_bytes
    try:
        with naming({"file": file.key}):
            if file.size > most:
                raise _too_large(file, most)
            look.folder.copy(file, path)
    except Moved:
        take.remarks.append(f"{file.key} changed while it was read and is left for the next look")
    except UpstreamUnavailable as error:
        take.missing.append((file.key, error))
        return False
    except RefreshError as error:
        if isinstance(error, Interrupted):
            raise
        if file.size > most:
            take.refuse(file, error)
        else:
            take.missing.append((file.key, error))
    else:
        take.copied.append(_Copied(file, path, _sha256(path)))
    return True


def _too_large(file: Sighting, most: int) -> UpstreamRefused:
    return UpstreamRefused(
        "the file is too large",
        expected=f"at most {most} bytes (request.max_bytes)",
        came=f"{file.size}",
        todo="Raise request.max_bytes if it is in order; it is then read by the next run.",
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _set_aside(take: _Take) -> None:
    """Take out of the copied files those that bring nothing new, and those whose name may not come twice."""
    if not take.copied:
        return
    spec = take.spec
    entries, _ = take.tools.warehouse.files(
        spec.source, spec.raw_table, [c.file.key for c in take.copied], [c.sha256 for c in take.copied]
    )
    own = {(copied.file.key, copied.file.version) for copied in take.copied}
    held = [e for e in entries if e.status in _HELD and (e.key, e.version) not in own]
    current = [entry for entry in held if entry.spec_hash == spec.spec_hash]
    same = {(entry.key, entry.sha256) for entry in current}
    contents = {} if spec.file_column else {entry.sha256: entry.key for entry in current}
    names = {entry.key for entry in held}
    rest = []
    for copied in take.copied:
        file, sha256 = copied.file, copied.sha256
        if (file.key, sha256) in same:
            entry = replace(take.entry(file, sha256), status="unchanged", reason="the bytes of an earlier version")
        elif drop_of(spec).same_name == "refuse" and file.key in names:
            take.refuse(file, _same_name(file), sha256)
            entry = None
        elif sha256 in contents:
            entry = replace(take.entry(file, sha256), status="duplicate", reason=f"the bytes of {contents[sha256]}")
        else:
            rest.append(copied)
            continue
        copied.path.unlink()
        take.entries += [entry] if entry else []
    take.copied = rest


def _same_name(file: Sighting) -> UpstreamRefused:
    with_name = UpstreamRefused(
        "a file of this name was loaded before, and same_name is refuse",
        expected="a new name for new content",
        came=f"version {file.version}",
        todo="Drop it under another name, or say same_name: replace.",
    )
    with_name.problem = f"file={file.key}: {with_name.problem}"
    return with_name


def _delivery(take: _Take, look: Look) -> Delivery:
    copied = take.copied
    lines = [f"{c.file.key} {c.sha256}" for c in copied]
    touched = [c.file.modified_at for c in copied if c.file.modified_at]
    aside = [entry for entry in take.entries if entry.status != "refused"]
    if aside:
        take.remarks.append(f"{len(aside)} files hold nothing new: {_some([entry.key for entry in aside])}")
    return Delivery(
        parts=tuple(Part(c.path, {"file": c.file.key}) for c in copied),
        url=look.folder.url,
        sha256=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        bytes=sum(c.file.size for c in copied),
        validators=None,
        last_modified=format_datetime(max(touched), usegmt=True) if touched else None,
        missing=tuple(take.missing),
        files=(*take.entries, *(take.entry(c.file, c.sha256) for c in copied)),
        remarks=tuple(take.remarks),
    )


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")
