"""The three clocks of a source: checked, changed and published. Pure; `docs/clocks.md` has the table of outcomes.

checked: when the table was last known to hold what the upstream serves. changed: when rows last changed. published:
what the upstream says of its own publication, which may be wrong, and then that is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from refresh_pipelines.outcome import Outcome

# Days are published in all time zones, and clocks differ.
AHEAD = timedelta(days=1)
_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


@dataclass(frozen=True)
class Clocks:
    """Where they stand; None where nothing is known."""

    checked: datetime | None = None
    changed: datetime | None = None
    published: datetime | None = None


@dataclass(frozen=True)
class Savings:
    """What some refreshes transferred, in bytes of decoded payloads, and what they need not transfer again."""

    refreshes: int = 0
    transferred: int = 0
    saved: int = 0
    since: str | None = None

    def sentence(self) -> str:
        """Say it in one line, empty where nothing was asked for."""
        if not (self.saved or self.transferred):
            return ""
        share = round(100 * self.saved / (self.saved + self.transferred))
        begun = f" since {self.since[:10]}" if self.since else ""
        return (
            f"{size_text(self.saved)} saved ({share} %), {size_text(self.transferred)} transferred by "
            f"{self.refreshes} refresh{'es' if self.refreshes != 1 else ''}{begun}"
        )


def clocks_of(outcomes: Iterable[Outcome]) -> Clocks:
    """Return where the clocks stand after some outcomes of a source, the newest first.

    A recovered event is logged late and told with its own time, so the order alone does not decide.
    """
    good = [outcome for outcome in outcomes if outcome.success]
    latest: dict[str | None, Outcome] = {}
    for outcome in good:
        latest.setdefault(outcome.partition, outcome)
    return Clocks(
        max((at for outcome in good if (at := outcome.checked_at)), default=None),
        max((outcome.changed_at for outcome in good if outcome.changed_at), default=None),
        max((one.published_at for one in latest.values() if one.published_at), default=None),
    )


def savings_of(outcomes: Iterable[Outcome]) -> Savings:
    """Add up what some outcomes transferred and saved."""
    known = list(outcomes)
    return Savings(
        len(known),
        sum(outcome.bytes for outcome in known),
        sum(outcome.bytes_saved for outcome in known),
        min((outcome.started_at for outcome in known if outcome.started_at), default=None),
    )


def remarks(before: datetime | None, after: datetime | None, now: datetime) -> list[str]:
    """Say what is odd about a publication.

    Args:
        before: what the upstream said of the payload that was accepted before.
        after: what it says now.
        now: the time it is.
    """
    said = []
    if before and after and after < before:
        said.append(f"the upstream says it published this on {_text(after)}, before {_text(before)} that it said last")
    if after and is_ahead(after, now):
        said.append(f"the upstream says it published this on {_text(after)}, which is in the future")
    return said


def is_ahead(published: datetime, now: datetime) -> bool:
    """Whether a publication lies in the future, whatever the time zone it was meant in."""
    return published - now > AHEAD


def size_text(size: int) -> str:
    """Write a number of bytes for people, in decimal units."""
    unit, name = next(((unit, name) for unit, name in _SIZES if size >= unit), (1, "B"))
    return f"{size / unit:.1f} {name}" if unit > 1 else f"{size} B"


def _text(at: datetime) -> str:
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
