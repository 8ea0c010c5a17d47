"""Bad payloads made from good ones: each kind of nastiness as a transformation, by the format of a source.

A payload is taken apart into what holds it (nothing, ZIP, gzip) and its text; its rows are the lines of a CSV or NDBC
file, or the objects of a JSON list.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from refresh_pipelines.body import lookup
from refresh_pipelines.spec import SourceSpec

Row = list[str] | dict[str, object]
PAGE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We are back soon.</body></html>"
LONG = 1_000_000


@dataclass
class Good:
    """A good payload of a source, taken apart."""

    spec: SourceSpec
    body: bytes

    @property
    def text(self) -> bytes:
        if self.zipped:
            with zipfile.ZipFile(io.BytesIO(self.body)) as archive:
                return archive.read(self.member)
        return gzip.decompress(self.body) if self.gzipped else self.body

    @property
    def zipped(self) -> bool:
        return self.body.startswith(b"PK")

    @property
    def gzipped(self) -> bool:
        return self.body.startswith(b"\x1f\x8b")

    @property
    def member(self) -> str:
        with zipfile.ZipFile(io.BytesIO(self.body)) as archive:
            pattern = self.spec.format.member.lower()
            return next(name for name in archive.namelist() if fnmatchcase(name.lower(), pattern))

    def packed(self, text: bytes, member: str | None = None) -> bytes:
        if self.zipped:
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(member or self.member, text)
            return out.getvalue()
        return gzip.compress(text, mtime=0) if self.gzipped else text

    @property
    def table(self) -> Table:
        if self.spec.parser:
            return Lines(self.spec, self.text)
        return (Objects if self.spec.format.kind == "json" else Commas)(self.spec, self.text)


class Table:
    """The rows of a payload, of which some may be changed before they are written again."""

    rows: list[Row]

    def __init__(self, spec: SourceSpec, text: bytes) -> None:
        self.spec = spec
        self.read(text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))

    def field(self, column: str) -> object:
        """Where the rows have a column's value: a member's name or a place in the row."""
        raise NotImplementedError

    def keys(self) -> list[str]:
        return [name for name in self.spec.merge_key if self.field(name) is not None]

    def values(self) -> list[str]:
        """The columns that are no part of the key and have a value in the rows."""
        return [name for name in self.spec.columns if name not in self.spec.merge_key and self.field(name) is not None]

    def typed(self, names: list[str]) -> str | None:
        """The first of some columns that is no text, and neither decides which rows count nor is only a part of one."""
        columns, chosen = self.spec.columns, self.spec.format.where
        own = [name for name in names if not set(columns[name].fields(name)) & set(chosen)]
        return next((name for name in own if columns[name].type not in ("text", "json", "int")), None) or next(
            (name for name in own if columns[name].type == "int"), None
        )


class Objects(Table):
    """JSON."""

    def read(self, text: str) -> None:
        self.document = json.loads(text)
        self.rows = lookup(self.document, self.spec.format.rows)

    def write(self) -> bytes:
        held = lookup(self.document, self.spec.format.rows)
        held[:] = self.rows
        paging = self.spec.request.paging
        if paging and paging.total:  # as an upstream that believes what it serves
            *path, leaf = paging.total.split(".")
            lookup(self.document, ".".join(path))[leaf] = len(self.rows)
        return json.dumps(self.document).encode()

    def grow(self, rows: int) -> None:
        """Add rows of earlier years until there are so many; samples are shorter than what upstreams serve."""
        dated = next(name for name in self.spec.merge_key if "date" in name)
        own, years = list(self.rows), 0
        while len(self.rows) < rows:
            years += 30
            for row in own:
                new, name = self.copy(row), str(self.field(dated))
                new[name] = str(int(row[name][:4]) - years) + row[name][4:]
                self.rows.append(new)

    def field(self, column: str) -> object:
        fields = self.spec.columns[column].fields(column)
        name = fields[0]
        return name if "{" not in name and has(self.rows[0], name) else None

    def put(self, row: Row, column: str, value: object) -> None:
        *path, leaf = str(self.field(column)).split(".")
        for part in path:
            row = row[part]
        row[leaf] = value

    def copy(self, row: Row) -> Row:
        return json.loads(json.dumps(row))

    def rename(self, column: str) -> None:
        name = str(self.field(column)).split(".", maxsplit=1)[0]
        self.rows = [{key + "_new" if key == name else key: value for key, value in row.items()} for row in self.rows]

    none: object = None


class Commas(Table):
    """CSV, with a header row or with `format.fields`."""

    none: object = ""

    def read(self, text: str) -> None:
        lines = list(csv.reader(io.StringIO(text, newline="")))
        self.headed = not self.spec.format.fields
        self.header = lines[0] if self.headed else list(self.spec.format.fields)
        self.rows = lines[1:] if self.headed else lines
        for name, texts in self.spec.format.where.items():  # rows that are passed over cannot be nasty
            wanted = {text.format(**self.spec.params) for text in texts}
            self.rows = [row for row in self.rows if row[self.header.index(name)] in wanted]

    def write(self) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([*([self.header] if self.headed else []), *self.rows])
        return out.getvalue().encode("utf-8", "surrogateescape")

    def field(self, column: str) -> object:
        names = [name.strip().lstrip("\ufeff") for name in self.header]
        name = self.spec.columns[column].fields(column)[0]
        return names.index(name) if name in names else None

    def put(self, row: Row, column: str, value: object) -> None:
        row[self.field(column)] = "" if value is None else str(value)

    def copy(self, row: Row) -> Row:
        return list(row)

    def rename(self, column: str) -> None:
        if self.headed:
            self.header[self.field(column)] += "_new"
        else:
            self.rows = [row[:-1] for row in self.rows]  # without names there is only their number


class Lines(Table):
    """NDBC's columns between spaces, below one or two lines of header."""

    none: object = "MM"

    def read(self, text: str) -> None:
        lines = text.splitlines()
        count = sum(line.startswith("#") or not line[:1].isdigit() for line in lines[:2])
        self.header, self.units = lines[0].split(), lines[1:count]
        self.rows = [line.split() for line in lines[count:] if line.strip()]

    def write(self) -> bytes:
        rows = [" ".join(row) for row in self.rows]
        return "\n".join([" ".join(self.header), *self.units, *rows, ""]).encode()

    def field(self, column: str) -> object:
        if column == "obs_time":
            return 2  # the day
        return self.header.index("ATMP") if column == self.values()[0] else None

    def keys(self) -> list[str]:
        return ["obs_time"]

    def values(self) -> list[str]:
        return [next(name for name in self.spec.columns if name not in self.spec.merge_key)]

    def typed(self, names: list[str]) -> str | None:
        return names[0]

    def put(self, row: Row, column: str, value: object) -> None:
        row[self.field(column)] = str(value)

    def copy(self, row: Row) -> Row:
        return list(row)

    def rename(self, column: str) -> None:
        self.header[self.header.index("ATMP")] = "TEMP"


