"""What people write into the cells of a table: names with and without accents, numbers with spaces, days."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, timedelta
from decimal import Decimal

from refresh_pipelines.parse.workbook import Cell

# Not \d, which is also the digits of other alphabets.
_NUMBER = r"[+-]?(?:[0-9]{1,3}(?: [0-9]{3})+|[0-9]+)(?:%s[0-9]+)?"
# Only these are folded: a general folding would make 1231 of 123 with a small raised 1 for a footnote.
_SPACES = str.maketrans("\u00a0\u202f\u2007\u2009\u2212", "    -")
# 1900 to 2199, as days of a workbook: other numbers are more likely no day.
_DAYS = range(1, 109_575)


# What stands after a value or a name, and before the note that explains it.
MARKS = r"\*{1,3}|\([0-9a-z]\)|[\u00b9\u00b2\u00b3\u2074-\u2079]"


class NoValueError(ValueError):
    """A cell is not what its column holds; the message says what was expected of it."""


def fold(text: str) -> str:
    """Return a text without accents, capitals and doubled white space, for comparing what people wrote."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    letters = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(letters.casefold().split())


def mark_of(note: str) -> str | None:
    """Return the mark a note begins with, None where it holds for the whole table."""
    found = re.match(MARKS, note)
    return found[0] if found else None


def fold_name(text: str) -> str:
    """Return the same for a place's name, where a hyphen, an apostrophe and a space are one: Sô-Ava, SO AVA."""
    return " ".join(re.sub(r"[-'\u2010-\u2015]", " ", fold(text)).split())


def number_of(cell: Cell, decimal: str, percent: str | None) -> Decimal:
    """Return a cell's number, a percentage as 12.5.

    Raises:
        NoValueError: it is no number, or a percentage that is not stored as declared.
    """
    if cell.trouble:
        raise NoValueError("a value")
    if cell.number is None:
        return _from_text(cell.text, decimal, percent)
    value = Decimal(repr(cell.number))
    if cell.percent and percent in (None, "hundred"):
        raise NoValueError(f"no cell that is shown as a percentage (percent: {percent or 'not declared'})")
    if percent == "fraction" or (percent == "by_format" and cell.percent):
        value *= 100
    return value


def _from_text(text: str, decimal: str, percent: str | None) -> Decimal:
    """Read 1 234,5 with any space for thousands, and a percent sign where a percentage is expected."""
    plain = text.translate(_SPACES).strip()
    if percent and plain.endswith("%"):
        plain, percent = plain[:-1].strip(), "hundred"
    if not re.fullmatch(_NUMBER % re.escape(decimal), plain):
        raise NoValueError(f"a number with {decimal!r} before its decimals")
    value = Decimal(plain.replace(" ", "").replace(decimal, "."))
    return value * 100 if percent == "fraction" else value


def plain(value: Decimal) -> str:
    """Write a number without exponent and without zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def day_of(cell: Cell, epoch: date) -> str:
    """Return the day a cell holds, as 2026-01-31: an ISO date, 31/01/2026, or a workbook's number of days.

    Raises:
        NoValueError: it is none of them.
    """
    if cell.number is not None and cell.number in _DAYS:
        return (epoch + timedelta(days=int(cell.number))).isoformat()
    french = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", cell.text)
    try:
        if french:
            return date(int(french[3]), int(french[2]), int(french[1])).isoformat()
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", cell.text):
            return date.fromisoformat(cell.text).isoformat()
    except ValueError:
        pass
    raise NoValueError("a day such as 2026-01-31 or 31/01/2026")
