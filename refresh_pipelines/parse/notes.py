"""Remarks a parser leaves for the outcome: things that are no error, and that a person should see."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_REMARKS = 20


@dataclass
class Notes:
    """Collected while batches stream by.

    Attributes:
        fallbacks: values that were not valid in the declared encoding and read with the fallback.
        passed_over: rows that `format.where` leaves out.
        headers: rows that only repeated the header of a CSV, and were passed over.
        ignored: fields of the payload that no declared column reads.
        remarks: what else a person should know, each once.
        published: `format.published` of the payload as written, None if not declared or not there.
    """

    fallbacks: int = 0
    passed_over: int = 0
    headers: int = 0
    ignored: list[str] = field(default_factory=list)
    remarks: dict[str, None] = field(default_factory=dict)
    published: str | None = None

    def remark(self, text: str) -> None:
        """Remember a sentence, once."""
        self.remarks[text] = None

    def texts(self) -> list[str]:
        """Return the remarks as sentences."""
        out = []
        if self.fallbacks:
            out.append(f"{self.fallbacks} values were read with the fallback encoding")
        if self.headers:
            out.append(f"{self.headers} rows repeat the header and were passed over")
        if self.ignored:
            out.append("fields that are not declared: " + ", ".join(self.ignored))
        first = list(self.remarks)[:MOST_REMARKS]
        more = len(self.remarks) - len(first)
        return [*out, *first, *([f"and {more} remarks more"] if more else [])]
