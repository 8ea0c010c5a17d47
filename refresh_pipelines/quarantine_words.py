"""A payload that waits, in words: what came, what was accepted before, and what to type. No value is unmasked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refresh_pipelines.quarantine import Record

_KINDS = {"added": "would be new", "updated": "would change", "gone": "missing from the payload"}


def sentence(record: Record) -> str:
    """Return the one message of an outcome, an alert and a log line."""
    why = "; ".join(reason.text for reason in record.reasons)
    if record.state == "rejected":
        who = f" by {record.decided_by}" if record.decided_by else ""
        return (
            f"{record.where}: the upstream still serves the payload that was rejected{who} on "
            f"{short(record.decided_at)} ({why}). The table is as it was. If it is right after all: "
            f"`refresh quarantine accept {record.id}`."
        )
    return (
        f"{record.where}: the payload waits and nothing was loaded, because {why}. Look at it with `refresh quarantine "
        f"show {record.id}`, then `refresh quarantine accept {record.id}` loads it, `refresh quarantine reject "
        f"{record.id}` does not; a plausible payload takes its place by itself."
    )


def markdown(record: Record) -> str:
    """Return what the failed check shows in the UI: numbers, commands, and examples of rows."""
    lines = [f"**{record.where}**", "", _verdict(record), ""]
    lines += ["| why | accepted | came | passes |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {cell(reason.text)} (`expect.{reason.demand}`) | {cell(reason.was)} | {cell(reason.now)} |"
        f" {cell(reason.limit)} |"
        for reason in record.reasons
    ]
    lines += ["", effect(record), "", *(f"- `{command}` {what}" for command, what in commands(record)), ""]
    for kind, title in _KINDS.items():
        rows = record.differences.get(kind) or []
        if rows:
            lines += [f"Rows that are {title}:" if kind == "gone" else f"Rows that {title}:", ""]
            lines += [*_table(rows), ""]
    return "\n".join(lines).rstrip()


def commands(record: Record) -> list[tuple[str, str]]:
    """Return what a person can do, each with what it does."""
    return [
        (f"refresh quarantine show {record.id}", "shows this on a terminal"),
        (
            f"refresh quarantine accept {record.id}",
            "loads exactly this payload; such a change is then no surprise",
        ),
        (f"refresh quarantine reject {record.id}", "keeps it out for good; the table stays as it is"),
        (f"refresh run {record.source}{f' --partition {record.partition}' if record.partition else ''}", "asks again"),
    ]


def effect(record: Record) -> str:
    """Return what loading it would do, in one sentence."""
    numbers = [f"{record.counts.get(name, 0):,} {name}" for name in ("added", "updated", "unchanged", "deleted")]
    gone = int(record.differences.get("number_gone", 0))
    lacking = f"; it lacks {gone:,} rows that the table has" if gone and not record.counts.get("deleted") else ""
    return (
        f"The table has {record.rows_before:,} rows of it and the payload {record.rows_now:,}. Loading it: "
        f"{', '.join(numbers)}{lacking}."
    )


def text_lines(record: Record) -> Iterator[str]:
    """Yield the lines of `refresh quarantine show`."""
    yield f"{record.id}  {record.where}  {_verdict(record)}"
    yield ""
    for reason in record.reasons:
        yield f"  {reason.text}"
        yield f"      accepted {reason.was}, came {reason.now}; passes: {reason.limit} (expect.{reason.demand})"
    yield ""
    yield effect(record)
    for kind, title in _KINDS.items():
        rows = record.differences.get(kind) or []
        if rows:
            yield ""
            yield f"{title.capitalize()}:"
        for row in rows:
            yield f"  {_key(row)}{''.join(f'  {name}: {old} -> {new}' for name, (old, new) in _changes(row))}"
    yield ""
    yield f"Payload {record.payload[:16]} in the archive, {record.bytes:,} bytes, run {record.run_id[:8]}."


def short(at: str | None) -> str:
    """Return an instant to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC" if at else "an unknown day"


def cell(text: str) -> str:
    """Return text as a cell of a markdown table; what upstreams serve must not become its bars or its markup."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text


def _verdict(record: Record) -> str:
    if record.state == "waiting":
        times = f", seen {record.seen} times, last {short(record.seen_at)}" if record.seen > 1 else ""
        return f"waits since {short(record.at)}{times}"
    if record.state == "superseded":
        by = f"{record.superseded_by}, which waits" if record.superseded_by else "what was loaded later"
        return f"superseded by {by} ({short(record.decided_at)})"
    who = f" by {record.decided_by}" if record.decided_by else ""
    return f"{record.state}{who} on {short(record.decided_at)}"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = list(rows[0]["key"])
    changed = any("changes" in row for row in rows)
    heads = [*map(cell, keys), *(["old → new"] if changed else [])]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        cells = [cell(row["key"][name]) for name in keys]
        if changed:
            cells.append(", ".join(f"{cell(name)}: {cell(old)} → {cell(new)}" for name, (old, new) in _changes(row)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _changes(row: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return list(row.get("changes", {}).items())


def _key(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in row["key"].items())