def has(row: object, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(row, dict) or part not in row:
            return False
        row = row[part]
    return True


def _of_rows(change: Callable[[Table], None]) -> Callable[[Good], bytes]:
    def made(good: Good) -> bytes:
        table = good.table
        change(table)
        return good.packed(table.write())

    return made


def _nulls(table: Table) -> None:
    for row in table.rows:
        if isinstance(table, Lines):
            row[5:] = ["MM"] * len(row[5:])
        else:
            for name in table.values():
                table.put(row, name, table.none)


def _middle(table: Table) -> Row:
    """A row that is read in every source: the first ones may be holidays, or of another period."""
    return table.rows[len(table.rows) // 2]


def _twice(table: Table) -> None:
    table.rows.append(table.copy(_middle(table)))


def _clash(table: Table) -> None:
    row = table.copy(_middle(table))
    table.put(row, table.typed(table.values()) or table.values()[0], "7")
    table.rows.append(row)


def _corrected(table: Table) -> None:
    table.put(_middle(table), table.typed(table.values()) or table.values()[0], "7")


def _retyped(table: Table) -> None:
    table.put(_middle(table), table.typed(table.keys()) or table.values()[0], "n.a. (revised)")


def _half(table: Table) -> None:
    table.rows = table.rows[: len(table.rows) // 2]


def _renamed(table: Table) -> None:
    table.rename((table.values() or table.keys())[0])


def _giant(table: Table) -> None:
    table.put(_middle(table), table.typed(table.values()) or table.values()[0], "9" * LONG)


def _in_text(change: Callable[[bytes], bytes]) -> Callable[[Good], bytes]:
    return lambda good: good.packed(change(good.text))


def _nul(table: Table) -> None:
    table.put(_middle(table), (table.values() or table.keys())[0], "A\0B")


def _latin1(text: bytes) -> bytes:
    letters = [at for at, byte in enumerate(text[len(text) // 3 :], len(text) // 3) if chr(byte).isalpha()]
    at = letters[0] if letters else len(text) // 2
    return text[:at] + "é".encode("latin-1") + text[at + 1 :]


def _bomb(good: Good) -> bytes:
    return good.packed(good.text + b"\n" * 30_000_000)


def _escape(good: Good) -> bytes:
    return good.packed(good.text, f"../../../../{good.member}")


# A good payload in which one value is another one.
corrected = _of_rows(_corrected)
KINDS: dict[str, Callable[[Good], bytes]] = {
    "web page": lambda good: PAGE,
    "empty": lambda good: b"",
    "truncated": lambda good: good.body[: len(good.body) * 6 // 10],
    "double byte-order mark": _in_text(lambda text: b"\xef\xbb\xbf" * 2 + text),
    "latin-1": _in_text(_latin1),
    "renamed column": _of_rows(_renamed),
    "half the rows": _of_rows(_half),
    "all values null": _of_rows(_nulls),
    "row twice": _of_rows(_twice),
    "two rows of one key": _of_rows(_clash),
    "key of another type": _of_rows(_retyped),
    "NUL byte": _of_rows(_nul),
    "giant field": _of_rows(_giant),
    "giant line": _in_text(lambda text: text + b"x" * LONG),
}
ZIPPED: dict[str, Callable[[Good], bytes]] = {"zip bomb": _bomb, "path escape": _escape}
