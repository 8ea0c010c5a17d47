"""One payload in the archive: its parts, where they came from, and its manifest as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from refresh_pipelines.drop.ledger import FileEntry
from refresh_pipelines.errors import InternalError
from refresh_pipelines.received import Received

VERSION = 1


@dataclass(frozen=True)
class KeptPart:
    """One page, value or file of a payload.

    Attributes:
        names: the values that only its request had.
        sha256: of the bytes as they are kept; `bytes` is their size when unpacked.
        received: what is known of its answer; None for a dropped file.
    """

    names: Mapping[str, str]
    sha256: str
    bytes: int
    received: Received | None = None


@dataclass(frozen=True)
class Origin:
    """What a payload came with, as far as loading it again needs it.

    Attributes:
        url: logical address of the first part, redacted.
        sha256: of the bytes as they were received, "" where a part is missing; `bytes` is their size.
        etag, last_modified: what may be sent back with the next request.
        published: Last-Modified as far as it says when the data came out.
        start: where reading began, for a source that goes on from its newest row.
        keys: first and last partition, where one payload holds several.
        files: of a drop, what was known of each file.
    """

    url: str = ""
    sha256: str = ""
    bytes: int = 0
    etag: str | None = None
    last_modified: str | None = None
    published: str | None = None
    start: datetime | None = None
    keys: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()


@dataclass(frozen=True)
class ArchiveEntry:
    """One distinct payload. Partition, run and origin are those of the first time it came.

    Attributes:
        id: hash of its parts; of a single one without names the hash of its bytes.
        redacted: the fields that were masked in it.
        masked: whether a credential stood in it.
    """

    id: str
    source: str
    partition: str
    run_id: str
    spec_hash: str
    kept_at: datetime
    parts: tuple[KeptPart, ...]
    origin: Origin = field(default_factory=Origin)
    redacted: tuple[str, ...] = ()
    masked: bool = False

    @property
    def bytes(self) -> int:
        """Size of its parts when unpacked."""
        return sum(part.bytes for part in self.parts)

    @property
    def sha256(self) -> str:
        """Hash of the payload as it was received."""
        return self.origin.sha256

    def text(self) -> str:
        """Return it as a manifest."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, default=_plain, ensure_ascii=False)


def entry_id(parts: Sequence[KeptPart]) -> str:
    """Return the name of a payload with these parts."""
    if len(parts) == 1 and not parts[0].names:
        return parts[0].sha256
    lines = [json.dumps([dict(part.names), part.sha256], sort_keys=True) for part in parts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_entry(text: str) -> ArchiveEntry:
    """Read a manifest. Raises ValueError, KeyError, TypeError; InternalError for one of another version."""
    said = json.loads(text)
    if said.pop("version") != VERSION:
        raise InternalError(
            "a payload in the archive was kept by another version",
            expected=f"manifests of version {VERSION}",
            todo="Read it with the version of refresh_pipelines that wrote it, or a later one.",
        )
    parts = tuple(_part(part) for part in said.pop("parts"))
    origin, kept_at = read_origin(said.pop("origin")), datetime.fromisoformat(said.pop("kept_at"))
    return ArchiveEntry(
        **{**said, "redacted": tuple(said["redacted"])}, kept_at=kept_at, parts=parts, origin=origin
    )  # fmt: skip


def read_origin(said: Mapping[str, Any]) -> Origin:
    """Read an origin back from JSON."""
    files = tuple(_file(one) for one in said.get("files", ()))
    start = said.get("start")
    return Origin(
        **{
            **said,
            "start": start and datetime.fromisoformat(start),
            "keys": tuple(said.get("keys", ())),
            "files": files,
        }
    )


def _part(said: Mapping[str, Any]) -> KeptPart:
    got = said["received"]
    times = (
        {name: got[name] and datetime.fromisoformat(got[name]) for name in ("asked_at", "received_at")} if got else {}
    )
    return KeptPart(
        said["names"], said["sha256"], said["bytes"], Received(**{**got, **times}) if got else None
    )  # fmt: skip


def _file(said: Mapping[str, Any]) -> FileEntry:
    times = {name: said[name] and datetime.fromisoformat(said[name]) for name in _FILE_TIMES}
    return FileEntry(**{**said, **times})


_FILE_TIMES = ("first_seen_at", "stable_at", "processed_at")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in a manifest")


def plain(origin: Origin) -> dict[str, Any]:
    """Return an origin as JSON values, without what is empty."""
    said: dict[str, Any] = json.loads(json.dumps(asdict(origin), default=_plain))
    return {name: value for name, value in said.items() if value not in (None, "", [], 0)}
