"""What one request may be told and may bring: the values between `fetch` and whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refresh_pipelines.received import Received
from refresh_pipelines.validators import Validators


@dataclass(frozen=True)
class Turn:
    """What one page's request differs in.

    Attributes:
        params: query parameters of this page alone.
        address: the whole address, which an upstream gave for its next page; `request.params` are in it.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None


@dataclass(frozen=True)
class Payload:
    """Bytes on disk, and what came with them. `url` is the logical address, redacted.

    Attributes:
        validators: what may be sent back with the next request.
        following: address of the next page as the header Link says it, perhaps relative or with a credential.
        last_modified: the header, where it says more than the time of the answer.
        received: what is written down of the answer.
    """

    path: Path
    url: str
    sha256: str
    bytes: int
    validators: Validators | None = None
    following: str | None = None
    last_modified: str | None = None
    received: Received | None = None


@dataclass(frozen=True)
class NotModified:
    """The upstream said 304: what we hold is what it serves. `signal`: its catalogue said so, and it was not asked."""

    url: str
    signal: bool = False
