"""Which page comes after the last one, for answers that come in several. Looks into pages, sends nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote_plus, urljoin, urlsplit, urlunsplit

from refresh_pipelines.address import unrebase
from refresh_pipelines.body import lookup
from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Payload, Turn
from refresh_pipelines.parse import Notes
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.parse.json import read_document, rows_of
from refresh_pipelines.redact import redact
from refresh_pipelines.spec import Paging, SourceSpec

_ENDS = (None, "", False)


class Pager:
    """Walks the pages of one request in order.

    Attributes:
        number: pages asked for so far.
        rows: rows seen on them, where they are counted.
    """

    def __init__(self, spec: SourceSpec, upstream: str | None) -> None:
        if spec.request.paging is None:
            raise ValueError(f"{spec.name} has no pages")
        self.spec, self.paging, self.upstream = spec, spec.request.paging, upstream
        self.number, self.rows = 1, 0
        self._marks: set[str] = set()
        self._pages: set[str] = set()

    def first(self) -> Turn:
        """Return how the first page is asked for."""
        paging = self.paging
        if paging.kind == "page":
            return self._turn(str(_start(paging)))
        return self._turn(str(_start(paging)) if paging.kind == "offset" else None)

    def after(self, payload: Payload) -> Turn | None:
        """Return how the page after `payload` is asked for, None when that was the last.

        Raises:
            ContractViolation: pages that repeat or never end, or a mark or count that is none.
            UpstreamRefused: the next page lies on another host, or the page is an error object.
            UpstreamUnavailable: all pages together have not the rows they announce; a page breaks off.
        """
        document, count = self._read(payload)
        following = self._following(payload, document, count)
        if following is None:
            self._require_all(document)
            return None
        if self.number >= self.paging.max_pages:
            raise ContractViolation(
                "the pages do not end",
                expected=f"at most {self.paging.max_pages} pages (request.paging.max_pages)",
                came=f"another one after page {self.number}",
                todo="Raise max_pages if the source is really that long.",
            )
        self.number += 1
        return following

    def _read(self, payload: Payload) -> tuple[Any, int]:
        form = self.spec.format
        if form is None or form.kind != "json":
            return None, 0
        with open_payload(form, payload.path, self.spec.request.max_unpacked) as stream:
            document = read_document(stream.read(), form, Notes())
        count = len(rows_of(document, form, self.paging.total))
        if count and payload.sha256 in self._pages:
            # It does not heed which page is asked for. Its rows would even add up to the total it announces.
            raise self._repeats("another page each time", f"the bytes of an earlier one as page {self.number}")
        self._pages.add(payload.sha256)
        self.rows += count
        return document, count

    def _following(self, payload: Payload, document: Any, count: int) -> Turn | None:
        paging = self.paging
        full = paging.size is None or count >= paging.size
        if paging.kind == "page":
            last = _number(document, paging.pages) if paging.pages else None
            more = count and full if last is None else self.number < last
            return self._turn(str(_start(paging) + self.number)) if more else None
        if paging.kind == "offset":
            return self._turn(str(_start(paging) + self.rows)) if count and full else None
        mark = payload.following if paging.next is None else lookup(document, paging.next)
        if mark in _ENDS:
            return None
        if not isinstance(mark, str):
            raise ContractViolation(
                "the mark of the next page is none",
                expected=f"a text at {paging.next}",
                came=f"{type(mark).__name__} on page {self.number}",
                todo="Compare request.paging with the source's documentation.",
            )
        mark = mark if paging.kind == "cursor" else self._same_host(payload, mark)
        if mark in self._marks:
            where, again = f"at {paging.next}" if paging.next else "in the header Link", redact(mark)[:60]
            raise self._repeats(f"{where} another mark on each page", f"{again!r} again on page {self.number}")
        self._marks.add(mark)
        return self._turn(mark) if paging.kind == "cursor" else Turn(address=mark)

    def _repeats(self, expected: str, came: str) -> ContractViolation:
        todo = "Compare request.paging with the source's documentation."
        return ContractViolation("the pages repeat", expected=expected, came=came, todo=todo)

    def _turn(self, mark: str | None) -> Turn:
        sized = {self.paging.size_param: str(self.paging.size)} if self.paging.size_param else {}
        return Turn({**sized, **({self.paging.param: mark} if self.paging.param and mark is not None else {})})

    def _same_host(self, payload: Payload, address: str) -> str:
        """Return the next address without our credential, which `fetch` adds; only the same host may have it."""
        asked = urlsplit(payload.url)
        try:
            target = urlsplit(urljoin(payload.url, unrebase(address, self.upstream)))
            same = _host(target) == _host(asked)
        except ValueError:
            raise ContractViolation(
                "the address of the next page is none",
                expected=f"an address on {asked.netloc}",
                came=f"{len(address)} characters on page {self.number}",
                todo="Look at the answer, then compare request.paging with the source's documentation.",
            ) from None  # its text may hold the key
        if not same:
            raise UpstreamRefused(
                "the next page lies on another host",
                expected=asked.netloc,
                came=target.hostname or "no host",
                todo="Look at the answer; a source may only be paged on its own host.",
            )
        auth = self.spec.request.auth
        # Of the rest not a byte is changed: it may be signed.
        pairs = [p for p in target.query.split("&") if not auth or unquote_plus(p.partition("=")[0]) != auth.query]
        # Behind a proxy upstreams often write http. The key is not sent in the clear where it was not before.
        scheme = asked.scheme if asked.scheme == "https" else target.scheme
        return urlunsplit((scheme, asked.netloc, target.path, "&".join(pairs), ""))

    def _require_all(self, document: Any) -> None:
        path = self.paging.total
        if path is None:
            return
        total = _number(document, path)
        if self.rows != total:
            raise UpstreamUnavailable(
                "the pages are not all the rows",
                expected=f"{total} rows ({path})",
                came=f"{self.rows} on {self.number} pages",
                todo="The upstream may have changed while it was read: a later try may pass.",
            )


def _host(parts: SplitResult) -> tuple[str | None, int | None]:
    """Return host and port, None for the port that goes without saying. Raises ValueError where it is no number."""
    return parts.hostname, parts.port if parts.port != {"https": 443, "http": 80}.get(parts.scheme) else None


def _start(paging: Paging) -> int:
    return paging.first if paging.first is not None else (1 if paging.kind == "page" else 0)


def _number(document: Any, path: str) -> int:
    value = lookup(document, path)
    try:
        return int(str(value))
    except ValueError as error:
        raise ContractViolation(
            "a page does not say how many there are",
            expected=f"a number at {path}",
            came=repr(value)[:60],
            todo="Compare the payload with the sample; if the layout has changed, adjust request.paging.",
        ) from error
