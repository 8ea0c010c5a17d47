"""Remarks a parser leaves for the outcome: things that are no error, and that a person should see."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Notes:
    """Collected while batches stream by.

    Attributes:
        fallbacks: values that were not valid in the declared encoding and read with the fallback.
        ignored: fields of the payload that no declared column reads.
        published: `format.published` of the payload as written, None if not declared or not there.
    """

    fallbacks: int = 0
    ignored: list[str] = field(default_factory=list)
    published: str | None = None

    def texts(self) -> list[str]:
        """Return the remarks as sentences."""
        out = []
        if self.fallbacks:
            out.append(f"{self.fallbacks} values were read with the fallback encoding")
        if self.ignored:
            out.append("fields that are not declared: " + ", ".join(self.ignored))
        return out
