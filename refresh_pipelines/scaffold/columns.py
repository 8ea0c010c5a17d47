"""Column types and names guessed from all values of a payload, on the cautious side.

A type is proposed only if our own cast takes every value, so that the contract will take them too.
What may be a code (leading zeros, a name that ends in id) stays text: a number lost is a number
that can be cast later, a zero lost is gone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from refresh_pipelines.cast import cast_text
from refresh_pipelines.spec import Column

MISSING = (".", "..", "...", "-", "--", "*", "NA", "N/A", "n/a", "na", "#N/A", "NaN", "nan", "null", "NULL", "None")
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_DATES = (
    "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y",
    "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", re.DOTALL)
_ZONED = re.compile(r".*(Z|[+-]\d\d(:?\d\d)?)", re.DOTALL)
CODE_WORDS = {
    "id",
    "ids",
    "fid",
    "cod",
    "code",
    "codes",
    "fips",
    "isin",
    "lei",
    "naics",
    "phone",
    "postcode",
    "ref",
    "uuid",
    "zip",
}
_DATE_WORDS = {"date", "day", "datum", "period", "time", "jour"}


@dataclass(frozen=True)
class Guess:
    """One column as it will be declared.

    Attributes:
        name: plain and unique.
        field: its name in the payload.
        remark: what a person should know of the guess, or empty.
    """

    name: str
    field: str
    column: Column
    remark: str = ""


def guess_columns(table: pa.Table) -> list[Guess]:
    """Return a column for each field of a payload's rows, which are all text.

    A field that most rows do not have at all (only JSON can do that) may be missing from a whole answer one day.
    """
    names = plain_names(table.column_names)
    guesses = []
    for field, name in zip(table.column_names, names, strict=True):
        values = table.column(field).combine_chunks()
        column, remark = guess(values, name)
        if 2 * values.null_count > len(values):
            column = column.model_copy(update={"optional": True})
        guesses.append(Guess(name, field, column, remark))
    return guesses


def plain_names(fields: Iterable[str]) -> list[str]:
    """Return a column name for each field: small letters, digits and _, each once, at most 60 long."""
    taken: dict[str, None] = {}
    for position, field in enumerate(fields, 1):
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field)
        ascii_only = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^a-z0-9]+", "_", ascii_only.lower()).strip("_")[:50].rstrip("_") or f"column_{position}"
        plain = plain if plain[0].isalpha() else f"n_{plain}"
        count, name = 1, plain
        while name in taken:
            count += 1
            name = f"{plain}_{count}"
        taken[name] = None
    return list(taken)


def is_typed(text: str) -> bool:
    """Whether a single value is a number or a date rather than a name."""
    text = text.strip()
    if not text:
        return False
    column, _ = guess(pa.array([text], pa.string()), "date")
    return column.type != "text" or re.fullmatch(r"0[0-9]+", text) is not None


def guess(values: pa.Array, name: str) -> tuple[Column, str]:
    """Return the column for values of text, and a remark."""
    known = pc.unique(pc.utf8_trim_whitespace(values.drop_null())).to_pylist()
    texts = [text for text in known if text]
    if not texts:
        return Column(type="text"), "empty in every row seen"
    codes = [text for text in texts if text in MISSING]
    rest = [text for text in texts if text not in MISSING]
    if rest:
        for column in _candidates(rest, name):
            declared = column.model_copy(update={"missing": tuple(codes)}) if codes else column
            if _fits(texts, declared, len(codes)):
                return declared, _said(codes)
    return Column(type="text"), _why_text(texts, name)


def _said(codes: list[str]) -> str:
    return f"{', '.join(codes)} stand{'s' if len(codes) == 1 else ''} for no value" if codes else ""


def _fits(texts: list[str], column: Column, codes: int) -> bool:
    values, bad = cast_text(pa.array(texts, pa.string()), column)
    return not pc.any(bad).as_py() and values.null_count == codes


def _why_text(texts: list[str], name: str) -> str:
    if _is_ambiguous(texts):
        return "dates whose day and month cannot be told apart: declare a date with format %d/%m/%Y or %m/%d/%Y"
    if all(re.fullmatch(r"-?[0-9.]*,[0-9]+", text) for text in texts):
        return "numbers with a decimal comma, which are read as text"
    if all(_INTEGER.fullmatch(text) for text in texts) and _is_code(name):
        return "taken for a code; declare bigint if it is a number"
    return ""


def _candidates(texts: list[str], name: str) -> Iterator[Column]:
    """Yield the types the values look like, the narrowest first."""
    words = set(name.split("_"))
    if all(text.lower() in ("true", "false") for text in texts):
        yield Column(type="bool")
    if words & _DATE_WORDS and all(re.fullmatch(r"(19|20)[0-9]{6}", text) for text in texts):
        yield Column(type="date", format="%Y%m%d")
    if all(_INTEGER.fullmatch(text) for text in texts):
        if not _is_code(name):
            yield Column(type="int" if all(len(text) < 9 for text in texts) else "bigint")
        return
    if all(_NUMBER.fullmatch(text) and re.search("[0-9]", text) for text in texts):
        yield from _numbers(texts, name)
        return
    if all(text[:1] in "[{" for text in texts):
        yield Column(type="json")
    yield from _moments(texts)


def _is_code(name: str) -> bool:
    words = name.split("_")
    return words[-1] in CODE_WORDS or words[0] == "code"


def _numbers(texts: list[str], name: str) -> Iterator[Column]:
    if _is_code(name):
        return
    digits = [re.sub(r"[eE].*|\D", "", text).lstrip("0") for text in texts]
    if all(len(text) <= 15 for text in digits):  # more than that a double does not keep
        yield Column(type="double")
        return
    scale = max(len(text.partition(".")[2]) for text in texts)
    whole = max(len(text.lstrip("-").partition(".")[0]) for text in texts)
    if whole + scale + 4 <= 38 and not any("e" in text.lower() for text in texts):
        yield Column(type=f"decimal({whole + scale + 4},{scale})")


def _moments(texts: list[str]) -> Iterator[Column]:
    if all(_ISO_TIME.fullmatch(text) for text in texts):
        zoned = [_ZONED.fullmatch(text[11:]) is not None for text in texts]
        if all(zoned):
            yield Column(type="timestamptz")
        elif not any(zoned):
            yield Column(type="timestamp")
        return
    if all(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) for text in texts):
        yield Column(type="date")
        return
    if _is_ambiguous(texts) or not all(re.search(r"(?<!\d)[12][0-9]{3}(?!\d)", text) for text in texts):
        return
    for date in _DATES:
        yield Column(type="date", format=date)
        for time in _TIMES:
            yield Column(type="timestamp", format=f"{date} {time}")


def _is_ambiguous(texts: list[str]) -> bool:
    """Whether each could be day/month as well as month/day."""
    pairs = [re.match(r"([0-9]{1,2})[/-]([0-9]{1,2})[/-][0-9]{4}", text) for text in texts]
    numbers = [(int(pair[1]), int(pair[2])) for pair in pairs if pair]
    return len(numbers) == len(texts) and all(max(pair) <= 12 for pair in numbers)
