"""How a request leaves this machine: which proxy takes it, and whose certificates are believed.

Both are read from the merged environment, `.env` included; `requests` alone would look only at the
environment of the process. The names are those that curl and requests know.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from refresh_pipelines.errors import InternalError

AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy and the variable that names it. Its text is without user and password."""

    variable: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.variable} ({self.url.rpartition('@')[2].rpartition('//')[2].rstrip('/')})"


@dataclass(frozen=True)
class Route:
    """How one request leaves.

    Attributes:
        proxy: who takes it, None if it is sent straight to the host.
        verify: file or folder with the certificates to believe, True for those that come with us.
        authority: the variable that names that file, None if it is ours.
    """

    proxy: Proxy | None = None
    verify: str | bool = True
    authority: str | None = None

    @property
    def proxies(self) -> dict[str, str]:
        """The proxy as requests wants it, for either scheme."""
        return dict.fromkeys(_PORTS, self.proxy.url) if self.proxy else {}


def route_of(url: str, environ: Mapping[str, str]) -> Route:
    """Return how a request to `url` leaves.

    Raises:
        InternalError: a variable names a proxy that cannot be used, or no file of certificates. The
            message names the variable.
    """
    proxy = proxy_for(url, environ)
    if proxy and urlsplit(proxy.url).scheme not in _PORTS:
        raise InternalError(
            f"the proxy of {proxy} cannot be used",
            expected="http://host:port or https://host:port",
            todo=f"Correct {proxy.variable} in the environment or in .env.",
        )
    authority = next((name for name in AUTHORITIES if environ.get(name)), None)
    if authority is None or not url.lower().startswith("https:"):
        return Route(proxy)
    path = Path(environ[authority]).expanduser()
    problem = _unusable(path, path.stat().st_mtime if path.exists() else 0)
    if problem:
        raise InternalError(
            f"{authority} names no certificates that can be read",
            expected="a PEM file with at least one CA certificate",
            came=f"{path}: {problem}",
            todo=f"Correct {authority} in the environment or in .env, or take it out.",
        )
    return Route(proxy, str(path), authority)


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for `url`; None if none is named or NO_PROXY lists the host."""
    parts = urlsplit(url)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    variable = next((n for name in names for n in (name, name.upper()) if environ.get(n)), None)
    if variable is None or _bypassed(parts.scheme, parts.netloc, environ):
        return None
    value = environ[variable].strip()
    return Proxy(variable, value if "://" in value else f"http://{value}")


def proxy_secrets(environ: Mapping[str, str]) -> list[str]:
    """Return the passwords of all proxies, written as they are and decoded, for the redactor."""
    return [secret for secret in dict.fromkeys(_passwords(environ)) if secret]


def _passwords(environ: Mapping[str, str]) -> Iterator[str]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for value in (environ.get(name, ""), environ.get(name.upper(), "")):
            user, at, _ = value.rpartition("://")[2].rpartition("@")
            password = user.partition(":")[2] if at else ""
            yield from (password, unquote(password))


def _bypassed(scheme: str, netloc: str, environ: Mapping[str, str]) -> bool:
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = netloc.rpartition("@")[2]
    if not excepted or not host:
        return False
    with_port = host if urlsplit(f"//{host}").port else f"{host}:{_PORTS.get(scheme, '')}"
    return bool(proxy_bypass_environment(with_port, {"no": excepted})) or _in_network(host, excepted)


def _in_network(host: str, excepted: str) -> bool:
    """Whether a literal address lies in one of the listed networks, as in 10.0.0.0/8."""
    try:
        address = ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    for entry in excepted.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue  # a host name, which was compared already
    return False


@lru_cache(maxsize=16)
def _unusable(path: Path, changed: float) -> str | None:  # noqa: ARG001 - a file that changes is read again
    """Say why certificates cannot be read from `path`; None if they can."""
    if path.is_dir():
        return None  # as `openssl rehash` makes them; read one by one when they are needed
    if not path.exists():
        return "there is no such file"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        return str(error)
    return None
