"""First looks at a payload's bytes, shared by `fetch` (what the upstream said) and `parse` (what the rows are)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refresh_pipelines.spec import SourceSpec


def looks_like_page(head: bytes) -> bool:
    """Whether a body begins like HTML or XML, after byte-order marks and white space."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script"))


def expected_kind(spec: SourceSpec) -> str:
    """Say in words what kind of body the source declares."""
    if spec.format is None:
        return f"what {spec.parser} reads"
    return f"a {'ZIP archive of ' if spec.format.archive else ''}{spec.format.kind.upper()}"


def excerpt(body: bytes, length: int = 120) -> str:
    """Return the beginning of a body, readable on one line."""
    return repr(" ".join(body[:length].decode("utf-8", "replace").split()))


def lookup(document: Any, path: str) -> Any:
    """Follow a dotted path of names and list positions; None where it leads nowhere."""
    for part in path.split(".") if path else ():
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document
