"""Traps that show only when upstreams are asked: one small request to each host, with --online."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from refresh_pipelines.address import rebase
from refresh_pipelines.clock import utc_now
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.proxy import route_of
from refresh_pipelines.rate import host_of
from refresh_pipelines.redact import redact
from refresh_pipelines.service.doctor.traps import Finding, Place, trap
from refresh_pipelines.settings import Settings

_TIMEOUT = 10
_SKEW = timedelta(minutes=1)

UNREACHABLE = trap(
    "unreachable-upstream", "wrong", "A host that enabled sources ask does not answer at all.",
    "See whether the network, a proxy (HTTPS_PROXY) or a firewall stands between; else it is down and is asked later.",
)  # fmt: skip
SKEW = trap(
    "clock-skew", "wrong", "The clock of this machine is more than a minute off those of several upstreams.",
    "Set the clock, by `timedatectl set-ntp true` for instance: ticks and periods follow it.",
)  # fmt: skip


def upstreams(place: Place) -> Iterator[Finding]:
    """Ask each host once for its front page; any answer counts. Says nothing unless this was wanted."""
    if not place.online:
        return
    hosts = _hosts(place)
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda address: _ask(address, place.settings), hosts.values()))
    skews = []
    for host, (problem, skew) in zip(hosts, answers, strict=True):
        if problem:
            yield Finding(UNREACHABLE, f"{host}: {problem}")
        elif skew is not None:
            skews.append(skew)
    # One host's own clock may be wrong; the middle one of several is not.
    middle = sorted(skews)[len(skews) // 2] if skews else timedelta(0)
    if abs(middle) > _SKEW:
        way = "ahead" if middle > timedelta(0) else "behind"
        yield Finding(SKEW, f"{abs(middle).total_seconds():.0f} s {way}, by {len(skews)} hosts")


def _hosts(place: Place) -> dict[str, str]:
    """Return the front page of each host that enabled sources ask, at the address that is really asked."""
    found: dict[str, str] = {}
    for spec in place.catalogue.sources.values():
        for url in spec.request.candidates if spec.enabled else ():
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and "{" not in parts.netloc:
                found[host_of(url)] = rebase(f"{parts.scheme}://{parts.netloc}/", place.settings.upstream)
    return found


def _ask(address: str, settings: Settings) -> tuple[str, timedelta | None]:
    """Return what is wrong with a host, "" for nothing, and how far our clock is ahead of its own."""
    session = requests.Session()
    session.trust_env = False  # proxies are those of the settings, `.env` included
    try:
        route = route_of(address, settings.environ)
        answer = session.head(address, timeout=_TIMEOUT, proxies=route.proxies, verify=route.verify)
    except (requests.RequestException, RefreshError) as error:
        return redact(str(error))[:200] if isinstance(error, RefreshError) else type(error).__name__, None
    try:
        at = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return "", None
    return "", utc_now() - (at if at.tzinfo else at.replace(tzinfo=timezone.utc)) if isinstance(at, datetime) else None
