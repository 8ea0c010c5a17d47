"""The merge key guessed from the rows: the smallest set of columns that names each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.scaffold.columns import CODE_WORDS, Guess

_MOST = 3
_TRIED = 9
_FEW = 10
_PERIODS = {"year", "month", "week", "day", "date", "quarter", "period", "hour", "time"}
_IDS = CODE_WORDS | {"key", "no", "number", "station", "site", "country", "series"}


@dataclass(frozen=True)
class KeyGuess:
    """The proposed key.

    Attributes:
        unique: whether it names each row (rows identical in every column count as one).
        filled: whether none of its columns is ever empty.
        seen: what was seen, for the comment above it.
    """

    columns: tuple[str, ...]
    unique: bool
    filled: bool
    seen: str


def guess_key(rows: pa.Table, guesses: Sequence[Guess]) -> KeyGuess:
    """Return a key for typed rows: unique and never empty if any is, and always one that can be loaded."""
    distinct = _distinct(rows, rows.column_names)
    repeated = rows.num_rows - distinct
    note = f"; {repeated} rows are identical to another one" if repeated else ""
    note += "; so few prove little" if rows.num_rows < _FEW else ""
    filled = [guess for guess in guesses if not rows[guess.name].null_count and guess.column.type != "json"]
    for names in _sets(rows, filled):
        if _distinct(rows, names) == distinct:
            return KeyGuess(names, True, True, f"names each of the {rows.num_rows} rows seen{note}")
    every = tuple(guess.name for guess in filled)
    if every and _distinct(rows, every) == distinct:
        return KeyGuess(every, True, True, f"no {_MOST} columns name each row; all that are never empty do{note}")
    return _least_bad(rows, guesses, every, distinct)


def judge_key(rows: pa.Table, names: tuple[str, ...]) -> KeyGuess:
    """Return what the rows say of a key that somebody chose."""
    empty = [name for name in names if rows[name].null_count]
    found, distinct = _distinct(rows, names), _distinct(rows, rows.column_names)
    seen = f"as asked for; names each of the {rows.num_rows} rows seen"
    if empty:
        seen = f"as asked for; but {', '.join(empty)} is empty in some rows"
    elif found < distinct:
        seen = f"as asked for; but it takes {found} values in {distinct} different rows"
    return KeyGuess(names, found == distinct, not empty, seen)


def _least_bad(rows: pa.Table, guesses: Sequence[Guess], filled: tuple[str, ...], distinct: int) -> KeyGuess:
    if filled:
        seen = f"{', '.join(filled)} take {_distinct(rows, filled)} values in {distinct} different rows"
        return KeyGuess(filled, False, True, f"no set of columns names each row: {seen}")
    best = min(guesses, key=lambda guess: rows[guess.name].null_count)
    empty, unique = rows[best.name].null_count, _distinct(rows, (best.name,)) == distinct
    seen = f"every column is empty somewhere, this one in {empty} rows" if empty else "no column is a plain value"
    return KeyGuess((best.name,), unique, not empty, seen)


def _distinct(rows: pa.Table, names: Sequence[str]) -> int:
    return int(rows.select(list(names)).group_by(list(names)).aggregate([]).num_rows)


def _sets(rows: pa.Table, filled: Sequence[Guess]) -> Iterator[tuple[str, ...]]:
    """Yield sets of columns, the likeliest to be meant first: small ones of ids and dates."""
    ranks = {guess.name: _rank(rows, guess) for guess in filled}
    order = sorted(ranks, key=lambda name: ranks[name])
    for worst in sorted({rank // 10 for rank in ranks.values()}):
        within = [name for name in order if ranks[name] // 10 <= worst][:_TRIED]
        for size in range(1, _MOST + 1):
            for names in combinations(within, size):
                if max(ranks[name] for name in names) // 10 == worst:
                    yield tuple(guess.name for guess in filled if guess.name in names)


def _rank(rows: pa.Table, guess: Guess) -> int:
    """Return how little a column looks like part of a key; tens are steps that are not mixed lightly."""
    kind, words = guess.column.type, set(guess.name.split("_"))
    if kind in ("date", "timestamp", "timestamptz"):
        return 1
    if kind in ("int", "bigint"):
        return 0 if words & _IDS else 2 if words & _PERIODS else 11
    if kind == "text":
        length = pc.mean(pc.utf8_length(rows[guess.name])).as_py() or 0
        return 0 if words & _IDS else 3 if length <= 40 else 20
    return 21 if kind == "bool" else 30
