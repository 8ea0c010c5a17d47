"""Tables made for people, by their declared layouts, into one row for each value.

Whatever a layout does not say is refused, with file, sheet and cell: a sheet, a header text, a column, a line that
is neither of a zone nor a note, a value that is no number. The rows of one sheet are held in memory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pyarrow as pa

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse.cells import MARKS, NoValueError, day_of, fold, fold_name, mark_of, number_of, plain
from refresh_pipelines.parse.container import open_payload
from refresh_pipelines.parse.encoding import not_encoded
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.parse.table import Table, read_table
from refresh_pipelines.parse.workbook import Cell, Sheet, address, open_workbook
from refresh_pipelines.spec import Format, Layout, Measure, Taken

FIELDS = (
    "survey_code", "wave", "table_code", "zone_level", "zone_code", "zone_key", "zone_name_raw", "category_code",
    "category_raw", "period", "measure", "unit", "value", "value_raw", "footnote", "file_sha256", "sheet", "cell",
)  # fmt: skip
_MARK = re.compile(rf"\s*({MARKS})$")
# So many values at most 1 are no accident.
_ENOUGH = 3
Row = dict[str, str | None]


def read_survey(path: Path, form: Format, limit: int, file: str, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Yield the values of every sheet, or of a CSV, with the fields `FIELDS`.

    Args:
        form: of kind xlsx or csv, with its layouts.
        file: name of the payload, relative to where it came from.

    Raises:
        ContractViolation: a sheet that is shown has no layout or is not as it says; none was read.
        RefreshError: as `open_workbook` and `open_payload`.
    """
    reader = _Reader(form, file, _hash(path), notes)
    read = 0
    if form.kind == "csv":
        with open_payload(form, path, limit) as stream:
            sheet = Sheet(None, hidden=False, rows=_csv_rows(stream, form, notes))
            yield _batch(reader.rows(sheet) or [])
        return
    with open_workbook(path, limit) as sheets:
        for sheet in sheets:
            rows = reader.rows(sheet)
            read += rows is not None
            yield _batch(rows or [])
    if not read:
        raise ContractViolation(f"{file} holds no sheet that is read", expected="a sheet with a layout")


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _csv_rows(stream: io.BufferedReader, form: Format, notes: Notes) -> Iterator[list[Cell]]:
    body = stream.read()
    try:
        text = body.decode(form.encoding)
    except UnicodeDecodeError as error:
        if form.fallback is None:
            raise not_encoded("the CSV", form, error) from error
        # A workbook that was saved as CSV is in one encoding as a whole.
        text = body.decode(form.fallback, "replace")
        notes.fallbacks += 1
    lines = csv.reader(
        io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline=""), delimiter=form.delimiter
    )
    try:
        for number, row in enumerate(lines, 1):
            yield [Cell(address(number, place), text.strip()) for place, text in enumerate(row, 1)]
    except csv.Error as error:
        raise ContractViolation(
            "the CSV cannot be read", came=f"{error} in line {lines.line_num}", todo="Compare the file with the sample."
        ) from error


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = [pa.array([row[name] for row in rows], pa.string()) for name in FIELDS]
    return pa.RecordBatch.from_arrays(columns, names=list(FIELDS))


@dataclass
class _Line:
    """One line of a table that holds values, with the zone it belongs to."""

    number: int
    cells: list[Cell]
    zone: Cell


