"""Rules for addresses: what may be asked, decided from the text alone. Looks nothing up.

Names that resolve to private addresses, and redirects, are the business of `fetch`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from refresh_pipelines.address import is_private
from refresh_pipelines.draft import Draft
from refresh_pipelines.problems import Problem
from refresh_pipelines.yamlpos import Loc

_ALLOW = "say allow_private: true if it is meant"


def check_addresses(draft: Draft) -> Iterator[Problem]:
    """Addresses are https, without a password, and outside our own networks unless that is allowed."""
    request = draft.request
    if request is None:
        return
    if request.url is not None:
        yield from check_address(draft, ("request", "url"), request.url, request.allow_private)
    for index, url in enumerate(request.urls):
        yield from check_address(draft, ("request", "urls", index), url, request.allow_private)


def check_address(draft: Draft, loc: Loc, url: str, allow_private: bool) -> Iterator[Problem]:
    """Say what is wrong with the address written at `loc`."""
    if re.search(r"[\s\\\x00-\x1f]", url):
        yield draft.problem(loc, "an address holds no white space and no backslash")
        return
    try:
        parts = urlsplit(filled(url, draft))
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        yield draft.problem(loc, f"not an address: {error}")
        return
    if "@" in parts.netloc:
        hint = "a credential belongs in the environment: use auth: {env: NAME, header: Authorization}"
        yield draft.problem(loc, "an address must not hold a user or password", hint)
    if not host:
        yield draft.problem(loc, "the address names no host", "for instance https://host/path")
        return
    yield from _check_scheme(draft, loc, parts, allow_private)
    # Clients fold other alphabets' digits and dots into plain ones before they connect.
    if not allow_private and is_private(unicodedata.normalize("NFKC", host)):
        yield draft.problem(loc, f"{host} is a private or local address", _ALLOW)


def _check_scheme(draft: Draft, loc: Loc, parts: SplitResult, allow_private: bool) -> Iterator[Problem]:
    if parts.scheme not in {"http", "https"}:
        yield draft.problem(loc, f"an address begins with https://, not {parts.scheme or 'nothing'}")
    elif parts.scheme == "http" and not allow_private:
        yield draft.problem(loc, "http sends requests and answers in the open", "write https://")


def filled(url: str, draft: Draft) -> str:
    """Return an address with scalar params put in, and a letter for what only a refresh knows."""

    def value(found: re.Match[str]) -> str:
        known = draft.params.get(found[1])
        return str(known) if isinstance(known, str | int | float) else "x"

    return re.sub(r"\{(\w*)[^{}]*\}", value, url)
