"""What an upstream's catalogue says of a payload, asked before the payload itself (`request.signal`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from refresh_pipelines.address import unrebase
from refresh_pipelines.body import lookup
from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused
from refresh_pipelines.fetch import Fetcher, NotHere, NotModified, Turn
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.parse.json import read_document
from refresh_pipelines.spec import Format, Signal, SourceSpec
from refresh_pipelines.window import Window, fill

_JSON = Format(kind="json")
_TODO = "Compare the catalogue with request.signal: it may have been rearranged."


@dataclass(frozen=True)
class Said:
    """What the catalogue says of one payload.

    Attributes:
        text: its values, and the address if it gives one; another text calls for the payload.
        address: where the payload lies, None where `request` says so.
        path, sha256: the catalogue itself, as it came.
    """

    text: str
    address: str | None
    path: Path
    sha256: str


def ask(spec: SourceSpec, window: Window, fetcher: Fetcher, folder: Path) -> Said:
    """Ask a source's catalogue for what it says of the window's payload.

    Raises:
        UpstreamUnavailable: it cannot be had now, or breaks off.
        UpstreamRefused: it is gone or no JSON, or the payload's address lies on another host.
        ContractViolation: it has not one entry that is meant, or the entry lacks a value.
    """
    signal = spec.request.signal
    if signal is None:
        raise ValueError(f"{spec.name} has no signal")
    where = f"{spec.name}: request.signal"
    url = fill(signal.url, window, where)
    catalogue = _as_catalogue(spec, url)
    try:
        answer = fetcher.fetch(catalogue, window, url, folder, None, Turn(address=url))
    except NotHere as error:
        # No word on the payload: it may well be there, and is not "not yet published".
        raise UpstreamRefused(
            f"the catalogue is not there: {error.problem}", expected=error.expected, came=error.came,
            todo="Open the address in a browser: it may have moved; then correct request.signal.url.",
        ) from error  # fmt: skip
    assert not isinstance(answer, NotModified)  # noqa: S101 - nothing conditional was asked
    document = _document(answer.path, catalogue.request.max_unpacked)
    wanted = {name: {fill(text, window, where) for text in texts} for name, texts in signal.where.items()}
    entry = _entry(document, signal, wanted)
    values = [_text(entry, path) for path in signal.value]
    address = None
    if signal.address:
        address = _on_host(_text(entry, signal.address), answer.url, fetcher.settings.upstream)
    return Said(" ".join([*values, *([address] if address else [])]), address, answer.path, answer.sha256)


def _as_catalogue(spec: SourceSpec, url: str) -> SourceSpec:
    """Return the source as if its catalogue were what it loads: same host, headers and credential."""
    changes: dict[str, object] = {"url": url, "urls": (), "signal": None, "params": {}, "stale": {}, "retry_on": ()}
    return spec.model_copy(update={"request": spec.request.model_copy(update=changes), "format": _JSON, "parser": None})


def _document(path: Path, limit: int) -> Any:
    try:
        with open_payload(_JSON, path, limit) as stream:
            return read_document(stream.read(), _JSON, Notes())
    except RefreshError as error:
        error.problem = f"the catalogue: {error.problem}"
        raise


def _entry(document: Any, signal: Signal, wanted: Mapping[str, set[str]]) -> Any:
    rows = lookup(document, signal.rows)
    if not signal.where:
        return rows
    if not isinstance(rows, list):
        raise ContractViolation(
            "the catalogue holds no list of entries",
            expected=f"a list at {signal.rows or 'the top'} (request.signal.rows)",
            came="nothing" if rows is None else type(rows).__name__,
            todo=_TODO,
        )
    found = [row for row in rows if all(str(lookup(row, name)) in texts for name, texts in wanted.items())]
    if len(found) == 1:
        return found[0]
    meant = ", ".join(f"{name} {' or '.join(sorted(texts))}" for name, texts in wanted.items())
    raise ContractViolation(
        "the catalogue does not say which payload is meant",
        expected=f"one entry with {meant} (request.signal.where)",
        came=f"{len(found)} of {len(rows)} entries",
        todo="Nothing was loaded. " + _TODO,
    )


def _text(entry: Any, path: str) -> str:
    value = lookup(entry, path)
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
        return str(value).strip()
    names = ", ".join(entry) if isinstance(entry, Mapping) else type(entry).__name__
    raise ContractViolation(
        f"the catalogue's entry has no {path}", expected="a text or a number", came=f"{value!r} among {names}"[:300],
        todo="Nothing was loaded. " + _TODO,
    )  # fmt: skip


def _on_host(address: str, asked: str, upstream: str | None) -> str:
    """Return the payload's address; a catalogue may only list what lies on its own host."""
    try:
        target, own = urlsplit(urljoin(asked, unrebase(address, upstream))), urlsplit(asked)
        same = target.hostname == own.hostname and target.port in (own.port, None)
    except ValueError:
        target, own, same = urlsplit(""), urlsplit(asked), False
    if not same:
        raise UpstreamRefused(
            "the catalogue lists an address on another host",
            expected=own.netloc,
            came=target.hostname or "no host",
            todo="Look at the catalogue; if the files have really moved, write request.url and leave "
            "request.signal.address out.",
        )
    # Catalogues often write http where they are served by https.
    scheme = own.scheme if own.scheme == "https" else target.scheme
    return urlunsplit((scheme, own.netloc, target.path, target.query, ""))
