"""Which addresses may be asked: no private, loopback, link-local or metadata ones by accident.

Literal addresses and redirects are checked, names are not resolved: pinning DNS answers would break
corporate proxies and object stores inside a company, which are named hosts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from refresh_pipelines.errors import UpstreamRefused

_LOCAL_NAMES = ("localhost", "metadata.google.internal", "metadata")
_PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def is_private(host: str) -> bool:
    """Whether a host is written as an address, or a name, that must not be reached from a YAML or a redirect."""
    name = host.strip("[]").rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith((".localhost", ".internal")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        # Shorthand such as 127.1 or 0x7f000001 is an address to the resolver, though not to Python.
        return name.replace(".", "").isdigit() or name.startswith("0x")
    return not address.is_global or address.is_multicast


def guard(url: str, allow_private: bool, environ: Mapping[str, str]) -> None:
    """Raise UpstreamRefused when `url` must not be asked.

    With a proxy configured the proxy decides what is reachable, so nothing is checked.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UpstreamRefused(f"{url!r} is no web address", expected="http:// or https://", todo="Correct request.url.")
    if allow_private or any(environ.get(name) for name in _PROXY_VARIABLES):
        return
    if is_private(parts.hostname):
        raise UpstreamRefused(
            f"the address {parts.hostname} lies inside a private network",
            expected="a public host",
            todo="Set request.allow_private: true if this upstream really is your own.",
        )


def rebase(logical: str, upstream: str | None) -> str:
    """Return the address really asked: `https://host/path?q` becomes `<upstream>/host/path?q`."""
    if upstream is None:
        return logical
    parts = urlsplit(logical)
    return f"{upstream}/{parts.netloc}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")


def unrebase(target: str, upstream: str | None) -> str:
    """Return the logical address of a redirect that names the stand-in itself."""
    if upstream and target.startswith(upstream + "/"):
        return "https://" + target.removeprefix(upstream + "/")
    return target
