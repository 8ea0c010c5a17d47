"""NDBC standard meteorological text, realtime and archive, in every layout since 1970. Columns are bound by name.

since 2007      #YY MM DD hh mm WDIR … and a second # line with the units; realtime also has PTDY
2005, 2006      YYYY MM DD hh mm WD … BAR …, no # and no units
1999 to 2004    the same without mm; TIDE since 2000, absent from the first rows of some files
until 1998      the same with years of two digits and without TIDE

All rows come out with the names of today, the time as `obs_time`, and null for columns the file lacks.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from refresh_pipelines.body import excerpt, looks_like_page
from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.container import open_plain
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import Window, fill

BLOCK = 4 << 20
LONGEST_LINE = 4096
DIRECTION = frozenset({"degT", "deg"})  # 2008 and 2010 print deg for MWD
# NDBC describes VIS in nautical miles; the archive's unit line calls them mi.
UNITS: dict[str, frozenset[str]] = {
    "WDIR": DIRECTION,
    "WSPD": frozenset({"m/s"}),
    "GST": frozenset({"m/s"}),
    "WVHT": frozenset({"m"}),
    "DPD": frozenset({"sec"}),
    "APD": frozenset({"sec"}),
    "MWD": DIRECTION,
    "PRES": frozenset({"hPa"}),
    "ATMP": frozenset({"degC"}),
    "WTMP": frozenset({"degC"}),
    "DEWP": frozenset({"degC"}),
    "VIS": frozenset({"nmi", "mi"}),
    "PTDY": frozenset({"hPa"}),
    "TIDE": frozenset({"ft"}),
}
RENAMED = {"YYYY": "YY", "WD": "WDIR", "BAR": "PRES"}
TIME = ("YY", "MM", "DD", "hh")
_COMPARE = "Compare it with the sample: the layout may have changed, or the address serves another kind of file."


@dataclass(frozen=True)
class Layout:
    """What the header says: the fields of each row under today's names, and whether the file is from before 2007."""

    names: tuple[str, ...]
    old: bool


def stdmet(path: Path, spec: SourceSpec, _window: Window) -> Iterator[pa.Table]:
    """Yield the rows of one realtime file, plain or gzipped, as tables of text.

    A file without PTDY is one of the archive, where nines stand for missing values that would be loaded as such here.

    Raises:
        UpstreamRefused: nothing in the file, or a web page.
        UpstreamUnavailable: the gzip file, or a line, breaks off.
        ContractViolation: no header of this kind, another unit, or a row with another number of fields.
    """
    yield from _tables(path, spec, optional=frozenset({"TIDE"}))


def stdmet_history(path: Path, spec: SourceSpec, window: Window) -> Iterator[pa.Table]:
    """Yield the rows of one archive file of any year in the same way, with `station_id`.

    That is the window's `station` in upper case, as the realtime source writes it. Raises as `stdmet` does, and
    UpstreamRefused for a window without a station.
    """
    station = fill("{station}", window, "column station_id").upper()
    for table in _tables(path, spec, optional=frozenset({"PTDY", "TIDE"})):
        yield table.append_column("station_id", pa.repeat(pa.scalar(station), table.num_rows))


def _tables(path: Path, spec: SourceSpec, optional: frozenset[str]) -> Iterator[pa.Table]:
    with open_plain(path, spec.request.max_unpacked) as stream:
        layout = _read_header(stream, optional)
        short = layout.old and layout.names[-1] == "TIDE"
        for block in _blocks(stream):
            text = _squeezed(block)
            if short:
                text, short = _with_empty_tide(text, len(layout.names))
            if text:
                yield _named(_split(text, layout))


def _read_header(stream: io.BufferedReader, optional: frozenset[str]) -> Layout:
    if looks_like_page(stream.peek(512)):
        raise UpstreamRefused(
            "the payload is a web page",
            expected="NDBC standard meteorological text",
            came=f"a body beginning {excerpt(stream.peek(512))}",
            todo="Open the address in a browser: it may have moved; then correct request.url.",
        )
    line = stream.readline(LONGEST_LINE)
    if not line.strip():
        raise UpstreamRefused(
            "the file is empty",
            expected="NDBC standard meteorological text",
            came=f"{len(line)} bytes in the first line",
            todo="Look at the address in a browser; NDBC has published empty files before.",
        )
    layout = _layout(line, optional)
    _require_end(line)
    if not layout.old:
        units = stream.readline(LONGEST_LINE)
        _require_end(units)
        _require_units(layout, units)
    return layout


