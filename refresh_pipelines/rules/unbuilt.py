"""Keys of the grammar whose mechanism does not exist yet: the one table, and the rule that reads it.

Without its mechanism a key of `REFUSED` would load something else than the file says: an error.
One of `IDLE` only tunes what comes later: a note. A mechanism that is built leaves the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem


def _is_set(value: Any) -> bool:
    return value is not None


def _is(*texts: Any) -> Callable[[Any], bool]:
    return lambda value: value in texts


REFUSED: dict[tuple[str, ...], Callable[[Any], bool]] = {
    ("load", "mode"): _is("snapshot", "append"),
    ("load", "history"): _is(True),
    ("load", "drift"): _is("evolve", "freeze"),
    ("expect", "change"): _is_set,
}
IDLE: tuple[tuple[str, ...], ...] = (
    # Any rejected row fails the load: stricter than asked, so nothing wrong is loaded.
    ("load", "reject_share"),
    ("priority",),
)


def check_unbuilt(draft: Draft) -> Iterator[Problem]:
    """Nothing is written that this version would silently pass over."""
    for loc, refused in REFUSED.items():
        value = _value(draft, loc)
        if loc in draft.document.keys and refused(value):
            shown = ".".join(loc) if isinstance(value, dict | list) else f"{'.'.join(loc)}: {_yaml(value)}"
            yield draft.problem(loc, f"{shown} is not available in this version", key=True)
    for loc in IDLE:
        if draft.wrote(*loc):
            yield draft.problem(loc, f"{'.'.join(loc)} has no effect yet", key=True, severity="note")


def _value(draft: Draft, loc: tuple[str, ...]) -> Any:
    value: Any = draft.raw
    for key in loc:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
