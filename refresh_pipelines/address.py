"""Which addresses may be asked: no private, loopback, link-local or metadata ones by accident.

Literal addresses and redirects are checked, names are not resolved: pinning DNS answers would break
corporate proxies and object stores inside a company, which are named hosts.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import urlsplit

from refresh_pipelines.errors import UpstreamRefused
from refresh_pipelines.proxy import proxy_for

_LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback", "metadata", "metadata.google.internal")
_LOCAL_ZONES = (".localhost", ".localdomain", ".local", ".internal")
# 127.1, 0x7f.0.0.1 and 2130706433 are addresses to the resolver, though not to Python.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")


def is_private(host: str) -> bool:
    """Whether a host is written as an address, or a name, that must not be reached from a YAML or a redirect."""
    # Clients fold other alphabets' digits and dots into plain ones before they connect.
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith(_LOCAL_ZONES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return all(_NUMBER.fullmatch(part) for part in name.split("."))
    return not address.is_global or address.is_multicast


def guard(url: str, allow_private: bool, environ: Mapping[str, str]) -> None:
    """Raise UpstreamRefused when `url` must not be asked. The message holds nothing of the URL but scheme and host.

    Where a proxy is configured for `url`, the proxy decides what is reachable.
    """
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme, host = "", ""
    if scheme not in ("http", "https") or not host:
        came = f"{scheme}://{host}" if scheme else "something else"
        raise UpstreamRefused(
            "the address is no web address", expected="http:// or https://", came=came, todo="Correct request.url."
        )
    if allow_private or proxy_for(url, environ):
        return
    if is_private(host):
        raise UpstreamRefused(
            f"the address {host} lies inside a private network",
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
