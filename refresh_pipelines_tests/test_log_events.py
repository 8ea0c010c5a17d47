"""The table of events: what the code logs, what `EVENTS` declares and what the page says are the same."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

from refresh_pipelines.log import EVENTS
from refresh_pipelines.log.events import BASE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/logs.md").read_text()
# Named by what was decided: `incident.<kind>`, `quarantine.<state>`.
KINDS = {
    "incident.": {"incident.opened", "incident.reminder", "incident.recovered"},
    "quarantine.": {"quarantine.accepted", "quarantine.rejected"},
}
# Looked up by the class of a failure.
FOUND = {"run.broke_off", "run.not_started"}
CHOSEN = {"level", "traceback"}


@lru_cache
def calls():
    """Return each call that logs an event: the file, the names it may have, and the fields it gives."""
    found = []
    for path in sorted((ROOT / "refresh_pipelines").rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "log." in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("log.event", "log.once"):
                names = {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)}
                names = KINDS[names.pop()] if isinstance(node.args[0], ast.JoinedStr) else names
                fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                found.append((path.name, names or FOUND, fields - CHOSEN - {*BASE}))
    return found


def rows(heading):
    """Return the cells of the table below a heading, without its head."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_event_in_the_code_is_declared_with_its_fields():
    assert len(calls()) > 20
    for file, names, fields in calls():
        assert names <= EVENTS.keys(), file
        assert fields <= {field for name in names for field in EVENTS[name].fields}, (file, names)


def test_every_declared_event_is_logged_somewhere():
    assert {name for _, names, _ in calls() for name in names} == EVENTS.keys()


def test_the_page_lists_every_event_with_its_levels_and_fields_and_no_other():
    listed = {
        row[0].strip("`"): (tuple(row[1].split(", ")), set(re.findall(r"`(\w+)`", row[2]))) for row in rows("Events")
    }
    assert listed == {name: (kind.levels, set(kind.fields)) for name, kind in EVENTS.items()}


def test_the_page_lists_the_fields_that_any_record_may_have():
    assert [row[0].strip("`") for row in rows("What every record says")] == list(BASE)
