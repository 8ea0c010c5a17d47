"""What a payload would have done to the table, as examples for a person. Values; no SQL here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refresh_pipelines.redact import mask

# So much of a value is shown, and so many rows of each kind.
LONGEST, EXAMPLES = 80, 5


@dataclass(frozen=True)
class Row:
    """One row: the values of its merge key, and of a known one each column that differs, old and new."""

    key: Mapping[str, str]
    changes: Mapping[str, tuple[str, str]]

    def item(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        changes = {name: list(pair) for name, pair in self.changes.items()}
        return {"key": dict(self.key), **({"changes": changes} if changes else {})}


@dataclass(frozen=True)
class Differences:
    """Rows that would be new, would have other values, and are in the table alone, with how many there are of each."""

    added: Sequence[Row] = ()
    updated: Sequence[Row] = ()
    gone: Sequence[Row] = ()
    number_gone: int = 0

    def item(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        rows = {name: [row.item() for row in getattr(self, name)] for name in ("added", "updated", "gone")}
        return {**rows, "number_gone": self.number_gone}


def shown(value: object) -> str:
    """Return a value as a person may see it: masked before it is cut, in one line."""
    if value is None:
        return "(empty)"
    text = "".join(c if c.isprintable() else " " for c in mask(str(value)))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
