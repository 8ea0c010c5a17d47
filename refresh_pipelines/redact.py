"""The one redactor: credentials leave no trace in errors, logs, events or stored addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
_NAMES = r"(?:api[_-]?key|apikey|key|token|access[_-]?token|secret|password|passwd|pwd|authorization|signature|sig)"
_PAIR = re.compile(rf"(?i)\b({_NAMES})=[^&\s\"'<>]+")
_USERINFO = re.compile(r"(?i)(https?://)[^/\s@:]+:[^/\s@]+@")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask known secret values, and whatever stands behind a name such as `api_key=`."""
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _USERINFO.sub(rf"\1{MASK}@", _PAIR.sub(rf"\1={MASK}", text))
