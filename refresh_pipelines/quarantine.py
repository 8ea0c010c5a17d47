"""Payloads that wait for a person: `data/quarantine/<source>/<id>.json`, one file for each.

A record needs no database and outlives `ops.sqlite`. The bytes are in the archive, under `payload`. Records of a
partition are written under its lock, or by the person who decides; each is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from refresh_pipelines.errors import InternalError
from refresh_pipelines.plausible import Limits, Reason
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.whole import write_whole

State = Literal["waiting", "accepted", "rejected", "superseded"]
VERSION = 1
# Of an upstream that writes the time into each answer, the bytes of so many are known again without being read.
_HASHES = 20
# Decided ones are of interest for a while; those that wait stay.
KEPT = 50


@dataclass(frozen=True)
class Record:
    """One payload that was a surprise.

    Attributes:
        id: eight characters; the same for the same rows of the same partition.
        partition: None without partitions.
        payload: id of the archive's entry.
        content_hash: of its rows; sha256: of the bytes they came as, the newest last.
        judged_by: what it was judged by; under other limits, or another YAML, it is judged anew.
        run_id, at: of the refresh that held it first; seen_at, seen: of the last one, and how many there were.
        rows_before, rows_now: of the partition in the table, and of the payload.
        counts: what the load would have done.
        differences: examples of rows, as `Differences.item` has them.
        start: where reading began, for a source that goes on from its newest row.
        decided_at, decided_by: who accepted or rejected it, and when it was superseded.
        superseded_by: the record of the newer payload that waits in its place, "" where one was loaded.
        loaded_by: the run that loaded it.
    """

    id: str
    source: str
    group: str
    partition: str | None
    payload: str
    content_hash: str
    sha256: tuple[str, ...]
    judged_by: str
    run_id: str
    at: str
    seen_at: str
    rows_before: int
    rows_now: int
    reasons: tuple[Reason, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    differences: Mapping[str, Any] = field(default_factory=dict)
    bytes: int = 0
    start: str | None = None
    seen: int = 1
    state: State = "waiting"
    decided_at: str | None = None
    decided_by: str = ""
    superseded_by: str = ""
    loaded_by: str = ""

    @property
    def where(self) -> str:
        """Source and partition as messages name them."""
        name = f"{self.group}/{self.source}"
        return f"{name}[{self.partition}]" if self.partition else name

    def item(self) -> dict[str, Any]:
        """Return the JSON item of `refresh quarantine`."""
        return {
            **asdict(self),
            "outcome": "quarantined",
            "reasons": [{**asdict(reason)} for reason in self.reasons],
            "sha256": self.sha256[-1] if self.sha256 else "",
        }


@dataclass(frozen=True)
class Accept:
    """A person's word that a payload is right: it is loaded from the archive, through the contract and unjudged."""

    record: Record
    by: str


def record_id(source: str, partition: str | None, content_hash: str) -> str:
    """Return the id of rows of a partition: short enough to be typed."""
    return hashlib.sha256(f"{source}|{partition or ''}|{content_hash}".encode()).hexdigest()[:8]


def judged_by(spec: SourceSpec) -> str:
    """Return a hash of what decides whether a payload is a surprise, beside the payload and the past."""
    return hashlib.sha256(f"{spec.spec_hash}{Limits.of(spec.expect)}".encode()).hexdigest()[:16]


