"""What `refresh check` prints: one problem, and what became of a source that has some."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing to correct, where it stands. A note is worth reading but stops nothing."""

    file: Path
    line: int
    column: int
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(frozen=True)
class Broken:
    """A source that cannot be loaded.

    Attributes:
        group: the folder's name as found; like `source`, it may be the very thing that is wrong.
        source: the file's stem as found. For a name that is taken, another source bears it too.
        problems: the errors, in the order of the file.
    """

    group: str
    source: str
    file: Path
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """`<group>/<source>`."""
        return f"{self.group}/{self.source}"


def did_you_mean(text: object, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known word, or all of a few, or nothing."""
    words = sorted(set(known))
    folded = {word.lower(): word for word in words}
    near = difflib.get_close_matches(str(text).lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 40 else ""
