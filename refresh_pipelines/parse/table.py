"""A sheet under its layout: which column is what, which lines are of the table, and which are notes under it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.parse.cells import fold, fold_name, mark_of
from refresh_pipelines.parse.workbook import Cell, Sheet, address
from refresh_pipelines.spec import Layout, Measure, Taken


@dataclass
class Table:
    """A sheet under one layout: which column is what, and its lines apart from its notes.

    Attributes:
        bound: for each column that is read, what it is: a Measure, or the folded header text of another.
        headers: the header text of each column as written, levels joined by ` / `.
        lines: the rows between header and notes, each with its number from 1.
    """

    file: str
    sheet: Sheet
    layout: Layout
    rows: list[list[Cell]]
    headers: dict[int, str] = field(default_factory=dict)
    bound: dict[int, Measure | str] = field(default_factory=dict)
    lines: list[tuple[int, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def column(self, text: str) -> int:
        """Return the place of the column with a header text that the layout names, counted from 0."""
        return next(place for place, what in self.bound.items() if what == fold(text))

    def refuse(self, at: str, expected: str, came: str, todo: str = "") -> NoReturn:
        """Raise ContractViolation for a place of the table."""
        where = f"{self.file}, sheet {self.sheet.name!r}" if self.sheet.name else self.file
        raise ContractViolation(
            f"{where}, cell {at} is not as layout {self.layout.name!r} has it",
            expected=expected,
            came=came,
            todo=todo or "Compare the file with the layout: correct the file, or declare what has changed in a layout.",
        )


def read_table(file: str, sheet: Sheet, layouts: Sequence[Layout], zones: Collection[str]) -> Table:
    """Return the sheet under the first layout whose header it has.

    Args:
        zones: folded names of places, which begin no note whatever they are called.

    Raises:
        ContractViolation: no header fits, which is told of the first layout; or something else than notes
            stands under the first note.
    """
    errors = []
    rows = list(sheet.rows)
    for layout in layouts:
        table = Table(file, sheet, layout, rows)
        try:
            _bind(table)
        except ContractViolation as error:
            errors.append(error)
        else:
            _split(table, zones)
            return table
    raise errors[0]


def _bind(table: Table) -> None:
    layout = table.layout
    declared: dict[str, Measure | str] = {fold(text): measure for text, measure in layout.columns.items()}
    columns = [taken.column for taken in (layout.wave, layout.period) if isinstance(taken, Taken) and taken.column]
    others = [layout.zone, *([layout.category] if layout.category else []), *columns]
    declared |= {fold(text): fold(text) for text in others}
    ignored = {fold(text) for text in layout.ignore}
    table.headers = _headers(table)
    found: dict[str, int] = {}
    for place, text in table.headers.items():
        name, at = fold(text), address(layout.header[1], place + 1)
        if name in ignored:
            continue
        if name not in declared or name in found:
            wanted = ", ".join(repr(text) for text in [*others, *layout.columns])
            what = "a header that comes twice" if name in found else "the header"
            table.refuse(at, f"one of {wanted}, each once", f"{what} {text!r}")
        found[name], table.bound[place] = place, declared[name]
    missing = [text for text in [*others, *layout.columns] if fold(text) not in found]
    if missing:
        came = ", ".join(repr(text) for text in table.headers.values()) or "blank cells"
        table.refuse(address(layout.header[0], 1), "the headers " + ", ".join(map(repr, missing)), came)


def _headers(table: Table) -> dict[int, str]:
    """Return each column's header text, its levels from top to bottom joined by ` / `.

    A text over several columns stands in the first of them: it reaches to the right up to the next text in its
    row, or in a row above it.
    """
    first, last = table.layout.header
    rows = [[cell.text for cell in row] for row in table.rows[first - 1 : last]]
    width = max(map(len, rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    for level, row in enumerate(rows[:-1]):
        for place in range(1, width):
            begins = any(rows[above][place] != rows[above][place - 1] for above in range(level))
            if not row[place] and not begins and any(lower[place] for lower in rows[level + 1 :]):
                row[place] = row[place - 1]
    texts = {place: [row[place] for row in rows if row[place]] for place in range(width)}
    return {place: " / ".join(" ".join(part.split()) for part in parts) for place, parts in texts.items() if parts}


def _split(table: Table, zones: Collection[str]) -> None:
    """Part the lines of the table from the notes under it."""
    begin = table.layout.header[1]
    beginnings = tuple(map(fold, table.layout.notes))
    for number, cells in enumerate(table.rows[begin:], begin + 1):
        filled = [cell for cell in cells if cell.text or cell.trouble]
        if not filled:
            continue
        text = filled[0].text
        if (mark_of(text) or fold(text).startswith(beginnings)) and fold_name(text) not in zones:
            table.notes.append(" ".join(cell.text for cell in filled))
        elif not table.notes:
            table.lines.append((number, cells))
        elif len(filled) == 1 and filled[0].number is None:
            table.notes[-1] += " " + filled[0].text
        else:
            at, came = filled[0].at, " | ".join(cell.text for cell in filled[:4])
            table.refuse(at, "nothing but notes under the first note", came, "Put a second table on its own sheet.")
