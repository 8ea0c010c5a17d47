"""Trying again: which failures of a request may pass within seconds, and how long to wait for that."""

from __future__ import annotations

import math
import random
import re
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Literal

import requests

from refresh_pipelines.errors import RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.proxy import Proxy, Route

QUICK_WAITS = (1.0, 4.0)
SLOW_WAITS = (10.0, 20.0)
NO_WAITS = ()
BUDGET = timedelta(seconds=60)
# Nobody means a longer pause; more likely an instant was written where seconds belong.
LONGEST = timedelta(days=400)
_OWN_CA = "name your own CA in REQUESTS_CA_BUNDLE."
_AROUND = "list the host in NO_PROXY if it can be reached without"
_OBJECT = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>:? ?")
_NEVER = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
    UnicodeError,
)


class TryFailed(Exception):
    """One try failed.

    Attributes:
        error: what to raise when no further try is made. It is not chained to what lies behind it:
            the texts of HTTP libraries hold the whole address, key included.
        waits: seconds before each further try; empty when another try is of no use.
        after: seconds the upstream asked to wait, if it did; infinite if nobody can mean it.
    """

    def __init__(self, error: RefreshError, waits: tuple[float, ...] = QUICK_WAITS, after: float | None = None) -> None:
        super().__init__(error.problem)
        self.error, self.waits, self.after = error, waits, after

    def wait(self, attempt: int) -> float | None:
        """Return the seconds to wait after try number `attempt` (from 0), or None when it was the last."""
        if attempt >= len(self.waits):
            return None
        own = self.waits[attempt] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads callers, guards nothing
        return own if self.after is None else max(self.after, own)


def transport_failed(error: Exception, shown: str, clean: Callable[[object], str], route: Route) -> TryFailed:
    """Say in our words why no whole answer came.

    Args:
        error: what an HTTP library or the operating system raised.
        shown: the address, without credentials.
        clean: masks credentials.
        route: how the request left.
    """
    inner = _innermost(error)
    said = clean(_OBJECT.sub("", str(inner)))
    came = type(inner).__name__ + (f": {said}" if said else "")
    if isinstance(inner, ssl.SSLCertVerificationError):
        refused = UpstreamRefused(
            f"the certificate of {shown} was not accepted",
            came=came,
            todo="Wait until the host has mended it, or "
            + (f"add its CA to the file of {route.authority}." if route.authority else _OWN_CA),
        )
        return TryFailed(refused, NO_WAITS)
    if route.proxy and isinstance(error, requests.exceptions.ProxyError):
        return _proxy_failed(route.proxy, shown, came)
    if isinstance(error, _NEVER):
        refused = UpstreamRefused(f"{shown} cannot be requested", came=came, todo="Correct `request` in the YAML.")
        return TryFailed(refused, NO_WAITS)
    return TryFailed(UpstreamUnavailable(f"{shown} could not be read", came=came, todo="A later try may pass."))


def _proxy_failed(proxy: Proxy, shown: str, came: str) -> TryFailed:
    answered = re.search(r"Tunnel connection failed: (\d{3})", came)
    if answered and answered[1] == "407":
        return TryFailed(proxy_wants_password(proxy, shown), NO_WAITS)
    if answered and answered[1].startswith("4"):
        refused = UpstreamRefused(
            f"the proxy of {proxy} does not let {shown} through",
            came=came,
            todo=f"Ask whoever runs the proxy, or {_AROUND}.",
        )
        return TryFailed(refused, NO_WAITS)
    problem = "could not reach" if answered else "did not answer, so nobody asked"
    down = UpstreamUnavailable(
        f"the proxy of {proxy} {problem} {shown}",
        came=came,
        todo=f"A later try may pass. Check {proxy.variable}, or {_AROUND}.",
    )
    return TryFailed(down)


def proxy_wants_password(proxy: Proxy, shown: str) -> UpstreamRefused:
    """Return the error for status 407, which comes from the proxy and not from the host."""
    return UpstreamRefused(
        f"the proxy of {proxy} wants a user and a password, so nobody asked {shown}",
        came="HTTP 407",
        todo=f"Write them into {proxy.variable}, as in http://user:password@host:port, with %40 for @ in them.",
    )


def _innermost(error: BaseException) -> BaseException:
    """Unwrap what requests and urllib3 wrap: the reason itself is short and repeats no address."""
    while True:
        held = [getattr(error, "reason", None), *error.args]
        inner = next((value for value in held if isinstance(value, BaseException)), None)
        if inner is None:
            return error
        error = inner


def retry_after(text: str | None, now: datetime, unit: Literal["s", "ms"] = "s") -> float | None:
    """Read `Retry-After`, a number or an HTTP date, as seconds from now.

    Args:
        text: the header, or None.
        now: UTC-aware.
        unit: what a number counts, as the source declares it (`request.retry_after`).

    Returns:
        None when absent or unreadable, 0 for a date that is over, infinity for more than `LONGEST`.
    """
    text = (text or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        seconds = float(text) / (1000 if unit == "ms" else 1)
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = max(0.0, (at.replace(tzinfo=at.tzinfo or timezone.utc) - now).total_seconds())
    return seconds if seconds <= LONGEST.total_seconds() else math.inf


def left_alone_until(after: float | None, now: datetime) -> datetime | None:
    """Return the instant, in whole seconds, before which the upstream wants no other request; None if it is over."""
    if not after or not math.isfinite(after):
        return None
    at = now + timedelta(seconds=after)
    return at if at.microsecond == 0 else at.replace(microsecond=0) + timedelta(seconds=1)


class LeftAlone:
    """The hosts that want no request for longer than a run waits, for whatever else the run would ask of them.

    Args:
        now: the time, UTC-aware.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._errors: dict[str, RefreshError] = {}

    def final(self, host: str, error: RefreshError, after: float | None) -> RefreshError:
        """Return the error of the last try with `retry_at`, if the host's answer had that; remember it then."""
        error.retry_at = left_alone_until(after, self.now())
        if error.retry_at:
            self._errors[host] = error
        return error

    def require_welcome(self, host: str, shown: str) -> None:
        """Raise UpstreamUnavailable, with the same `retry_at`, for a host that was remembered and still waits.

        Args:
            shown: the address that is not asked, without credentials.
        """
        before = self._errors.get(host)
        if before is None or before.retry_at is None or before.retry_at <= self.now():
            return
        came = f"{before.came} from this host before"
        error = UpstreamUnavailable(f"{shown} was not asked", came=came, todo="A later try may pass.")
        error.retry_at = before.retry_at
        raise error
