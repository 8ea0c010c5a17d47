"""What an upstream says of a version of its data, ETag and Last-Modified, and how it is sent back (RFC 9110).

Only what may name a version is kept. Whether a source's validators tell the truth is for `trust`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Literal

Kind = Literal["etag", "last_modified", "signal"]
KINDS: tuple[Kind, ...] = ("etag", "last_modified", "signal")
NAMES: Mapping[Kind, str] = {"etag": "ETag", "last_modified": "Last-Modified", "signal": "change signal"}
# What servers append to the opaque tag of a file that they have packed for the way (Apache, Jetty and others).
_PACKED = re.compile(r'(?:-{1,2}|;|:)(?:gzip|gz)"$')
# RFC 9110, 8.8.2.2: a date this near to that of the answer cannot tell two versions of one second apart.
_TOO_YOUNG = timedelta(seconds=1)


@dataclass(frozen=True)
class Validators:
    """What the upstream said about its last accepted answer; sent back only for the same address.

    Attributes:
        url: logical address, redacted.
        last_modified: None also where it was the time of the answer, or later.
        signal: what the upstream's catalogue said of it (`request.signal`), which is compared and never sent.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    signal: str | None = None

    def without(self, *kinds: Kind) -> Validators | None:
        """Return what is left without some kinds, None where that is nothing."""
        left = Validators(
            self.url,
            None if "etag" in kinds else self.etag,
            None if "last_modified" in kinds else self.last_modified,
            None if "signal" in kinds else self.signal,
        )
        return left if left.etag or left.last_modified or left.signal else None


def validators_of(url: str, headers: Mapping[str, str], now: datetime) -> Validators | None:
    """Return what of an answer's headers may name a version, None where nothing does.

    Args:
        now: our clock, for an answer without the header Date.
    """
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    at, answered = http_date(modified), http_date(headers.get("Date")) or now
    usable = at is not None and answered - at >= _TOO_YOUNG
    return Validators(url, etag or None, modified if usable else None).without()


def said_published(headers: Mapping[str, str]) -> str | None:
    """Return Last-Modified as far as it says when the data came out: not where it is the time of the answer."""
    modified, answered = http_date(headers.get("Last-Modified")), http_date(headers.get("Date"))
    if modified and answered and abs(answered - modified) <= _TOO_YOUNG:
        return None
    return headers.get("Last-Modified")


def conditions(known: Validators) -> dict[str, str]:
    """Return the headers that ask for an answer only if it is another one.

    An ETag of a packed file is sent with and without its suffix: some servers add it to their answers and then do
    not know it again.
    """
    out = {}
    if known.etag:
        out["If-None-Match"] = ", ".join(dict.fromkeys((known.etag, _unpacked(known.etag))))
    if known.last_modified:
        out["If-Modified-Since"] = known.last_modified
    return out


def contradicts(known: Validators, headers: Mapping[str, str]) -> bool:
    """Whether a 304 names another version than the one it was asked about."""
    etag, modified = headers.get("ETag"), http_date(headers.get("Last-Modified"))
    if known.etag:
        return bool(etag) and not same_etag(known.etag, str(etag))
    before = http_date(known.last_modified)
    return modified is not None and before is not None and modified > before


def same_etag(one: str, other: str) -> bool:
    """Whether two ETags name the same version, packed for the way or not (RFC 9110, weak comparison)."""
    return _unpacked(one).removeprefix("W/") == _unpacked(other).removeprefix("W/")


def is_weak(etag: str) -> bool:
    """Whether an ETag promises the same meaning and not the same bytes."""
    return etag.startswith("W/")


def http_date(text: str | None) -> datetime | None:
    """Read a date as HTTP headers have it; None for one that nobody can read."""
    try:
        at = parsedate_to_datetime(text) if text else None
        return at and at.replace(tzinfo=at.tzinfo or timezone.utc)
    except (ValueError, OverflowError):
        return None


def _unpacked(etag: str) -> str:
    return _PACKED.sub('"', etag)
