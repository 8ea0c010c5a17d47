"""Who may ask: the Host a request is addressed to, the token it shows, and what a change of state has to look like.

Host keeps out pages whose name was made to lead to this machine (DNS rebinding); JSON keeps out forms of other pages
(CSRF), since a browser asks before it sends that, and no such question is ever answered with yes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from refresh_pipelines.service.answers import Refused, refusal
from refresh_pipelines.settings import Settings, SettingsError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Answered without a token, and without a word of what is wrong: for who watches processes.
OPEN = frozenset({"/healthz", "/readyz"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_LONGEST_BODY = 64 * 1024
Headers = list[tuple[bytes, bytes]]


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine can reach an address to listen at."""
    if address == "localhost":
        return True
    try:
        return ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """What a request must bring.

    Attributes:
        hosts: the names it may be addressed to, lower case.
        token: what it must show, None for nothing.
    """

    hosts: frozenset[str]
    token: str | None

    @classmethod
    def of(cls, settings: Settings, bind: str) -> Access:
        """Return what the settings ask for. Raises SettingsError for an open address without a token."""
        if settings.api_token is None and not is_loopback(bind):
            raise SettingsError(
                f"the API would listen at {bind}, where others can reach it, and REFRESH_API_TOKEN is not set. "
                "Set it, for instance to what `openssl rand -hex 32` prints, or listen at 127.0.0.1."
            )
        return cls(LOOPBACK | set(settings.api_hosts), settings.api_token)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise Refused unless the request may be answered."""
        self._check_host(headers)
        if self.token is not None and path not in OPEN and not self.shows_token(headers):
            raise Refused(401, "the token is missing or wrong", expected="the header Authorization: Bearer <token>")
        if method not in _SAFE:
            self._check_change(headers)

    def shows_token(self, headers: Headers) -> bool:
        """Whether the request shows the token, or none is asked for. Takes the same time however wrong it is."""
        if self.token is None:
            return True
        said = _values(headers, b"authorization")
        scheme, _, shown = (said[0] if len(said) == 1 else "").partition(" ")
        right = hmac.compare_digest(shown.strip().encode(errors="replace"), self.token.encode())
        return right and scheme.lower() == "bearer"

    def _check_host(self, headers: Headers) -> None:
        said = _values(headers, b"host")
        if len(said) != 1 or not self._allows(said[0]):
            raise Refused(
                403,
                "the request is addressed to a host that is not allowed",
                expected=" or ".join(sorted(self.hosts)),
                came=", ".join(said)[:200] or "no Host header",
                todo="Use one of these names, or add yours to REFRESH_API_HOSTS.",
            )

    def _allows(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and found[1].lower() in self.hosts

    def _check_change(self, headers: Headers) -> None:
        kind = [value.partition(";")[0].strip().lower() for value in _values(headers, b"content-type")]
        if kind != ["application/json"]:
            raise Refused(
                415,
                "a change needs JSON",
                expected="the header Content-Type: application/json",
                came=", ".join(kind)[:200] or "no Content-Type",
            )
        origins = _values(headers, b"origin")
        if any(not self._allows(_authority(origin)) for origin in origins):
            raise Refused(403, "a page of another host asks for a change", came=", ".join(origins)[:200])
        length = _values(headers, b"content-length")
        if _values(headers, b"transfer-encoding"):
            raise Refused(411, "the length of the body must be said", expected="the header Content-Length")
        if any(not re.fullmatch(r"[0-9]{1,9}", one) or int(one) > _LONGEST_BODY for one in length):
            raise Refused(413, "the body is too long", expected=f"at most {_LONGEST_BODY} bytes", came=length[0][:20])


class Gate:
    """Lets through what `Access` allows, before anything else looks at a request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing here speaks anything else
        try:
            self.access.check(scope["method"], scope["path"], scope["headers"])
        except Refused as error:
            answered = refusal(error.status, error.problem, expected=error.expected, came=error.came, todo=error.todo)
            if error.status == 401:
                answered.headers["WWW-Authenticate"] = "Bearer"
            await answered(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def _authority(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in ("http", "https") else ""
