"""One word for how a source is doing, from its item of `refresh status`, and whether all is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# What a source may be said to be; the first that holds is said.
STATES = ("broken", "disabled", "blocked", "paused", "failing", "quarantined", "overdue", "fresh", "never run")
_BAD = frozenset({"overdue", "failing", "quarantined", "broken"})
Item = Mapping[str, Any]


def state_of(item: Item, blocked: bool) -> str:
    """Return one of `STATES`; `blocked`: a key is missing."""
    verdicts = {
        "broken": item["incident"] == "broken_yaml",
        "disabled": not item["enabled"],
        "blocked": blocked and not item["overdue"],
        "paused": item["paused"],
        "failing": item["consecutive_failures"] or item["last_outcome"] == "failed",
        "quarantined": item["quarantine"] or item["last_outcome"] == "quarantined",
        "overdue": item["overdue"],
        "fresh": item["last_success_at"],
    }
    return next((state for state, holds in verdicts.items() if holds), "never run")


def is_held(item: Item) -> bool:
    """Whether schedules ask for nothing because the source fails all the time."""
    return bool(item["enabled"] and item["breaker"] in {"open", "half_open"})


def all_well(items: Iterable[Item], states: Iterable[str]) -> bool:
    """Whether no source is overdue, failing, quarantined, held by its breaker or broken, or on a last good version."""
    return _BAD.isdisjoint(states) and not any(item["stale_yaml"] or is_held(item) for item in items)
