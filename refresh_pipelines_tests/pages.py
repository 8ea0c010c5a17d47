"""An upstream on loopback that answers by address and query, for instance a list of rows in pages of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from refresh_pipelines_tests.upstream import Act, Upstream, answer
from refresh_pipelines_tests.workbench import Bench, spec_of

PLACE = "https://example.org/data"
COLUMNS = {"k": {"type": "text", "nullable": False}, "n": {"type": "int"}}
KINDS = ["pages", "page", "offset", "cursor", "link", "header"]
SECRET = "0123456789abcdef"
BY_QUERY, BY_HEADER = {"env": "DATA_KEY", "query": "subscription"}, {"env": "DATA_KEY", "header": "X-Subscription"}
FORM = {"kind": "json", "rows": "rows", "error": "error"}
Serve = Callable[[str, dict[str, str]], Any]


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"k": f"k{number:03}", "n": number} for number in range(first, first + count)]


@contextmanager
def started(folder: Path) -> Iterator[Callable[[Serve], tuple[Upstream, Bench]]]:
    """Yield what starts an upstream and returns it with a bench in `folder` that works on it and has a key."""
    with ExitStack() as stack:

        def start(serve: Serve) -> tuple[Upstream, Bench]:
            upstream = stack.enter_context(Upstream(reply(serve)))
            bench = Bench(folder, upstream.base)
            bench.settings = replace(bench.settings, environ={"DATA_KEY": SECRET})
            return upstream, bench

        yield start


def said(document: Any, **headers: str) -> bytes:
    """A JSON document as bytes on the wire."""
    return answer(json.dumps(document).encode(), headers=headers)


def reply(serve: Serve) -> Act:
    """Let `serve` say what an address and a query are answered: bytes on the wire, or a JSON document."""

    def act(handler: Any) -> None:
        parts = urlsplit(handler.path)
        given = serve(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)))
        handler.wfile.write(given if isinstance(given, bytes) else said(given))

    return act


def queries(upstream: Upstream) -> list[str]:
    """What was asked, without host and path."""
    return [path.partition("?")[2] for _, path, _, _ in upstream.seen]


def declared(kind: str, size: int, /, **more: Any) -> dict[str, Any]:
    """How a source declares the pages that `in_pages` serves."""
    return {
        "pages": {"kind": "page", "param": "page", "pages": "meta.pages"},
        "page": {"kind": "page", "param": "page", "size": size},
        "offset": {"kind": "offset", "param": "offset", "size": size},
        "cursor": {"kind": "cursor", "param": "mark", "next": "meta.next"},
        "link": {"kind": "link", "next": "meta.next"},
        "header": {"kind": "link"},
    }[kind] | more


def in_pages(kind: str, every: list[dict[str, Any]], size: int) -> Serve:
    """Serve rows as an upstream with this kind of pages would."""

    def serve(path: str, query: dict[str, str]) -> bytes:
        number = int(query.get("page", 1)) - 1
        begin = number * size if kind in ("pages", "page") else int(query.get("offset") or query.get("mark") or 0)
        more, headers = begin + size < len(every), {}
        meta: dict[str, Any] = {"total": len(every), "pages": -(-len(every) // size), "next": None}
        if more and kind == "cursor":
            meta["next"] = str(begin + size)
        if more and kind == "link":
            meta["next"] = f"{PLACE}?mark={begin + size}"
        if more and kind == "header":
            headers["Link"] = f'<{PLACE}?mark={begin + size}>; rel="next"'
        return said({"meta": meta, "rows": every[begin : begin + size]}, **headers)

    return serve


def paged(paging: dict[str, Any], source: str = "mini", **changes: Any):
    """A JSON source of two columns that is read in pages."""
    request = {"url": PLACE, "paging": paging, **changes.pop("request", {})}
    return spec_of(source, **{"request": request, "format": FORM, "columns": COLUMNS, **changes})
