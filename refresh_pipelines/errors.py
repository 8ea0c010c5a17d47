"""The error tree: what can go wrong in a refresh, and whether trying again may help.

Every error names what was expected, what came and what to do; source and partition are added
once, by `refresh`, with :meth:`RefreshError.at`. The text is built in one place.

RefreshError
├── UpstreamUnavailable   transient: timeouts, 5xx, 429, a body cut short
├── UpstreamRefused       permanent: 4xx, a web page in place of data, an error object
├── ContractViolation     contract: the rows are not what the source declares
│   └── WrongPeriod       contract: the rows belong to another period than the one asked for
├── WarehouseBusy         busy: another program holds the warehouse or the same partition
├── SpecChanged           permanent: the YAML no longer fits the table it loads
├── Interrupted           interrupted: the run was cancelled
└── InternalError         internal: a defect of ours, or the machine's trouble
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import ClassVar, Literal

from refresh_pipelines.redact import mask

ErrorClass = Literal["transient", "permanent", "contract", "busy", "interrupted", "internal"]


# The list of all fields of a wide table is shorter.
LONGEST = 6_000


def _readable(text: str) -> str:
    """Return what may be shown of words that are quoted from an answer.

    Upstreams repeat requests with their keys, and an answer may be of any length and hold what upsets a terminal or
    is refused by a database.
    """
    masked = mask(text)  # before it is cut: half a key is too much of it
    shown = masked if len(masked) <= LONGEST else masked[:LONGEST] + " …"
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in shown)


class RefreshError(Exception):
    """One refresh did not succeed.

    Args:
        problem: what is wrong, as a clause without a full stop.
        expected: what was expected, or empty.
        came: what came instead, or empty.
        todo: what a person can do about it, or empty.

    Attributes:
        retry_at: before this instant the upstream wants no other request; None where it has not said so.
        stops: whether the run ends with it, whatever of its partitions is left, and does not try again.
    """

    error_class: ClassVar[ErrorClass] = "internal"
    retryable: ClassVar[bool] = False
    stops: bool = False

    def __init__(self, problem: str, *, expected: str = "", came: str = "", todo: str = "") -> None:
        self.problem, self.expected, self.came, self.todo = map(_readable, (problem, expected, came, todo))
        self.source: str | None = None
        self.partition: str | None = None
        self.retry_at: datetime | None = None
        # What is known of the refresh that failed, for its record: rows seen and refused, the payload, the time spent.
        self.fetched = self.rejected = self.bytes = 0
        self.sha256 = ""
        self.seconds: dict[str, float] = {}
        super().__init__(self.problem)

    def at(self, source: str, partition: str | None) -> RefreshError:
        """Say where it happened, unless a deeper place said so already, and return the error."""
        self.source = self.source or source
        self.partition = self.partition or partition
        return self

    def __str__(self) -> str:
        where = (
            "" if not self.source else f"{self.source}[{self.partition}]: " if self.partition else f"{self.source}: "
        )
        parts = [where + self.problem]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.came:
            parts.append(f"got {self.came}")
        text = "; ".join(parts).rstrip(".") + "."
        if self.retry_at:
            until = self.retry_at.astimezone(timezone.utc)
            text += f" The upstream wants to be left alone until {until:%Y-%m-%d %H:%M:%S} UTC."
        return f"{text} {self.todo}" if self.todo else text


class UpstreamUnavailable(RefreshError):
    """The upstream could not be reached or broke off; the same request may pass later."""

    error_class = "transient"
    retryable = True


class UpstreamRefused(RefreshError):
    """The upstream answered, and the same request will be answered the same way."""

    error_class = "permanent"


class ContractViolation(RefreshError):
    """The payload was read, but its rows are not what the source declares."""

    error_class = "contract"


class WrongPeriod(ContractViolation):
    """The rows belong to another period.

    Args:
        earlier: true when every row lies before the period asked for, the sign of a period that
            is not published yet.
    """

    def __init__(self, problem: str, *, earlier: bool, expected: str = "", came: str = "", todo: str = "") -> None:
        super().__init__(problem, expected=expected, came=came, todo=todo)
        self.earlier = earlier


class WarehouseBusy(RefreshError):
    """Somebody else held the warehouse, or this partition, for longer than we wait."""

    error_class = "busy"
    retryable = True


class SpecChanged(RefreshError):
    """The YAML was changed in a way the existing table cannot follow."""

    error_class = "permanent"


class Interrupted(RefreshError):
    """The run was cancelled or its process asked to stop."""

    error_class = "interrupted"
    stops = True


class InternalError(RefreshError):
    """A defect of ours, or trouble of the machine we run on (disk, rights, memory): the message says which.

    Neither is the upstream's doing, so neither counts against the source.
    """

    error_class = "internal"
