"""What an HTTP status other than success means: gone, refused, or worth another try."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from refresh_pipelines.body import excerpt, lookup
from refresh_pipelines.errors import UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.spec import Request, SourceSpec
from refresh_pipelines.tries import NO_WAITS, SLOW_WAITS, TryFailed

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})
# Only sent when nothing conditional was asked: a broken cache on the way.
_UNASKED = 304


class NotHere(UpstreamRefused):
    """The address holds no data: 404 or 410 (`page` false), or a web page in its place (`page` true)."""

    def __init__(self, problem: str, *, page: bool, expected: str = "", came: str = "", todo: str = "") -> None:
        super().__init__(problem, expected=expected, came=came, todo=todo)
        self.page = page


@dataclass(frozen=True)
class Refusal:
    """An answer without data.

    Attributes:
        shown: the address asked, without credentials.
        after: seconds the upstream asked to wait, if it did; infinite if nobody can mean it.
        body: the first bytes of its explanation.
    """

    shown: str
    status: int
    after: float | None
    body: bytes


def verdict(refusal: Refusal, spec: SourceSpec, clean: Callable[[object], str]) -> NotHere | TryFailed:
    """Return what to raise: NotHere, or a failed try with the waits that are worth while.

    Args:
        refusal: what came.
        spec: the source; its `format.error` finds the message, its `retry_on` what may pass.
        clean: masks credentials.
    """
    status, shown, said = refusal.status, refusal.shown, _message(refusal.body, spec)
    came = f"HTTP {status}" + (f", {clean(said)}" if said else "")
    if status in _TRANSIENT or status == _UNASKED or _says_when(refusal):
        problem = f"{shown} is not available now"
        gone = UpstreamUnavailable(problem, expected="HTTP 200", came=came, todo="A later try may pass.")
        return TryFailed(gone, after=refusal.after)
    if status in (404, 410):
        todo = "It may have moved or been withdrawn: look at the source's homepage, then correct request.url."
        return NotHere(f"{shown} is not there", page=False, expected="HTTP 200", came=came, todo=todo)
    problem = f"{shown} was refused"
    refused = UpstreamRefused(problem, expected="HTTP 200", came=came, todo=_advice(status, spec))
    slowly = may_pass(f"{said} ".encode() + refusal.body, spec.request)
    return TryFailed(refused, SLOW_WAITS if slowly else NO_WAITS)


def _says_when(refusal: Refusal) -> bool:
    """Whether a refusal is none for ever: UN Comtrade, for one, answers 403 with Retry-After."""
    if refusal.after is None or not math.isfinite(refusal.after):
        return False
    return refusal.status == 403 or refusal.status >= 500


def may_pass(body: bytes, request: Request) -> bool:
    """Whether a refusal or web page has one of the texts of `request.retry_on`, whatever its white space."""
    text = _words(body.decode("utf-8", "replace"))
    return any(_words(wanted) in text for wanted in request.retry_on)


def _message(body: bytes, spec: SourceSpec) -> str:
    path = spec.format.error if spec.format else None
    try:
        said = lookup(json.loads(body), path) if path else None
    except (ValueError, RecursionError):
        said = None
    return str(said) if said else excerpt(body) if body else ""


def _advice(status: int, spec: SourceSpec) -> str:
    auth = spec.request.auth
    if auth and status in (400, 401, 403):
        return f"Check the value of {auth.env}."
    return "Compare the request with the source's documentation, then correct the YAML."


def _words(text: str) -> str:
    return " ".join(text.split())
