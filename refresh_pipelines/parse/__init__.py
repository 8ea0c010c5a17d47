"""Bytes of one payload into batches of text columns. Knows neither network nor warehouse.

Every parser yields Arrow record batches whose columns are all strings, named as in the payload; a
null is a member that is absent or null there. What the text means is for `contract`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from refresh_pipelines.body import excerpt, expected_kind, page_head
from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused
from refresh_pipelines.parse.chosen import Chosen, chosen_rows, only
from refresh_pipelines.parse.container import open_payload, open_seekable
from refresh_pipelines.parse.csv import read_csv
from refresh_pipelines.parse.detect import detect
from refresh_pipelines.parse.json import read_json
from refresh_pipelines.parse.jsonl import read_jsonl
from refresh_pipelines.parse.notes import Notes
from refresh_pipelines.redact import redact
from refresh_pipelines.spec import Format, SourceSpec
from refresh_pipelines.window import Window

__all__ = ["Notes", "parse"]


def parse(spec: SourceSpec, path: Path, window: Window, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one payload as batches of text.

    Raises:
        UpstreamRefused: the body is empty, a web page, an error object, or not the declared archive.
        UpstreamUnavailable: the body breaks off in the middle.
        ContractViolation: the body has not the declared shape.
    """
    if spec.derived:
        yield from _result(path)
        return
    _refuse_page(spec, path)
    if spec.parser:
        yield from _custom(spec, path, window)
        return
    if spec.format is None:
        raise AssertionError("a source has a format or a parser")
    chosen = chosen_rows(spec, spec.format, window)
    yield from _of_kind(spec, spec.format, path, str(window.names.get("file") or path.name), notes, chosen)


def _of_kind(
    spec: SourceSpec, form: Format, path: Path, name: str, notes: Notes, chosen: Chosen
) -> Iterator[pa.RecordBatch]:
    limit = spec.request.max_unpacked
    if form.kind == "detect":
        form = detect(form, path, limit, name, notes)
    if form.layouts:
        # Needed for tables made for people only.
        from refresh_pipelines.parse.survey import read_survey  # noqa: PLC0415

        yield from read_survey(path, form, limit, name, notes)
    elif form.kind == "xlsx":
        from refresh_pipelines.parse.workbook import read_xlsx  # noqa: PLC0415

        yield from read_xlsx(path, form, limit)
    elif form.kind == "parquet":
        # Loads a library that the other kinds do without.
        from refresh_pipelines.parse.parquet import read_parquet  # noqa: PLC0415

        with open_seekable(path, limit) as file:
            yield from (only(batch, chosen, notes) for batch in read_parquet(file, spec))
    else:
        yield from _streamed(spec, form, path, notes, chosen)


def _streamed(spec: SourceSpec, form: Format, path: Path, notes: Notes, chosen: Chosen) -> Iterator[pa.RecordBatch]:
    with open_payload(form, path, spec.request.max_unpacked) as stream:
        if form.kind == "csv":
            yield from read_csv(stream, form, notes, chosen)
            return
        read = read_jsonl if form.kind == "jsonl" else read_json
        yield from (only(batch, chosen, notes) for batch in read(stream, form, spec, notes))


def _result(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a derived source's query gave, which are text already."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)


def _refuse_page(spec: SourceSpec, path: Path) -> None:
    head = page_head(path)
    if head is not None:
        raise UpstreamRefused(
            "the payload is a web page",
            expected=expected_kind(spec),
            came=f"a body beginning {excerpt(head)}",
            todo="Open the address in a browser: it may have moved; then correct request.url.",
        )


def _custom(spec: SourceSpec, path: Path, window: Window) -> Iterator[pa.RecordBatch]:
    module, function = (spec.parser or "").split(":")
    try:
        parser = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UpstreamRefused(
            f"parser {spec.parser} cannot be imported", came=str(error), todo="Correct `parser` in the YAML."
        ) from error
    for piece in _pieces(parser, path, spec, window):
        yield from _as_text(spec, piece)


def _pieces(parser: Any, path: Path, spec: SourceSpec, window: Window) -> Iterator[Any]:
    """Yield what the parser returns; whatever it raises that is not ours says what it could not read."""
    try:
        result = parser(path, spec, window)
        yield from result if isinstance(result, Iterator | list | tuple) else [result]
    except (RefreshError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - raised below
        failed = error
    else:
        return
    said = redact(str(failed))
    # Outside the handler, so that a text with a key in it is not chained.
    raise ContractViolation(
        f"parser {spec.parser} could not read the payload",
        came=f"{type(failed).__name__}: {said[:300]}",
        todo="Compare the payload with the sample; if the layout has changed, adjust the parser.",
    ) from (failed if said == str(failed) else None)


def _as_text(spec: SourceSpec, piece: Any) -> Iterator[pa.RecordBatch]:
    """Accept what parser authors like to return: a pandas DataFrame of strings, a table or a batch."""
    came = type(piece).__name__
    try:
        if came == "DataFrame":
            piece = pa.Table.from_pandas(piece, preserve_index=False)
        if isinstance(piece, pa.RecordBatch):
            piece = pa.Table.from_batches([piece])
        if isinstance(piece, pa.Table) and len(set(piece.column_names)) == piece.num_columns:
            text = piece.cast(pa.schema([(name, pa.string()) for name in piece.column_names]))
            yield from text.to_batches()
            return
        if isinstance(piece, pa.Table):
            came += " with a column name twice"
    except pa.ArrowException as error:
        came += f" that holds no text: {error}"
    raise ContractViolation(
        f"parser {spec.parser} returned something else than rows of text",
        expected="a pandas DataFrame, or an Arrow table or record batch, of text",
        came=came,
        todo="Correct the parser.",
    )