class Quarantine:
    """The records below one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "quarantine"

    def of(self, source: str) -> list[Record]:
        """Return the records of a source, the newest first. Raises InternalError for one that cannot be read."""
        found = [_read(path) for path in sorted((self.folder / source).glob("*.json"))]
        return sorted(found, key=lambda record: (record.at, record.id), reverse=True)

    def waiting(self, source: str, partition: str | Literal["any"] | None = "any") -> list[Record]:
        """Return those that wait for a person, the newest first."""
        return [
            record for record in self.of(source) if record.state == "waiting" and partition in ("any", record.partition)
        ]

    def all(self) -> list[Record]:
        """Return every record, the newest first."""
        sources = sorted(path.name for path in self.folder.glob("*") if path.is_dir())
        found = [record for source in sources for record in self.of(source)]
        return sorted(found, key=lambda record: (record.at, record.id), reverse=True)

    def find(self, start: str) -> list[Record]:
        """Return the records whose id begins so."""
        if not start.isalnum():
            return []
        return [_read(path) for path in sorted(self.folder.glob(f"*/{start}*.json"))]

    def get(self, source: str, record: str) -> Record | None:
        """Return one record of a source, None if there is none."""
        path = self._path(source, record)
        return _read(path) if path.is_file() else None

    def write(self, record: Record) -> Record:
        """Write a record in the place of the one with its id, and return it."""
        path = self._path(record.source, record.id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps({"version": VERSION, **asdict(record)}, indent=1, ensure_ascii=False))
        except OSError as error:
            raise InternalError(
                f"the record of a payload that waits cannot be written to {path}",
                came=str(error),
                todo="Nothing was loaded. Check REFRESH_DATA_DIR, its rights and the disk.",
            ) from error
        return record

    def seen_again(self, record: Record, sha256: str, now: datetime) -> Record:
        """Remember that a payload came once more; one that a newer one had pushed aside waits again."""
        hashes = (*(one for one in record.sha256 if one != sha256), sha256)[-_HASHES:]
        again = replace(record, sha256=hashes, seen_at=stamp(now), seen=record.seen + 1)
        if record.state == "superseded":
            again = replace(again, state="waiting", decided_at=None, superseded_by="")
        return self.write(again)

    def supersede(self, source: str, partition: str | None, now: datetime, by: str = "", but: str = "") -> None:
        """Close the waiting records of a partition except `but`: something newer was loaded, or waits as `by`."""
        for record in self.waiting(source, partition):
            if record.id != but:
                self.write(replace(record, state="superseded", decided_at=stamp(now), superseded_by=by))
        self._forget(source)

    def accept(self, record: Record, by: str, run_id: str, now: datetime) -> Record:
        """Write down that a payload was loaded because a person wanted it."""
        return self.write(replace(record, state="accepted", decided_at=stamp(now), decided_by=by, loaded_by=run_id))

    def reject(self, record: Record, by: str, now: datetime) -> Record:
        """Write down that a payload is never to be loaded."""
        return self.write(replace(record, state="rejected", decided_at=stamp(now), decided_by=by))

    def _forget(self, source: str) -> None:
        """Remove the oldest of the superseded and accepted ones, so that a bad year does not fill the folder."""
        over = [record for record in self.of(source) if record.state in ("superseded", "accepted")][KEPT:]
        for record in over:
            self._path(source, record.id).unlink(missing_ok=True)

    def _path(self, source: str, record: str) -> Path:
        return self.folder / source / f"{record}.json"


def known_surprise(spec: SourceSpec, records: Sequence[Record], partition: str | None, sha256: str) -> Record | None:
    """Return the record of bytes that were judged before, by the limits of now, and not accepted since."""
    held = (record for record in records if record.partition == partition and record.state in ("waiting", "rejected"))
    return next((one for one in held if sha256 in one.sha256 and one.judged_by == judged_by(spec)), None)


def payloads_held(data_dir: Path) -> Iterator[str]:
    """Yield the archive's entries that must stay because they wait for a person."""
    for record in Quarantine(data_dir).all():
        if record.state == "waiting":
            yield record.payload


def stamp(now: datetime) -> str:
    """Return an instant as records have it."""
    return now.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _read(path: Path) -> Record:
    try:
        said = json.loads(path.read_text())
        said.pop("version")
        reasons = tuple(Reason(**reason) for reason in said.pop("reasons"))
        return Record(**{**said, "reasons": reasons, "sha256": tuple(said["sha256"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InternalError(
            f"{path} is no record of a payload that waits",
            came=str(error),
            todo="Move the file away: if the upstream still serves that payload, the next refresh writes it anew.",
        ) from error
