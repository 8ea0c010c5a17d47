"""The kinds of faults, in one table: each changes the answer, or the way it is sent."""

from __future__ import annotations

import gzip
import re
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from refresh_pipelines.sandbox_answers import TYPES, Answer, http_date, phrase
from refresh_pipelines.units import parse_duration

Value = TypeVar("Value")
_BLOCK = 1 << 16
_DRIP = 8
_METADATA = "http://169.254.169.254/latest/meta-data/"


@dataclass(frozen=True)
class Asked:
    """The request as some servers repeat it.

    Attributes:
        target: path and query as they were sent, key included.
        base: address of the sandbox.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    base: str
    now: datetime


class Wire(Protocol):
    """The connection an answer goes over. Each method raises ConnectionError when client or sandbox are gone."""

    def head(self, answer: Answer, *, length: bool = True) -> None:
        """Send status and headers; without `length` no Content-Length is added."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are; nothing when only the headers were asked for."""

    def wait(self, seconds: float | None) -> None:
        """Let time pass; None waits until the sandbox stops."""

    def reset(self) -> None:
        """Break the connection off with a TCP reset."""


@dataclass(frozen=True)
class Kind(Generic[Value]):
    """One way to misbehave.

    Attributes:
        says: what happens, in one line.
        read: turns the argument's text into what `tamper` and `send` are given; ValueError refuses it.
        argument: how the argument is called in lists; empty where there is none.
        default: the argument's text when none is given.
        tamper: changes the answer.
        send: puts it on the wire.
        conditional: whether 304 is still answered where it is due; otherwise the whole answer is tampered with.
    """

    says: str
    read: Callable[[str], Value]
    argument: str = ""
    default: str = ""
    tamper: Callable[[Answer, Asked, Value], Answer] = lambda answer, _asked, _value: answer
    send: Callable[[Wire, Answer, Value], None] = lambda wire, answer, _value: send_whole(wire, answer)
    conditional: bool = False

    @property
    def spelling(self) -> str:
        """What stands behind the name, for instance `[:SHARE]`."""
        return self.argument and f"[:{self.argument}]"


def send_whole(wire: Wire, answer: Answer) -> None:
    """Send an answer as it should be sent."""
    wire.head(answer)
    wire.write(answer.body)


def _nothing(_text: str) -> None:
    """Read no argument."""


def _text(text: str) -> str:
    return text


def _status(text: str) -> int:
    if not re.fullmatch(r"[2-5][0-9]{2}", text):
        raise ValueError("expected an HTTP status from 200 to 599")
    return int(text)


def _status_or_data(text: str) -> str:
    return text if text == "data" else str(_status(text))


def _status_and_wait(text: str) -> tuple[int, str]:
    code, _, after = text.partition(",")
    return _status(code), after


def _seconds(text: str) -> float:
    """Read `2s`, `0.05s` or another duration."""
    found = re.fullmatch(r"(\d*\.?\d+)s", text)
    return float(found[1]) if found else parse_duration(text).total_seconds()