class _Reader:
    """One payload under the layouts of its format."""

    def __init__(self, form: Format, file: str, sha256: str, notes: Notes) -> None:
        self.form, self.file, self.sha256, self.notes = form, file, sha256, notes
        self.zones = {
            fold_name(name): (level, code)
            for level, codes in form.zones.items()
            for code, names in codes.items()
            for name in names
        }

    def rows(self, sheet: Sheet) -> list[Row] | None:
        """Return the values of a sheet; None for one that is not to be read."""
        layouts = [layout for layout in self.form.layouts if self._is_for(layout, sheet.name)]
        if sheet.hidden and not any(layout.hidden for layout in layouts):
            self.notes.remark(f"{self.file}: the hidden sheet {sheet.name!r} was not read")
            return None
        if not layouts:
            self._require_ignored(sheet)
            return None
        table = read_table(self.file, sheet, layouts, self.zones)
        rows = [row for line in self._lines(table) for row in self._values(table, line)]
        _refuse_fractions(table, rows)
        return rows

    def _is_for(self, layout: Layout, sheet: str | None) -> bool:
        name = self.file.rsplit("/", 1)[-1]
        return _fits(name, layout.file) and (sheet is None or _fits(sheet, layout.sheet))

    def _require_ignored(self, sheet: Sheet) -> None:
        if sheet.name is not None and any(_fits(sheet.name, pattern) for pattern in self.form.ignore_sheets):
            return
        raise ContractViolation(
            f"{self.file}: no layout is declared for " + (f"sheet {sheet.name!r}" if sheet.name else "this file"),
            expected="one of " + ", ".join(f"{one.name!r} (sheet {one.sheet!r})" for one in self.form.layouts),
            came=f"sheet {sheet.name!r}" if sheet.name else self.file,
            todo="Declare a layout for it in format.layouts, or name the sheet in format.ignore_sheets.",
        )

    def _lines(self, table: Table) -> Iterator[_Line]:
        """Yield the lines that hold values; under a column of categories a zone stands once for all of them."""
        place = table.column(table.layout.zone)
        zone: Cell | None = None
        for number, cells in table.lines:
            own = _at(cells, place, number)
            beyond = next((cell for at, cell in enumerate(cells) if at not in table.headers and cell.text), None)
            if beyond:
                table.refuse(beyond.at, "nothing in a column without a header", repr(beyond.text))
            filled = [at for at, cell in enumerate(cells) if cell.text or cell.trouble]
            if own.text:
                zone = own
            elif zone is None or not table.layout.category:
                table.refuse(own.at, "the name of a zone", "a blank cell in a row that holds something")
            if filled != [place] and zone:
                yield _Line(number, cells, zone)
            elif self._zone(own.text) is None:
                table.refuse(own.at, "a zone with values, or a note", repr(own.text), "Name its beginning in notes.")
            else:
                self.notes.remark(f"{self.file}: {own.text!r} ({_where(table)}{own.at}) has no values")

    def _zone(self, text: str) -> tuple[str, str] | None:
        return self.zones.get(fold_name(_MARK.sub("", text)))

    def _values(self, table: Table, line: _Line) -> Iterator[Row]:
        layout = table.layout
        shared = self._zone_fields(table, line) | {
            "survey_code": layout.survey_code,
            "table_code": layout.table_code,
            "wave": _taken(layout.wave, table, line),
            "sheet": table.sheet.name,
            "file_sha256": self.sha256,
        }
        period = _taken(layout.period, table, line)
        category = _category(table, line) if layout.category else None
        for place, measure in table.bound.items():
            if not isinstance(measure, Measure):
                continue
            cell, header = _at(line.cells, place, line.number), table.headers[place]
            value, raw = _value(table, cell, measure)
            code, text = category or (measure.category, header)
            marked = [header, line.zone.text, raw]
            yield shared | {
                "category_code": code, "category_raw": text, "period": measure.period or period,
                "measure": measure.measure, "unit": measure.unit, "value": value, "value_raw": raw,
                "footnote": _footnote(table, marked), "cell": cell.at,
            }  # fmt: skip

    def _zone_fields(self, table: Table, line: _Line) -> Row:
        text = line.zone.text
        known = self._zone(text)
        if known:
            level, code = known
            return {"zone_level": level, "zone_code": code, "zone_key": code, "zone_name_raw": text}
        if table.layout.unknown_zone == "refuse":
            table.refuse(
                line.zone.at, "a zone of format.zones", repr(text), "Correct the name, or add it to format.zones."
            )
        self.notes.remark(f"{self.file}: {text!r} ({_where(table)}{line.zone.at}) is no zone of format.zones")
        key = "~" + fold_name(_MARK.sub("", text))
        return {"zone_level": table.layout.zone_level, "zone_code": None, "zone_key": key, "zone_name_raw": text}


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(fold(name), fold(pattern))


