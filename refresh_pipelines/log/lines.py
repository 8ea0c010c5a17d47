"""How one record is written: a line of text that reads like logfmt, or a JSON object; never more than one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

Value = str | int | float | bool | list[str]
_BARE = re.compile(r"[^\s\"'=\\]+")
_LEADING = ("time", "level", "event")


def text_line(record: Mapping[str, Value]) -> str:
    """Return `time level event key=value …`; a value with anything else than plain characters is a JSON string."""
    lead = " ".join(str(record[name]) for name in _LEADING)
    pairs = (f"{name}={_value(value)}" for name, value in record.items() if name not in _LEADING)
    return _plain(" ".join((lead, *pairs)))


def json_line(record: Mapping[str, Value]) -> str:
    """Return the record as a JSON object."""
    return _plain(json.dumps(record, ensure_ascii=False))


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if _BARE.fullmatch(text) and text.isprintable() else json.dumps(text, ensure_ascii=False)


def _plain(line: str) -> str:
    """Escape what would end the line for some reader, upset a terminal, or is half a character."""
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