def _share(text: str) -> Callable[[int], int]:
    """Read `50%` or `120B`, as a function from a body's length to a part of it."""
    found = re.fullmatch(r"(\d+)([%B])", text)
    if not found:
        raise ValueError("expected a share or a number of bytes, as 50% or 120B")
    number = int(found[1])
    return (lambda whole: whole * number // 100) if found[2] == "%" else (lambda _whole: number)


def _address(text: str) -> str:
    if not urlsplit(text).scheme:
        raise ValueError("expected an address such as http://10.0.0.1/")
    return text


def _with(answer: Answer, **headers: str) -> Answer:
    """Set headers; an underscore stands for a hyphen."""
    return replace(answer, headers={**answer.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})


def _refuse(_answer: Answer, asked: Asked, value: tuple[int, str]) -> Answer:
    """Any status, with Retry-After where one is given; `+120` is the HTTP date in 120 seconds."""
    status, after = value
    if re.fullmatch(r"\+[0-9]+", after):
        after = http_date(asked.now + timedelta(seconds=int(after)))
    headers = {"Content-Type": TYPES[".txt"], **({"Retry-After": after} if after else {})}
    return Answer(status, f"{status} {phrase(status)}\n".encode(), headers)


def _redirect(_answer: Answer, _asked: Asked, target: str) -> Answer:
    return Answer(302, b"", {"Location": target})


def _redirect_to_itself(_answer: Answer, asked: Asked, _value: None) -> Answer:
    return Answer(302, b"", {"Location": asked.base + asked.target})


def _unmodified(_answer: Answer, _asked: Asked, _value: None) -> Answer:
    return Answer(304, b"")  # with the ETag of the new data it would give itself away


def _new_etag(answer: Answer, _asked: Asked, _value: None) -> Answer:
    return _with(answer, ETag=f'"{secrets.token_hex(8)}"')


def _same_etag(answer: Answer, _asked: Asked, _value: None) -> Answer:
    kept = {name: value for name, value in answer.headers.items() if name != "Last-Modified"}
    return replace(answer, headers={**kept, "ETag": '"always-the-same"'})


def _page(answer: Answer, _asked: Asked, kind: str) -> Answer:
    """A page; `data` gives it the type that the data would have had."""
    body = b"<!DOCTYPE html>\n<html><head><title>We have moved</title></head><body>Please log in.</body></html>\n"
    own = answer.headers.get("Content-Type", TYPES[".html"])
    return Answer(200, body, {"Content-Type": own if kind == "data" else kind})


def _echo(answer: Answer, asked: Asked, text: str) -> Answer:
    """The whole request in the body, as gateways and debugging pages have it."""
    said = "\n".join([f"{asked.method} {asked.target}", *(f"{name}: {value}" for name, value in asked.headers.items())])
    if text == "data":
        return Answer(200, f"{said}\n".encode(), answer.headers)
    status = int(text)
    if status == 200:
        return Answer(200, f"<!DOCTYPE html>\n<pre>{said}</pre>\n".encode(), {"Content-Type": TYPES[".html"]})
    return Answer(status, f"{phrase(status)}: {said}\n".encode(), {"Content-Type": TYPES[".txt"]})


def _empty(answer: Answer, _asked: Asked, _value: None) -> Answer:
    return Answer(200, b"", answer.headers)


def _json_error(_answer: Answer, _asked: Asked, _value: None) -> Answer:
    body = b'{"error": {"code": 500, "message": "Error performing query operation"}}'
    return Answer(200, body, {"Content-Type": TYPES[".json"]})


def _truncate(answer: Answer, _asked: Asked, share: Callable[[int], int]) -> Answer:
    whole = len(answer.body)
    return _with(replace(answer, body=answer.body[: share(whole)]), Content_Length=str(whole))


def _wrong_length(answer: Answer, _asked: Asked, share: Callable[[int], int]) -> Answer:
    return _with(answer, Content_Length=str(share(len(answer.body))))


def _cut_chunks(answer: Answer, _asked: Asked, share: Callable[[int], int]) -> Answer:
    return _with(replace(answer, body=answer.body[: share(len(answer.body))]), Transfer_Encoding="chunked")


def _send_one_chunk(wire: Wire, answer: Answer, _value: object) -> None:
    """Send a chunk, and not the empty one that says the body is over."""
    wire.head(answer, length=False)
    if answer.body:
        wire.write(b"%x\r\n%s\r\n" % (len(answer.body), answer.body))


def _cut_gzip(answer: Answer, _asked: Asked, share: Callable[[int], int]) -> Answer:
    packed = gzip.compress(answer.body, mtime=0)
    return _with(replace(answer, body=packed[: share(len(packed))]), Content_Encoding="gzip")


def _damaged_gzip(answer: Answer, _asked: Asked, _value: None) -> Answer:
    packed = bytearray(gzip.compress(answer.body, mtime=0))
    # The header is left as it is, and the damage is where every length of body has some.
    for at in range(10, len(packed)):
        packed[at] ^= 0xFF
    return _with(replace(answer, body=bytes(packed)), Content_Encoding="gzip")


def _encoding(answer: Answer, _asked: Asked, name: str) -> Answer:
    return _with(answer, Content_Encoding=name)


def _delay(wire: Wire, answer: Answer, seconds: float) -> None:
    wire.wait(seconds)
    send_whole(wire, answer)


def _stall(wire: Wire, answer: Answer, share: Callable[[int], int]) -> None:
    wire.head(answer)
    wire.write(answer.body[: share(len(answer.body))])
    wire.wait(None)


def _drip(wire: Wire, answer: Answer, seconds: float) -> None:
    wire.head(answer)
    for at in range(0, len(answer.body), _DRIP):
        wire.write(answer.body[at : at + _DRIP])
        wire.wait(seconds)


def _reset(wire: Wire, answer: Answer, share: Callable[[int], int]) -> None:
    wire.head(answer)
    wire.write(answer.body[: share(len(answer.body))])
    wire.reset()


def _hang_up(_wire: Wire, _answer: Answer, _value: None) -> None:
    """Say nothing: the connection is closed when the handler returns."""


def _no_http(wire: Wire, _answer: Answer, _value: None) -> None:
    wire.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")


def _huge(wire: Wire, answer: Answer, _value: None) -> None:
    """Repeat the body as fast as it is taken, without a Content-Length."""
    wire.head(answer, length=False)
    block = answer.body * (_BLOCK // len(answer.body) + 1) if answer.body else bytes(_BLOCK)
    while True:
        wire.write(block)


def _bomb(wire: Wire, answer: Answer, _value: None) -> None:
    """Send gzip of nothing but zeros for as long as it is taken: a thousand times as much when unpacked."""
    wire.head(_with(answer, Content_Encoding="gzip"), length=False)
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    while True:
        wire.write(packer.compress(bytes(_BLOCK)))


KINDS: dict[str, Kind[Any]] = {
    "status": Kind(
        "an HTTP status, with Retry-After: seconds, any text, or +SECONDS for a date",
        _status_and_wait, "CODE[,RETRY_AFTER]", "503", _refuse,
    ),
    "redirect": Kind("a redirect, for instance into a private network", _address, "ADDRESS", _METADATA, _redirect),
    "redirect_loop": Kind("a redirect to the same address, for ever", _nothing, tamper=_redirect_to_itself),
    "unmodified": Kind("304, whatever was asked and whether or not the data changed", _nothing, tamper=_unmodified),
    "new_etag": Kind("the data with another ETag at each answer, and never 304", _nothing, tamper=_new_etag),
    "same_etag": Kind("the data with the same ETag whatever they are, and never 304", _nothing, tamper=_same_etag),
    "html": Kind("200 with a web page; `html:data` says it is data", _text, "TYPE", TYPES[".html"], _page),
    "echo": Kind(
        "the request repeated, key included: as an error, a page (200) or under 200 as if it were data (data)",
        _status_or_data, "CODE", "400", _echo,
    ),
    "empty": Kind("200 with no bytes", _nothing, tamper=_empty),
    "json_error": Kind('200 with {"error": ...}', _nothing, tamper=_json_error),
    "truncate": Kind("the body cut, Content-Length says the whole", _share, "SHARE", "50%", _truncate),
    "wrong_length": Kind("a Content-Length larger or smaller than the body", _share, "SHARE", "150%", _wrong_length),
    "cut_chunks": Kind(
        "the body cut, chunked, without the last chunk", _share, "SHARE", "50%", _cut_chunks, _send_one_chunk
    ),
    "cut_gzip": Kind("the body packed and then cut, with its true length", _share, "SHARE", "50%", _cut_gzip),
    "bad_gzip": Kind("the body packed and then damaged", _nothing, tamper=_damaged_gzip),
    "unknown_encoding": Kind("a Content-Encoding nobody asked for", _text, "NAME", "br", _encoding),
    "delay": Kind("the ordinary answer, late", _seconds, "TIME", "2s", send=_delay, conditional=True),
    "stall": Kind("the beginning of the body, then silence", _share, "SHARE", "50%", send=_stall),
    "drip": Kind(f"{_DRIP} bytes at a time, a pause after each", _seconds, "TIME", "1s", send=_drip),
    "reset": Kind("the beginning of the body, then a TCP reset", _share, "SHARE", "50%", send=_reset),
    "hang_up": Kind("the connection closed without an answer", _nothing, send=_hang_up),
    "no_http": Kind("bytes that are no HTTP", _nothing, send=_no_http),
    "huge": Kind("the body again and again, without end", _nothing, send=_huge),
    "bomb": Kind("a few packed bytes that unpack to zeros without end", _nothing, send=_bomb),
}  # fmt: skip
