"""The fields that `archive.redact` names, masked in a CSV, a JSON document or JSON lines.

A text becomes `***`; what is read into a column of another type becomes empty, so that the payload still can be
read. What cannot be masked for certain is not kept and not loaded.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import IO, Any

from refresh_pipelines.body import lookup
from refresh_pipelines.errors import ContractViolation, UpstreamUnavailable
from refresh_pipelines.parse.encoding import is_utf8
from refresh_pipelines.parse.json import loads, text_of
from refresh_pipelines.parse.jsonl import LONGEST_LINE, lines
from refresh_pipelines.redact import MASK
from refresh_pipelines.spec import Format, SourceSpec

_BOM, _BOM_BYTES = "\ufeff", b"\xef\xbb\xbf"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class Fields:
    """The declared fields of a source, and which of them were found in its payload."""

    def __init__(self, spec: SourceSpec) -> None:
        self.spec, self.names = spec, spec.archive.redact
        self.form = spec.format or Format(kind="csv")
        self.found: set[str] = set()
        self.rows = 0
        self._texts: dict[str, bool] = {}

    def change(self, source: io.BufferedReader, sink: IO[bytes]) -> bool:
        """Mask the fields of one content; return True. Raises UpstreamUnavailable where it cannot be read."""
        how = {"csv": self._csv, "jsonl": self._lines}.get(self.form.kind, self._document)
        try:
            how(source, sink)
        except (ValueError, csv.Error, RecursionError) as error:
            came = type(error).__name__
        else:
            return True
        # Outside the handler: the text of such an error quotes what must not be told.
        raise UpstreamUnavailable(
            "the payload cannot be read, so nothing in it can be masked",
            expected=f"{self.form.kind} with the fields {', '.join(self.names)} (archive.redact)",
            came=came,
            todo="Nothing of it was kept or loaded. It may have been cut off: a later try may pass.",
        )

    def conclude(self) -> None:
        """Raise ContractViolation unless every field was found, as far as there were any rows."""
        lost = [name for name in self.names if name not in self.found]
        if self.rows and lost:
            raise ContractViolation(
                f"{', '.join(lost)} is not in the payload, so it cannot be masked",
                expected="the fields that archive.redact names",
                came="a layout without them",
                todo="Nothing of it was kept or loaded. The field may have another name now: correct archive.redact.",
            )

    def _csv(self, source: io.BufferedReader, sink: IO[bytes]) -> None:
        form = self.form
        csv.field_size_limit(LONGEST_LINE)
        # Bytes that are not of this encoding come out as they went in.
        text = io.TextIOWrapper(source, form.encoding, errors="surrogateescape", newline="")
        out = io.TextIOWrapper(sink, form.encoding, errors="surrogateescape", newline="")
        for _ in range(form.skip_lines):
            out.write(text.readline())
        quoting: Any = csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE
        quote = form.quote or None
        reader = csv.reader(text, delimiter=form.delimiter, quotechar=quote, quoting=quoting)
        writer = csv.writer(
            out, delimiter=form.delimiter, quotechar=quote, quoting=quoting, lineterminator="\n"
        )  # fmt: skip
        self._rows(reader, writer)
        out.flush()
        out.detach()
        text.detach()

    def _rows(self, reader: Any, writer: Any) -> None:
        names = list(self.form.fields) or None
        header = names
        places = self._find(names) if names else []
        for row in reader:
            if names is None:
                names, header = [name.lstrip(_BOM).strip() for name in row], row
                places = self._find(names)
            elif row != header:  # which may come again
                self.rows += bool(row)
                for name, place in places:
                    if place < len(row) and row[place]:
                        row[place] = self._masked(name, row[place]) or ""
            writer.writerow(row)

    def _find(self, names: Sequence[str]) -> list[tuple[str, int]]:
        places = [(name, names.index(name)) for name in self.names if name in names]
        self.found |= {name for name, _ in places}
        return places

    def _lines(self, source: io.BufferedReader, sink: IO[bytes]) -> None:
        _pass_bom(source)
        for _, line, _ in lines(source, self.form):
            if line.strip():
                row = loads(self._decoded(line, "utf-8"))
                self._row(row)
                sink.write(self._written(row) + "\n".encode(self.form.encoding))

    def _document(self, source: io.BufferedReader, sink: IO[bytes]) -> None:
        _pass_bom(source)
        body = source.read()
        code = (json.detect_encoding(body) or "utf-8") if is_utf8(self.form.encoding) else self.form.encoding
        document = loads(self._decoded(body, code))
        rows = lookup(document, self.form.rows)
        for row in rows if isinstance(rows, list) else ():
            self._row(row)
        sink.write(self._written(document))

    def _decoded(self, body: bytes, code: str) -> str:
        try:
            return body.decode(code)
        except UnicodeDecodeError:
            if self.form.fallback is None:
                raise
            return body.decode(self.form.fallback)

    def _written(self, value: Any) -> bytes:
        # With everything else as \u, it is the same text in whatever encoding is declared.
        text = _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text_of(value) or "null")
        return text.encode(self.form.encoding)

    def _row(self, row: Any) -> None:
        self.rows += 1
        for name in self.names:
            if self._mask(row, name.split("."), ""):
                self.found.add(name)

    def _mask(self, node: Any, parts: Sequence[str], path: str) -> bool:
        """Mask what lies at a path, in each element of a list on the way; return whether there was such a member."""
        if isinstance(node, list):
            return max((self._mask(item, parts, path) for item in node), default=False)
        if not isinstance(node, dict):
            return False
        # A member may have dots in its name.
        for count in range(len(parts), 0, -1):
            name = ".".join(parts[:count])
            if name not in node:
                continue
            inner = f"{path}.{name}".lstrip(".")
            if count < len(parts):
                return self._mask(node[name], parts[count:], inner)
            node[name] = self._masked(inner, node[name])
            return True
        return False

    def _masked(self, path: str, value: Any) -> Any:
        """Return what stands in place of a value; of an object or a list all that is inside is masked."""
        if isinstance(value, dict):
            return {name: self._masked(f"{path}.{name}", inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(path, inner) for inner in value]
        if value is None or value == "":
            return value
        return MASK if self._is_text(path) else None

    def _is_text(self, path: str) -> bool:
        if path not in self._texts:
            read = [column.type for name, column in self.spec.columns.items() if path in column.fields(name)]
            self._texts[path] = all(kind == "text" for kind in read)
        return self._texts[path]


def _pass_bom(source: io.BufferedReader) -> None:
    while source.peek(3)[:3] == _BOM_BYTES:
        source.read(3)
