"""A part of a source's score: a mean over what happened, of which the newest weighs most. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(days=90)
HALF_LIFE = timedelta(days=30)
_MOST_NAMED = 3


@dataclass(frozen=True)
class Item:
    """One thing that counts.

    Attributes:
        at: when it was.
        value: from 0 to 1.
        weight: in the mean.
        text: what lowered it, and when.
    """

    at: datetime
    value: float
    weight: float
    text: str = ""


@dataclass(frozen=True)
class Part:
    """One part of a score.

    Attributes:
        weight: of the part in the whole.
        value: from 0 to 1; None without anything to judge by.
        count: over how many things it is the mean.
        lowered_by: what lowered it most, the worst first.
        more: how many more lowered it.
    """

    name: str
    weight: float
    value: float | None
    count: int = 0
    lowered_by: tuple[str, ...] = ()
    more: int = 0


def decay(age: timedelta) -> float:
    """Return how much something of an age counts: half as much after each half-life, 1 for what is ahead."""
    return float(0.5 ** (max(age, timedelta(0)) / HALF_LIFE))


def part_of(name: str, weight: float, items: Sequence[Item]) -> Part:
    """Return the part that is the weighted mean of some items."""
    if not items:
        return Part(name, weight, None)
    total = sum(item.weight for item in items)
    value = sum(item.weight * item.value for item in items) / total if total else min(item.value for item in items)
    losses = [item for item in items if item.value < 1 and item.text]
    losses.sort(key=lambda item: (-item.weight * (1 - item.value), item.at))
    named = tuple(item.text for item in losses[:_MOST_NAMED])
    return Part(name, weight, min(1.0, max(0.0, value)), len(items), named, len(losses) - len(named))
