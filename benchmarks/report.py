"""The one table of a session, as Markdown: what was promised and found, then every measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.harness import OWN, Series, ratio, read_series
from benchmarks.targets import ABSENT, FAILED, MET, MISSED, TARGETS, Works, shown_value

_MARKS = {MET: "met", MISSED: "**missed**", FAILED: "**failed**", ABSENT: "not measured"}


def render(document: Mapping[str, Any]) -> str:
    """Return the page of a session's file."""
    works = read_series(document)
    lines = ["# Speed, as measured", "", *_head(document), "", "## Targets", "", *_targets(works), ""]
    lines += ["## Measurements", "", *_measurements(works), ""]
    for name, text in document["notes"].items():
        lines += [f"## {name}", "", *(["```", text.strip(), "```"] if "\n" in text.strip() else [text]), ""]
    return "\n".join(lines)


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    if document["quick"]:
        yield "**A quick look with tiny sizes: it shows that everything works, and says nothing about speed.**"
        yield ""
    about, stolen = document["machine"], document["stolen_seconds"]
    yield f"- begun {document['begun_at']}, {document['seconds'] / 60:.0f} minutes, {document['rounds']} rounds"
    yield (
        f"- {about['cores']} × {about['cpu']}, {about['memory_gb']} GB, {about['system']}; load before "
        f"{about['load_before']}, {stolen:g} CPU seconds stolen by the hypervisor"
    )
    for where, found in document["versions"].items():
        yield f"- {where}: " + ", ".join(f"{name} {version}" for name, version in found.items())


def _targets(works: Works) -> Iterator[str]:
    yield "| work | target | measured | |"
    yield "| --- | --- | --- | --- |"
    for target in TARGETS:
        for number, check in enumerate(target.checks):
            verdict = check.judge(works)
            row = "" if number else target.row
            yield f"| {_cell(row)} | {check.about} | {_cell(verdict.measured)} | {_MARKS[verdict.state]} |"


def _measurements(works: Works) -> Iterator[str]:
    yield "| measurement | by | median | min–max | CPU s | peak MB | n | to ours |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for work, found in works.items():
        for who, series in found.items():
            yield f"| {work} | {who} | {_numbers(series, found.get(OWN), who)} |"


def _numbers(series: Series, own: Series | None, who: str) -> str:
    values = series.values()
    if series.failure or not values:
        return f"failed: {_cell(series.failure or 'no sample')} | | | | | "
    low, high = (shown_value(value, series.unit) for value in (min(values), max(values)))
    cpu, rss, times = series.middle("cpu"), series.middle("rss"), ratio(series, own)
    cells = [
        shown_value(series.middle() or 0, series.unit),
        f"{low}–{high}",
        "" if cpu is None else f"{cpu:.2f}",
        "" if rss is None else f"{rss / 1e6:.0f}",
        str(len(values)),
        "" if times is None or who == OWN else f"{times:.2f} ×",
    ]
    return " | ".join(cells)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
