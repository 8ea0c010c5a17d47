"""What a commit would do to a table, for a person who looks before anything is loaded. Values; no SQL here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from refresh_pipelines.differences import Row
from refresh_pipelines.plausible import Reason


@dataclass(frozen=True)
class Effects:
    """What would happen.

    Attributes:
        added: a few rows that would be new, with all their values.
        updated: a few that would change, old and new.
        deleted: a few that would leave the table, with all their values.
        columns: how many rows would change in each column.
        new_columns: columns the table would get, with their types; all of them where there is no table yet.
        creates: whether there is no table yet.
        reasons: why the payload is a surprise and would wait in quarantine.
    """

    added: Sequence[Mapping[str, str]] = ()
    updated: Sequence[Row] = ()
    deleted: Sequence[Mapping[str, str]] = ()
    columns: Mapping[str, int] = field(default_factory=dict)
    new_columns: Mapping[str, str] = field(default_factory=dict)
    creates: bool = False
    reasons: Sequence[Reason] = ()

    def item(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "creates_table": self.creates,
            "new_columns": dict(self.new_columns),
            "changed_columns": dict(self.columns),
            "added_rows": [dict(row) for row in self.added],
            "updated_rows": [row.item() for row in self.updated],
            "deleted_rows": [dict(row) for row in self.deleted],
            "surprises": [asdict(reason) for reason in self.reasons],
        }