def _at(cells: list[Cell], place: int, number: int) -> Cell:
    return cells[place] if place < len(cells) else Cell(address(number, place + 1), "")


def _where(table: Table) -> str:
    return f"sheet {table.sheet.name!r}, " if table.sheet.name else ""


def _taken(declared: str | Taken, table: Table, line: _Line) -> str:
    """Return a fixed text, or the one a cell of the sheet or of the line holds."""
    if isinstance(declared, str):
        return declared
    if declared.cell:
        cell = next((cell for row in table.rows for cell in row if cell.at == declared.cell), Cell(declared.cell, ""))
    else:
        cell = _at(line.cells, table.column(declared.column or ""), line.number)
    if declared.date:
        try:
            return day_of(cell, table.sheet.epoch)
        except NoValueError as error:
            table.refuse(cell.at, str(error), repr(cell.text))
    found = re.search(declared.match, cell.text) if declared.match else None
    text = found[1] if found else "" if declared.match else cell.text
    if not text:
        table.refuse(cell.at, f"a text with {declared.match}" if declared.match else "a text", repr(cell.text))
    return text


def _category(table: Table, line: _Line) -> tuple[str, str]:
    """Return code and text of the category that a line names."""
    cell = _at(line.cells, table.column(table.layout.category or ""), line.number)
    codes = {fold(text): code for text, code in table.layout.categories.items()}
    code = codes.get(fold(_MARK.sub("", cell.text)))
    if code is None:
        table.refuse(cell.at, "one of " + ", ".join(map(repr, table.layout.categories)), repr(cell.text))
    return code, cell.text


def _value(table: Table, cell: Cell, measure: Measure) -> tuple[str | None, str]:
    """Return a cell's number as text, None where it says that there is none, and what stands in it."""
    layout, raw = table.layout, cell.text
    mark = _MARK.search(raw) if cell.number is None else None
    text = raw[: mark.start()] if mark and _noted(table, mark[1]) else raw
    if not cell.trouble and (not text or fold(text) in {fold(one) for one in layout.missing}):
        return None, raw
    try:
        value = number_of(Cell(cell.at, text, cell.number, cell.percent, cell.trouble), layout.decimal, measure.percent)
    except NoValueError as error:
        missing = ", ".join(map(repr, layout.missing))
        table.refuse(cell.at, f"{error}, or one of {missing}", cell.trouble or repr(raw) + " shown as %" * cell.percent)
    if measure.percent and not 0 <= value <= 100:
        table.refuse(cell.at, f"a share from 0 to 100 % (percent: {measure.percent})", f"{plain(value)} %")
    return plain(value), raw


def _refuse_fractions(table: Table, rows: list[Row]) -> None:
    """Refuse a column of percentages of which not one is above 1: they are stored otherwise than the year before."""
    for place, measure in table.bound.items():
        if not isinstance(measure, Measure) or measure.percent not in ("hundred", "by_format"):
            continue
        letters = address(1, place + 1)[:-1]
        found = [row for row in rows if re.fullmatch(letters + r"\d+", row["cell"] or "")]
        values = [float(row["value"]) for row in found if row["value"] and row["value"] != "0"]
        if len(values) >= _ENOUGH and max(values) <= 1:
            table.refuse(
                found[0]["cell"] or "",
                f"percentages as 12.5 (percent: {measure.percent})",
                f"no value above 1 under {table.headers[place]!r}",
                "If they are fractions, declare percent: fraction in a layout for these files.",
            )


def _noted(table: Table, mark: str) -> bool:
    return any(mark_of(note) == mark for note in table.notes)


def _footnote(table: Table, marked: list[str]) -> str | None:
    """Return the notes that hold for a value: those of its marks, and those without a mark, which hold for all."""
    marks = {found[1] for text in marked if (found := _MARK.search(text))}
    out = [note for note in table.notes if mark_of(note) is None or mark_of(note) in marks]
    return " ".join(out) or None
