"""Whatever typed table comes: the source that is written for it passes check and loses nothing."""

import csv
import gzip
import io
import json
import tempfile
import zipfile
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.parse import Notes
from refresh_pipelines.scaffold.address import Address
from refresh_pipelines.scaffold.columns import MISSING, is_typed
from refresh_pipelines.scaffold.plan import Place, make_plan
from refresh_pipelines.scaffold.recognise import Hints
from refresh_pipelines.stage import stage
from refresh_pipelines.window import Window

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=",;\t|\ufeff\ufffe\uffff")
WORDS = st.text(LETTERS, min_size=1, max_size=12).filter(str.strip)
HEADERS = WORDS.filter(lambda text: not is_typed(text) and not text.strip().startswith(("{", "[", "<", "PK")))
DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - text without a zone is made of them
KINDS = {
    "words": WORDS,
    "codes": st.integers(0, 99999).map("{:05}".format),
    "whole": st.integers(-(2**62), 2**62),
    "small": st.integers(-500, 500),
    "double": st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: round(number, 3)),
    "days": DAYS.map(date.isoformat),
    "slashed": DAYS.map(lambda day: f"{day:%d/%m/%Y}"),
    "moments": MOMENTS.map(lambda at: at.isoformat(timespec="microseconds")),
    "instants": MOMENTS.map(lambda at: at.isoformat(timespec="seconds") + "Z"),
    "flags": st.booleans(),
}


@st.composite
def tables(draw):
    """Return names and rows; some columns have gaps, written as nothing or as a code."""
    names = draw(st.lists(HEADERS, min_size=2, max_size=5, unique_by=lambda name: name.strip()))
    count = draw(st.integers(1, 12))
    columns = []
    for _ in names:
        values = draw(st.lists(KINDS[draw(st.sampled_from(sorted(KINDS)))], min_size=count, max_size=count))
        gap = draw(st.sampled_from([None, None, "", ".", "N/A"]))
        gaps = draw(st.lists(st.booleans(), min_size=count, max_size=count)) if gap is not None else [False] * count
        columns.append([gap if empty else value for value, empty in zip(values, gaps, strict=True)])
    return names, [list(row) for row in zip(*columns, strict=True)]


def as_csv(table, delimiter=",", encoding="utf-8"):
    out = io.StringIO()
    names, rows = table
    csv.writer(out, delimiter=delimiter).writerows([names, *rows])
    return out.getvalue().encode(encoding)


def zipped(body):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("folder/data.csv", body)
    return out.getvalue()


def same(value, loaded, column):
    """Whether what was loaded is what was written, whatever type was chosen for it."""
    text = "" if value is None else str(value).strip()
    if loaded is None:
        return text == "" or (text in MISSING and column.type != "text")
    if isinstance(loaded, bool):
        return text.lower() == str(loaded).lower()
    if isinstance(loaded, int | Decimal):
        return Decimal(text) == loaded
    if isinstance(loaded, float):
        return float(text) == loaded
    if isinstance(loaded, datetime):
        return datetime.fromisoformat(text.replace("Z", "+00:00")) == loaded
    if isinstance(loaded, date):
        return text in (f"{loaded:%Y-%m-%d}", f"{loaded:%d/%m/%Y}", f"{loaded:%Y%m%d}", f"{loaded:%m/%d/%Y}")
    return loaded == (text if column.strip else str(value))


def written(folder, body):
    """Write the source of a payload and return it as the catalogue reads it, with its rows."""
    payload = folder / "payload"
    payload.write_bytes(body)
    place, address = Place(folder / "catalog", "group", "made"), Address("https://example.org/data")
    plan = make_plan(place, address, payload, folder, hints=Hints(), key=(), frequency="daily", now=NOW)
    for path, content in plan.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    catalogue = load_catalogue([place.catalog])
    assert catalogue.problems == ()
    spec = catalogue.sources["made"]
    return spec, stage(spec, [payload], Window(), folder / "rows.arrow", Notes()), plan


def says_something(value, column):
    text = str(value).strip()
    return text != "" and (column.type == "text" or text not in MISSING)


def assert_nothing_is_lost(body, names, rows):
    with tempfile.TemporaryDirectory() as folder:
        spec, staged, plan = written(Path(folder), body)
        loaded = staged.table().to_pylist()
    columns = {column.source or name: (name, column) for name, column in spec.columns.items()}
    placed = [columns.get(name.strip()) or columns[name] for name in names]
    if spec.format.kind == "csv":  # where a row without any value is none
        rows = [
            row for row in rows if any(says_something(v, column) for v, (_, column) in zip(row, placed, strict=True))
        ]
    key = plan.reading.key
    if key.filled:
        assert staged.fetched == len(rows)
    if not (key.unique and key.filled and staged.duplicates == 0):
        return
    for row, got in zip(rows, loaded, strict=True):
        for value, (name, column) in zip(row, placed, strict=True):
            assert same(value, got[name], column), (name, value, got[name])


@given(tables(), st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig"]), st.sampled_from(["", "gz", "zip"]))
@settings(max_examples=40)
def test_a_csv_is_read_whole_by_the_source_written_for_it(table, delimiter, encoding, packed):
    body = as_csv(table, delimiter, encoding)
    body = {"": bytes, "gz": gzip.compress, "zip": zipped}[packed](body)
    assert_nothing_is_lost(body, *table)


@given(tables(), st.sampled_from([(), ("data",), ("answer", "rows")]))
@settings(max_examples=40)
def test_a_json_document_is_read_whole_by_the_source_written_for_it(table, path):
    names, rows = table
    document = [dict(zip(names, row, strict=True)) for row in rows]
    for part in reversed(path):
        document = {part: document, "count": len(rows)}
    assert_nothing_is_lost(json.dumps(document).encode(), names, rows)
