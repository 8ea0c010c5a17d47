"""The status page: one table, made here and complete as it is. Everything in it that is not ours is escaped."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from html import escape

from refresh_pipelines.service.board import View
from refresh_pipelines.service.models import SourceItem

_HEADERS = (
    "Source",
    "State",
    "Checked",
    "Changed",
    "Published",
    "Last outcome",
    "Next run",
    "Score",
    "Breaker",
    "Incident",
)
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 1.5rem; }
h1 { font-size: 1.2rem; margin: 0 0 .3rem; }
p { margin: .2rem 0 .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #8884; white-space: nowrap; }
th { font-weight: 600; position: sticky; top: 0; background: Canvas; }
.fresh b { color: #18794e; }
.failing b, .overdue b, .broken b { color: #c62a2f; }
.paused b, .blocked b, .disabled b, .never b { color: #8b8d98; }
.warn { color: #c62a2f; }
"""
# No script, no other address, no frame; the style by its hash.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(view: View, *, schedules_enabled: bool) -> str:
    """Return the page as HTML; times are UTC."""
    counted = Counter(view.states)
    summary = ", ".join(f"{count} {escape(state)}" for state, count in counted.most_common()) or "no sources"
    remarks = [view.life.problem, view.life.sentence(view.at)]
    if not schedules_enabled:
        remarks.append("REFRESH_SCHEDULES_ENABLED is false: no schedule or sensor requests a run.")
    told = "".join(f'<p class="warn">{escape(remark)}</p>' for remark in remarks if remark)
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEADERS)
    body = "".join(map(_row, view.items, view.states))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="30">'
        '<meta name="viewport" content="width=device-width"><title>refresh_pipelines</title>'
        f"<style>{_STYLE}</style></head><body><h1>refresh_pipelines</h1>"
        f"<p>{summary}. {view.queued} queued, {view.running} under way. {view.at:%Y-%m-%d %H:%M} UTC.</p>{told}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></body></html>\n"
    )


def _row(item: SourceItem, state: str) -> str:
    stale = " (YAML broken, on its last good version)" if item.stale_yaml else ""
    score = None if item.score is None else f"{item.score:.2f}"
    breaker = item.breaker and item.breaker.replace("_", " ")
    times = tuple(map(_short, (item.last_success_at, item.last_changed_at, item.last_published_at)))
    trouble = f"refresh quarantine show {item.quarantine}" if item.quarantine else item.incident
    rest = (*times, item.last_outcome, _short(item.next_run_at), score, breaker, trouble)
    kind = state.partition(" ")[0]  # one of our own words
    return f'<tr class="{kind}"><td>{escape(item.name + stale)}</td><td><b>{escape(state)}</b></td>{_cells(rest)}</tr>'


def _cells(values: Iterable[str | None]) -> str:
    return "".join(f"<td>{'-' if value is None else escape(value)}</td>" for value in values)


def _short(at: str | None) -> str | None:
    return at and at[:16].replace("T", " ")
