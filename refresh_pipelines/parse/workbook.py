"""The cells of an XLSX workbook as text, row by row, and what a text alone would not say of them.

Nothing is computed: a formula counts with the value the program that saved it has left, and one without is marked.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa

from refresh_pipelines.errors import ContractViolation, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.parse.container import DAMAGE, open_seekable
from refresh_pipelines.spec import Format

BATCH = 20_000
# OSError and the like: offsets and methods of packing that damaged bytes make up.
_CUT = (*DAMAGE, NotImplementedError)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        at: its address, C14.
        text: what it says, without white space around it; a number with all its digits, a day as 2026-01-31.
        number: its value where it is a number, in a workbook only.
        percent: whether a number is shown as a percentage, so that 0.125 is 12.5 %.
        trouble: why its value is none: an error, or a formula nobody has computed.
    """

    at: str
    text: str
    number: float | None = None
    percent: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Sheet:
    """One sheet, or a CSV as one without a name.

    Attributes:
        rows: every row from the first, each from the first column; to be read once.
        epoch: day 0 of dates that are stored as numbers.
    """

    name: str | None
    hidden: bool
    rows: Iterator[list[Cell]]
    epoch: date = date(1899, 12, 30)


def address(row: int, column: int) -> str:
    """Return the address of a cell, rows and columns counted from 1: C14."""
    letters = ""
    while column:
        column, place = divmod(column - 1, 26)
        letters = chr(ord("A") + place) + letters
    return f"{letters}{row}"


@contextmanager
def open_workbook(path: Path, limit: int) -> Iterator[list[Sheet]]:
    """Yield the sheets of a workbook in their order; rows are read while they are asked for.

    Raises:
        UpstreamRefused: it would unpack to more than `limit` bytes.
        UpstreamUnavailable: it breaks off.
        ContractViolation: a part of it is not as a workbook has it.
    """
    # Needed where a workbook is read, and slow to import.
    from openpyxl import load_workbook  # noqa: PLC0415

    with open_seekable(path, limit) as file:
        with _damage():
            _require_room(file, limit)
            # The values, and in step with them what they are computed from: each alone says half.
            values = load_workbook(file, read_only=True, data_only=True)
            formulas = load_workbook(file, read_only=True)
            epoch = values.epoch.date()
        pairs = zip(values.worksheets, formulas.worksheets, strict=True)
        try:
            yield [Sheet(a.title, a.sheet_state != "visible", _rows(a, b), epoch) for a, b in pairs]
        finally:
            values.close()
            formulas.close()


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except _CUT as error:
        raise UpstreamUnavailable(
            "the workbook is truncated or damaged",
            expected="a complete XLSX workbook",
            came=str(error) or type(error).__name__,
            todo="It may still be being written, or was cut: a later try may pass.",
        ) from error
    except (KeyError, ValueError, TypeError, ParseError) as error:
        why = error.__cause__ or error  # openpyxl says first in which file it was
        raise ContractViolation(
            "the workbook cannot be read",
            expected="an XLSX workbook",
            came=f"{type(why).__name__}: {why}",
            todo="Open it in a spreadsheet program and save it anew as .xlsx.",
        ) from error


def _require_room(file: IO[bytes], limit: int) -> None:
    if sum(info.file_size for info in zipfile.ZipFile(file).infolist()) > limit:
        raise UpstreamRefused(
            "the workbook unpacks to more than request.max_unpacked",
            expected=f"at most {limit} bytes",
            todo="Look at it by hand; raise request.max_unpacked if it is in order.",
        )


def _rows(values: Any, formulas: Any) -> Iterator[list[Cell]]:
    for sheet in (values, formulas):
        sheet.reset_dimensions()  # what a file says of its own size is often wrong
    with _damage():
        for number, (row, computed) in enumerate(zip(values.iter_rows(), formulas.iter_rows(), strict=True), 1):
            yield [_cell(number, place, *pair) for place, pair in enumerate(zip(row, computed, strict=True), 1)]


def _cell(row: int, column: int, cell: Any, computed: Any) -> Cell:
    at, value, kind = address(row, column), cell.value, cell.data_type
    # A formula whose text is empty has a value that says so by its kind.
    if value is None and computed.value is not None and computed.data_type == "f" and kind != "str":
        return Cell(at, "", trouble="a formula without a value: nobody has computed it")
    if kind == "e":
        return Cell(at, str(value), trouble=f"the error {value}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(at, _text(value))
    return Cell(at, _text(value), float(value), "%" in str(cell.number_format or ""))


def _text(value: Any) -> str:  # noqa: PLR0911 - one line for each kind of value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat() if value.time() != time() else value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def read_xlsx(path: Path, form: Format, limit: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one sheet, named by the row after `form.skip_lines`; rows of nothing but blanks are none.

    Raises:
        ContractViolation: not exactly one sheet to choose, a header that repeats or lacks a name, or a formula
            without a value.
        RefreshError: as `open_workbook`.
    """
    with open_workbook(path, limit) as sheets:
        chosen = _choose(sheets, form.sheet)
        names: list[str] = []
        rows: list[list[str]] = []
        for number, cells in enumerate(chosen.rows, 1):
            if number <= form.skip_lines or not any(cell.text or cell.trouble for cell in cells):
                continue
            if not names:
                names = list(form.fields) or _names(cells)
                if not form.fields:
                    continue
            rows.append(_values(cells, len(names), chosen.name))
            if len(rows) == BATCH:
                yield _batch(rows, names)
                rows = []
        if not names:
            raise UpstreamRefused(f"the sheet {chosen.name!r} is empty", expected="a header and rows")
        yield _batch(rows, names)


def _choose(sheets: list[Sheet], wanted: str | None) -> Sheet:
    found = [s for s in sheets if (fnmatchcase((s.name or "").lower(), wanted.lower()) if wanted else not s.hidden)]
    if len(found) == 1:
        return found[0]
    raise ContractViolation(
        "the workbook does not hold the one sheet to read",
        expected=f"exactly one sheet {wanted!r}" if wanted else "exactly one sheet that is shown",
        came=", ".join(f"{s.name!r}" + (" (hidden)" if s.hidden else "") for s in sheets),
        todo="Say which one it is with format.sheet.",
    )


def _names(cells: list[Cell]) -> list[str]:
    names = [cell.text for cell in cells]
    while names and not names[-1]:
        names.pop()
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise ContractViolation("the header names a field twice", expected="different names", came=", ".join(repeated))
    return [name or f"unnamed_{place}" for place, name in enumerate(names, 1)]


def _values(cells: list[Cell], width: int, sheet: str | None) -> list[str]:
    beyond = next((cell for cell in cells[width:] if cell.text), None)
    wrong = beyond or next((cell for cell in cells if cell.trouble and not cell.text), None)
    if wrong is not None:
        raise ContractViolation(
            f"sheet {sheet!r}, cell {wrong.at} cannot be read",
            expected=f"a value under one of {width} names",
            came=wrong.trouble or f"{wrong.text!r} in a column without a name",
            todo="Correct the workbook; open and save it in a spreadsheet program to compute formulas.",
        )
    return [cell.text for cell in cells[:width]] + [""] * (width - len(cells))


def _batch(rows: list[list[str]], names: list[str]) -> pa.RecordBatch:
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))]
    return pa.RecordBatch.from_arrays(columns, names=names)
