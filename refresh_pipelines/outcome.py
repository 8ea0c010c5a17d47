"""What a refresh did: the one value that event log, tables, JSON and alerts are written from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.spec import SourceSpec

Kind = Literal["loaded", "unchanged", "empty", "partial", "not_yet", "quarantined", "failed", "blocked"]
SUCCESS: frozenset[str] = frozenset({"loaded", "unchanged", "empty", "partial"})
GOOD_EXIT: frozenset[str] = frozenset({"loaded", "unchanged", "empty", "not_yet", "blocked"})


@dataclass
class Counts:
    """Rows by what became of them. `fetched` is after the declared filter."""

    fetched: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    rejected: int = 0
    duplicates: int = 0
    filtered: int = 0

    def balanced(self) -> bool:
        """Whether every fetched row is accounted for (design §5)."""
        return self.fetched == self.added + self.updated + self.unchanged + self.rejected + self.duplicates


@dataclass
class Seconds:
    """Where the time of a refresh went, in seconds; `wait` is for locks."""

    fetch: float = 0.0
    parse: float = 0.0
    load: float = 0.0
    wait: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.fetch + self.parse + self.load + self.wait


@dataclass
class Outcome:
    """One refresh of one partition.

    Attributes:
        sha256: hash of the payload's bytes; `bytes` is its size as received and decoded.
        data_version: hash of the accepted content; the same again when nothing changed.
        partition_rows: rows of this partition in the table afterwards; None if not looked up.
        changed_at: when the rows last changed, None if never loaded.
        published_at: Last-Modified of the accepted payload, None if the upstream gives none.
        table_rows: rows of the table afterwards; None if not looked up.
        retry_at: of a refresh that failed: before this instant the upstream wants no other request.
        bytes_saved: size of the accepted payload where it need not be transferred again, as the upstream said so.
        validators: how far what the upstream says of changes is believed, in words; empty where nothing was asked.
        quarantine: id of the payload that waits in place of being loaded, or that somebody has accepted.
        accepted_by: who did.
        disagreements: what sources say that do not agree, of a table that chooses between them.
        asked_at: of a replay, which asks nobody: when the upstream was last asked with success; None if never.
        inputs: hash of the data versions that a derived source was built from, "" for all others.
        notes: remarks for a person, for instance fields that were not declared.
    """

    source: str
    group: str
    partition: str | None
    outcome: Kind
    counts: Counts = field(default_factory=Counts)
    seconds: Seconds = field(default_factory=Seconds)
    bytes: int = 0
    sha256: str = ""
    data_version: str = ""
    error_class: str | None = None
    message: str | None = None
    partition_rows: int | None = None
    table_rows: int | None = None
    changed_at: datetime | None = None
    published_at: datetime | None = None
    run_id: str = ""
    started_at: str | None = None
    trigger: str = "manual"
    retry_at: datetime | None = None
    bytes_saved: int = 0
    validators: str = ""
    quarantine: str = ""
    accepted_by: str = ""
    disagreements: tuple[str, ...] = ()
    asked_at: datetime | None = None
    inputs: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the table is now known to hold what the upstream serves."""
        return self.outcome in SUCCESS

    @property
    def checked_at(self) -> datetime | None:
        """When the table was known to hold what the upstream serves; None where it was not asked, or did not tell.

        A replay changes rows and asks nobody.
        """
        return datetime.fromisoformat(self.started_at) if self._checked and self.started_at else None

    @property
    def _checked(self) -> bool:
        return self.success and self.trigger != "replay"

    def item(self) -> dict[str, Any]:
        """Return the JSON item of `refresh run` and `refresh history` (design §11)."""
        return {
            "source": self.source,
            "group": self.group,
            "partition": self.partition,
            "outcome": self.outcome,
            "error_class": self.error_class,
            "message": self.message,
            **asdict(self.counts),
            "bytes": self.bytes,
            "bytes_saved": self.bytes_saved,
            "sha256": self.sha256,
            "seconds": round(self.seconds.total, 3),
            "run_id": self.run_id,
            "started_at": self.started_at,
            "trigger": self.trigger,
            "quarantine": self.quarantine or None,
        }


def failed(spec: SourceSpec, partition: str | None, error: RefreshError) -> Outcome:
    """Return the outcome of a refresh that ended with `error`, which learns where it happened."""
    error.at(spec.name, partition)
    return Outcome(
        spec.source,
        spec.group,
        partition,
        "failed",
        Counts(fetched=error.fetched, rejected=error.rejected),
        Seconds(**error.seconds),
        bytes=error.bytes,
        sha256=error.sha256,
        error_class=error.error_class,
        message=str(error),
        retry_at=error.retry_at,
    )
