"""The one redactor: credentials leave no trace in errors, logs, events or stored addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
_CLEAR = r"api[_-]?key|access[_-]?token|client[_-]?secret|password|passwd|authorization|secret|token"
_PAIR = re.compile(rf"(?i)(?<![a-z0-9])({_CLEAR}|key|pwd|signature|sig)=[^&\s\"'<>]+")
# The words alone are too common in sentences; as members of a JSON document they are not.
_MEMBER = re.compile(rf"(?i)([\"']\w*(?:{_CLEAR})[\"']\s*:\s*)(\"[^\"]*\"?|'[^']*'?)")
_HEADER = re.compile(r"(?i)\b(authorization|proxy-authorization|x-api-key):\s*(?:(?:bearer|basic|token)\s+)?[^\s,;]+")
_USERINFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@:]*:[^/\s@]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask known secret values, plain or encoded for an address, and what stands behind `api_key=` and the like."""
    for secret in sorted({form for s in secrets if s for form in _forms(s)}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _MEMBER.sub(rf'\1"{MASK}"', _PAIR.sub(rf"\1={MASK}", text))
    return _USERINFO.sub(rf"\1{MASK}@", _HEADER.sub(rf"\1: {MASK}", text))


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield repr(secret)[1:-1]