def _layout(line: bytes, optional: frozenset[str]) -> Layout:
    text = line.decode("ascii", "replace").strip()
    names = tuple(RENAMED.get(name, name) for name in text.lstrip("#").split())
    missing = [name for name in (*TIME, *UNITS) if name not in names and name not in optional]
    if missing or names[:4] != TIME or len(set(names)) < len(names):
        raise ContractViolation(
            "the first line is no header of NDBC standard meteorological data",
            expected=f"{' '.join(TIME)} and then the columns {' '.join(UNITS)}, each once",
            came=excerpt(line) + (f", without {', '.join(missing)}" if missing else ""),
            todo=_COMPARE,
        )
    return Layout(names, old=not text.startswith("#"))


def _require_units(layout: Layout, line: bytes) -> None:
    units = line.decode("ascii", "replace").strip().lstrip("#").split()
    found = dict(zip(layout.names, units, strict=False))
    known = [name for name in UNITS if name in found]
    wrong = [f"{name} in {found[name]}" for name in known if found[name] not in UNITS[name]]
    if wrong or len(units) != len(layout.names) or not line.startswith(b"#"):
        raise ContractViolation(
            "the second line does not name the known units",
            expected=", ".join(f"{name} in {' or '.join(sorted(UNITS[name]))}" for name in known or UNITS),
            came=", ".join(wrong) or excerpt(line),
            todo="If NDBC has changed a unit, convert it in a new column: old rows keep theirs.",
        )


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    """Yield whole lines in pieces of about `BLOCK` bytes. Raises UpstreamUnavailable where the last one has no end."""
    rest = b""
    while piece := stream.read(BLOCK):
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield rest + piece[:cut]
        rest = piece[cut:] if cut else rest + piece
        if len(rest) > BLOCK:
            raise _irregular(f"a line of more than {BLOCK} bytes")
    if rest.strip():
        _require_end(rest)


def _require_end(line: bytes) -> None:
    if not line.endswith(b"\n"):
        raise UpstreamUnavailable(
            "the file breaks off in the middle of a line",
            expected="an end of line after every row",
            came=excerpt(line),
            todo="The transfer may have been cut, or the upstream was writing the file: a later try may pass.",
        )


def _squeezed(block: bytes) -> bytes:
    """Leave one space between fields, and none around lines; on whole blocks, as rows are many."""
    text = block.replace(b"\r", b"").replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    text = text.replace(b" \n", b"\n").replace(b"\n ", b"\n").lstrip(b" \n")
    return text if text.strip() else b""


def _with_empty_tide(text: bytes, width: int) -> tuple[bytes, bool]:
    """Give the first rows, as long as they are one field short, an empty last one; and say whether all were short.

    Only the first rows: further down a short row has lost a field that nobody can name.
    """
    short = re.match(rb"(?:[^ \n]+(?: [^ \n]+){%d}\n)*" % (width - 2), text)
    end = short.end() if short else 0
    return text[:end].replace(b"\n", b" \n") + text[end:], end == len(text)


def _split(text: bytes, layout: Layout) -> pa.Table:
    with _regular(len(layout.names)):
        return csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=list(layout.names), block_size=len(text) + 1),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=dict.fromkeys(layout.names, pa.string()), strings_can_be_null=False),
        )


@contextmanager
def _regular(width: int) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise _irregular(" ".join(str(error).split())[:300], width) from error


def _irregular(came: str, width: int | None = None) -> ContractViolation:
    return ContractViolation(
        "the text is not regular",
        expected=f"{width} fields in every row, as the header has" if width else "lines",
        came=came,
        todo=_COMPARE,
    )


def _named(table: pa.Table) -> pa.Table:
    """Return the columns under today's names with `obs_time`; those NDBC added since keep the name they came with."""
    nothing = pa.nulls(table.num_rows, pa.string())
    columns = {"obs_time": _obs_time(table)}
    columns |= {name: table[name] if name in table.column_names else nothing for name in UNITS}
    columns |= {name: table[name] for name in table.column_names if name not in {*columns, *TIME, "mm"}}
    return pa.table(columns)


def _obs_time(table: pa.Table) -> pa.ChunkedArray:
    """Return ISO texts in UTC; what is no time comes out as no time, for the contract to refuse."""
    year = table["YY"]
    # Two digits were given up with 1998, and no file is older than 1970.
    year = pc.if_else(pc.equal(pc.utf8_length(year), 2), _join("19", year, ""), year)
    month, day, hour = (pc.utf8_lpad(table[name], 2, "0") for name in TIME[1:])
    minute = pc.utf8_lpad(table["mm"], 2, "0") if "mm" in table.column_names else pa.scalar("00")
    return _join(_join(year, month, day, "-"), _join(hour, minute, "00Z", ":"), "T")


def _join(*texts: object) -> pa.ChunkedArray:
    """Join columns and constants row by row; the last one is the separator."""
    return pc.binary_join_element_wise(*(pa.scalar(text) if isinstance(text, str) else text for text in texts))
