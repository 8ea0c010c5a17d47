"""The one redactor: credentials leave no trace in errors, logs, events or stored addresses."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote, quote_plus

MASK = "***"
_HELD: ContextVar[tuple[str, ...]] = ContextVar("held", default=())
_CLEAR = r"api[_-]?key|access[_-]?token|client[_-]?secret|password|passwd|authorization|secret|token"
_PAIR = re.compile(rf"(?i)(?<![a-z0-9])({_CLEAR}|key|pwd|signature|sig)=[^&\s\"'<>]+")
# The words alone are too common in sentences; as members of a JSON document they are not.
_MEMBER = re.compile(rf"(?i)([\"']\w*(?:{_CLEAR})[\"']\s*:\s*)(\"[^\"]*\"?|'[^']*'?)")
_HEADER = re.compile(r"(?i)\b(authorization|proxy-authorization|x-api-key):\s*(?:(?:bearer|basic|token)\s+)?[^\s,;]+")
# Of bounded length, or a long word takes the square of its length.
_USERINFO = re.compile(r"(?i)([a-z][a-z0-9+.-]{0,30}://)[^/\s@:]*:[^/\s@]+@")


@contextmanager
def holding(secrets: Iterable[str]) -> Iterator[None]:
    """Have these values masked by everything inside, also by parts that know of no credential."""
    before = _HELD.set((*_HELD.get(), *secrets))
    try:
        yield
    finally:
        _HELD.reset(before)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask known secret values, plain or as addresses, JSON and pages write them."""
    for form in written((*secrets, *_HELD.get())):
        text = text.replace(form, MASK)
    return text


def written(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return every form in which the values may be written, the longest first."""
    return tuple(sorted({form for secret in secrets if secret for form in _forms(secret)}, key=len, reverse=True))


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask known secret values, and what stands behind `api_key=` and the like."""
    text = _MEMBER.sub(rf'\1"{MASK}"', _PAIR.sub(rf"\1={MASK}", mask(text, secrets)))
    return _USERINFO.sub(rf"\1{MASK}@", _HEADER.sub(rf"\1: {MASK}", text))


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    written = json.dumps(secret)[1:-1]
    yield from (
        repr(secret)[1:-1],
        written,
        written.replace("/", r"\/"),
        html.escape(secret),
        html.escape(secret, False),
    )
