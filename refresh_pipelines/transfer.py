"""The body of one HTTP answer as it comes in: bounded in time, unpacked a piece at a time, never silently cut."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import requests
from urllib3.exceptions import DecodeError

CHUNK = 1 << 18
# Only what is asked for here is unpacked here.
ACCEPT_ENCODING = "gzip"
_GZIP = 16 + zlib.MAX_WBITS


def body_chunks(response: requests.Response, seconds: float, clock: Callable[[], float]) -> Iterator[bytes]:
    """Yield the decoded body in pieces of at most `CHUNK` bytes.

    Raises:
        requests.Timeout: the body is not complete after `seconds`, however steadily it drips.
        urllib3.exceptions.HTTPError: a broken connection, a body shorter than announced, a damaged
            or unfinished gzip stream, or an encoding that was not asked for.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    pieces = _received(response, seconds, clock)
    if encoding in ("", "identity"):
        return pieces
    if encoding in ("gzip", "x-gzip"):
        return _unpacked(pieces)
    raise DecodeError(f"Content-Encoding {encoding!r}, where {ACCEPT_ENCODING} was asked for")


def _received(response: requests.Response, seconds: float, clock: Callable[[], float]) -> Iterator[bytes]:
    limit = clock() + seconds
    # read1 returns whatever has come; read would wait for a whole chunk, and under a drip for hours.
    while piece := response.raw.read1(CHUNK, decode_content=False):
        if clock() > limit:
            raise requests.Timeout(f"the body is not complete after {seconds:.0f} s")
        yield piece


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip; unlike HTTP libraries, notice a stream that ends before its trailer."""
    member, members = zlib.decompressobj(_GZIP), 0
    begun = False
    for piece in pieces:
        data, begun = piece, True
        while data:
            if member.eof:
                member, members = zlib.decompressobj(_GZIP), members + 1
            try:
                yield from _drained(member, data)
            except zlib.error as error:
                if members:
                    return  # padding after the last member, as tapes and some servers leave it
                raise DecodeError(f"damaged gzip stream: {error}") from error
            data = member.unused_data
    if begun and not member.eof:
        raise DecodeError("the gzip stream breaks off")


def _drained(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        out = member.decompress(data, CHUNK)
        if out:
            yield out
        data = member.unconsumed_tail
        if member.eof or (not data and len(out) < CHUNK):
            return
