"""What one look at the bytes of a column of text rules out, so that most columns are not looked at value by value.

All answers are on the safe side: "perhaps" costs time, never a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

_SPACE, _LAST_ASCII = 0x20, 0x7F


@dataclass(frozen=True)
class Bytes:
    """The least and the greatest byte of all values of a column; of one without any, those that rule out nothing."""

    least: int = 0
    greatest: int = 0xFF

    @property
    def ascii_without_control(self) -> bool:
        """Whether all are ASCII from the space on: of white space there is the space, and no other."""
        return self.least >= _SPACE and self.greatest <= _LAST_ASCII

    @property
    def of_integers(self) -> bool:
        """Whether there are digits and `+ , - . /` only: what Arrow reads as an integer then is one in decimal."""
        return self.least >= ord("+") and self.greatest <= ord("9")


def bytes_of(text: pa.Array) -> Bytes:
    """Return the ends of the bytes that the values of a column of type string lie in, with those of null slots."""
    if not len(text) or not pa.types.is_string(text.type):
        return Bytes()
    _, offsets, data = text.buffers()
    if data is None:
        return Bytes()
    places = pa.Array.from_buffers(pa.int32(), len(text) + 1, [None, offsets], offset=text.offset)
    first, last = places[0].as_py(), places[len(text)].as_py()
    if first == last:
        return Bytes()
    ends = pc.min_max(pa.Array.from_buffers(pa.uint8(), last - first, [None, data], offset=first)).as_py()
    return Bytes(ends["min"], ends["max"])


def trimmed(text: pa.Array, seen: Bytes) -> pa.Array:
    """Return the texts without white space around them, in the sense of Unicode."""
    if seen.ascii_without_control:
        padded = (pc.any(pc.starts_with(text, " ")), pc.any(pc.ends_with(text, " ")))
        if seen.least > _SPACE or not any(one.as_py() for one in padded):
            return text
    return pc.utf8_trim_whitespace(text)


def shortest_longest(text: pa.Array) -> tuple[int, int]:
    """Return the bytes of the shortest and of the longest value; 0 and 0 where there is none."""
    ends = pc.min_max(pc.binary_length(text)).as_py()
    return ends["min"] or 0, ends["max"] or 0
