"""Whether a text is a value of a declared type, decided without Arrow: rules run at every start."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite

_WHOLE = re.compile(r"[+-]?[0-9]+")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?")


def is_value(text: str, kind: str) -> bool:
    """Whether a text, as a YAML file has it, is a value of the type; a `timestamptz` may leave its offset out."""
    name = kind.partition("(")[0]
    reads = _READS.get(name)
    if reads is None:
        return True
    try:
        return reads(text, kind)
    except (ValueError, ArithmeticError, InvalidOperation):
        return False


def _whole(text: str, kind: str) -> bool:
    bits = 31 if kind == "int" else 63
    return _WHOLE.fullmatch(text) is not None and -(2**bits) <= int(text) < 2**bits


def _decimal(text: str, kind: str) -> bool:
    precision, scale = map(int, kind[len("decimal(") : -1].split(","))
    number = Decimal(text)
    return number.is_finite() and abs(number) < 10 ** (precision - scale) and number == round(number, scale)


def _day(text: str, _: str) -> bool:
    return _DAY.fullmatch(text) is not None and bool(date.fromisoformat(text))


def _moment(text: str, kind: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None or (kind == "timestamp" and found[4]):
        return False
    return bool(datetime.fromisoformat(text[:10] + (found[1] or "")[: len(found[1] or "") - len(found[4] or "")]))


_READS: dict[str, Callable[[str, str], bool]] = {
    "int": _whole,
    "bigint": _whole,
    "double": lambda text, _: isfinite(float(text)),
    "decimal": _decimal,
    "bool": lambda text, _: text in ("true", "false"),
    "date": _day,
    "timestamp": _moment,
    "timestamptz": _moment,
}
