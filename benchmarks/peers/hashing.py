"""Nothing but download and SHA-256: the limit of a refresh that finds the payload it has."""

from __future__ import annotations

import hashlib
import urllib.request

from timing import run_steps


def load(url: str, *_: object) -> None:
    """Hash what is served."""
    hashed = hashlib.sha256()
    with urllib.request.urlopen(url) as answer:
        while chunk := answer.read(1 << 20):
            hashed.update(chunk)


run_steps(load)
