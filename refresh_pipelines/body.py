"""First looks at a payload's bytes, shared by `fetch` (what the upstream said) and `parse` (what the rows are)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refresh_pipelines.redact import redact
from refresh_pipelines.spec import Format, SourceSpec

# Some servers put kilobytes of empty lines before their pages.
_HEAD = 16_384
_KINDS = {
    "csv": "CSV",
    "json": "JSON",
    "jsonl": "file of JSON lines",
    "parquet": "Parquet file",
    "xlsx": "XLSX workbook",
}
_PAGES = (b"<!doctype", b"<!--", b"<html", b"<head", b"<title", b"<body", b"<?xml", b"<script")


def page_head(path: Path) -> bytes | None:
    """Return the beginning of a file that is a web page or XML in place of data, None for anything else."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head if looks_like_page(head) else None


def looks_like_page(head: bytes) -> bool:
    """Whether a body begins like HTML or XML, after byte-order marks and white space, in UTF-8 or UTF-16."""
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    return text.startswith(_PAGES)


def expected_kind(spec: SourceSpec) -> str:
    """Say in words what kind of body the source declares."""
    if spec.format is None:
        return f"what {spec.parser} reads"
    return kind_of(spec.format)


def kind_of(form: Format) -> str:
    """Say in words what kind of file a format declares."""
    archive = {"zip": "ZIP archive of ", "gzip": "gzip file of "}.get(form.archive or "", "")
    if form.kind == "detect":
        return " or ".join(_KINDS[kind] for kind in form.of)
    return f"a {archive}{_KINDS[form.kind]}"


def excerpt(body: bytes, length: int = 120) -> str:
    """Return the beginning of a body, readable on one line; upstreams repeat requests with their keys."""
    # Masked before it is cut: half a key is too much of it.
    words = redact(" ".join(body[:_HEAD].decode("utf-8", "replace").split()))
    return repr(words[:length])


def lookup(document: Any, path: str) -> Any:
    """Follow a dotted path of names and list positions; None where it leads nowhere."""
    for part in path.split(".") if path else ():
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document
