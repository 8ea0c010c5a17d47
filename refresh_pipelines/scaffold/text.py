"""The YAML of a new source, with a line on each section for whoever edits it next."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from refresh_pipelines.scaffold.address import Address
from refresh_pipelines.scaffold.columns import Guess
from refresh_pipelines.scaffold.reading import Reading
from refresh_pipelines.spec import Format

# How old the last good refresh may be: the period and half of it again, or a few days for the long ones.
FRESHNESS = {
    "hourly": "3h",
    "daily": "36h",
    "weekly": "9d",
    "monthly": "40d",
    "quarterly": "110d",
    "annual": "400d",
}


def source_text(group: str, source: str, address: Address, reading: Reading, frequency: str) -> str:
    """Return the YAML of a source; it passes `refresh check`."""
    parts = [
        f"# {group}/{source}, begun by `refresh new` from what one answer looked like: read it, correct it.\n"
        "# All keys: docs/source-file.md. Partitions, paging, keys, own parsers: docs/add-a-source.md.",
        f"# What the rows are, for whoever meets the table. Also: owner, licence, homepage, tags.\n"
        f"description: {quoted(f'{source} from {address.host}')}",
        "\n".join(_request(address)),
        "\n".join(_format(reading)),
        "\n".join(_columns(reading)),
        "\n".join(_key(reading)),
        "# When it is due; also cron, day, month. A schedule has a zone, partitions are UTC.\n"
        f'schedule: {{frequency: {frequency}, time: "06:00", timezone: UTC}}',
        "# How old the last good refresh may be before the source counts as overdue.\n"
        f"freshness: {{checked: {FRESHNESS[frequency]}}}",
    ]
    return "\n\n".join(parts) + "\n"


def quoted(text: str) -> str:
    """Write a text in double quotes."""
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)).strip()


def plain(text: str) -> str:
    """Write a text without quotes where YAML reads it as the same text."""
    return str(yaml.safe_dump(text, allow_unicode=True, width=10**9)).removesuffix("\n...\n").strip()


def _request(address: Address) -> Iterator[str]:
    yield "# Where it is. {partition}, {start}, {end} and params may stand in the address."
    yield "request:"
    yield f"  url: {quoted(address.url)}"
    if address.env:
        yield f"  # The value of {address.env}, from the environment or .env, is added to each request."
        yield f"  auth: {{env: {address.env}, query: {plain(address.query or '')}}}"
    if address.private:
        yield "  # The host lies inside a private network, which is refused unless it is meant."
        yield "  allow_private: true"


def _format(reading: Reading) -> Iterator[str]:
    yield "# How the payload is read."
    declared = _declared(reading.form)
    if not declared:
        yield f"format: {reading.form.kind}"
        return
    yield "format:"
    yield f"  kind: {reading.form.kind}"
    for name, value in declared.items():
        yield f"  {name}: {value}"


def _declared(form: Format) -> dict[str, str]:
    default, out = Format(kind=form.kind), {}
    for name in ("archive", "member", "encoding", "fallback", "delimiter", "skip_lines", "rows"):
        value = getattr(form, name)
        if value != getattr(default, name):
            out[name] = str(value) if isinstance(value, int) else quoted(value)
    if form.fields:
        out["fields"] = f"[{', '.join(map(quoted, form.fields))}]"
    return out


def _columns(reading: Reading) -> Iterator[str]:
    yield "# The table's columns; from: is the payload's name where it differs. Also: unit, min, max, description."
    yield "columns:"
    for guess in reading.columns:
        yield f"  {plain(guess.name)}: {{{', '.join(_column(guess))}}}" + (f"  # {guess.remark}" * bool(guess.remark))
    for field in reading.left_out:
        yield f"  # left out, because no column can name it: {field!a}"


def _column(guess: Guess) -> Iterator[str]:
    column = guess.column
    yield f"type: {quoted(column.type) if ',' in column.type else column.type}"
    if guess.field != guess.name:
        yield f"from: {quoted(guess.field)}"
    if column.format:
        yield f"format: {quoted(column.format)}"
    codes = [code for code in column.missing if code]
    if codes:
        yield f"missing: [{', '.join(map(quoted, codes))}]"
    if column.optional:
        yield "optional: true"


def _key(reading: Reading) -> Iterator[str]:
    key = reading.key
    if not (key.unique and key.filled):
        yield "# TODO: find the columns that name a row, or rows will be lost."
    yield f"# What names a row: {key.seen}."
    yield f"merge_key: [{', '.join(map(plain, key.columns))}]"
    yield ""
    yield "# How rows change the table: new ones are inserted, those that differ updated, none deleted."
    yield "load:"
    yield "  mode: merge"
    if not key.unique:
        yield "  # Of rows with one key each column keeps the last value."
        yield "  duplicates: last"
    if not key.filled:
        yield "  # Rows without a key are passed over."
        yield f"  skip_missing: [{', '.join(map(plain, key.columns))}]"
