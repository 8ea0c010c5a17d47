"""What is written down of one answer beside its bytes: what was asked, when, and the headers that say something.

No credential is among it: headers are taken by name, and every text passes through the redactor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import requests

# Cookies and whatever else an upstream may set are nobody's business later.
_HEADERS = (
    "Content-Type", "Content-Encoding", "Content-Length", "Content-Disposition", "Date", "ETag", "Last-Modified",
    "Expires", "Age", "Cache-Control", "Retry-After",
)  # fmt: skip
_LONGEST = 2_000


@dataclass(frozen=True)
class Received:
    """One answer: its request as it may be shown, and what it said of itself.

    Attributes:
        url: logical address with all parameters, redacted.
        body: of the request, redacted; None without one.
        asked_at: when the request was prepared; `received_at`: when its whole answer was on disk.
    """

    method: str
    url: str
    body: str | None
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    asked_at: datetime | None = None
    received_at: datetime | None = None


def received(
    response: requests.Response,
    request: requests.PreparedRequest,
    url: str,
    asked_at: datetime,
    now: datetime,
    clean: Callable[[object], str],
) -> Received:
    """Return what may be kept of an answer.

    Args:
        request: what was asked for, before any redirect.
        url: its address, redacted.
        clean: masks credentials.
    """
    body = request.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body if isinstance(body, str) else None
    headers = {name: clean(response.headers[name])[:_LONGEST] for name in _HEADERS if name in response.headers}
    return Received(
        request.method or "GET",
        url,
        None if text is None else clean(text)[:_LONGEST],
        response.status_code,
        headers,
        asked_at,
        now,
    )
