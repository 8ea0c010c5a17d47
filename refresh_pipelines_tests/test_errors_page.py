"""docs/errors.md has every sentence that an error can say, with its class, and none that no error says."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from refresh_pipelines import errors
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.messages import kinds, said, source

PAGE = (ROOT / "docs/errors.md").read_text()
ROW = re.compile(r"^\| (`.+`) \| (\w+(?:, \w+)*) \| (.+) \|$", re.M)
# Whose words are another error's, which is listed by itself.
PASSED_ON = re.compile(r"\((str\(.*\)|\w+\.problem|text|broken)\)$")
CLASSES = {"SettingsError": "setting", "ClickException": "command", "PortInUse": "command", "SandboxError": "command",
           "Refused": "API"}  # fmt: skip


def class_of(kind):
    """Return the word for a kind of error: the class of a refresh, or how a command ends."""
    if kind in CLASSES:
        return CLASSES[kind]
    if hasattr(errors, kind):
        return getattr(errors, kind).error_class
    above = [base for base in source().bases.get(kind, ()) if base in kinds()]
    return class_of(above[0]) if above else "usage"


@pytest.fixture(scope="module")
def told():
    """Where each sentence is raised, and of which classes it can be."""
    found = defaultdict(lambda: ([], set()))
    for one in said()[0]:
        found[one.text][0].append(one.where)
        found[one.text][1].add(class_of(one.kind))
    return found


def rows():
    """Return (sentence, classes, what to do) of each row."""
    return [(text.strip("`").strip(), set(classes.split(", ")), todo) for text, classes, todo in ROW.findall(PAGE)]


def test_every_sentence_can_be_read_from_the_source():
    unread = [one for one in said()[1] if not PASSED_ON.search(one)]
    assert not unread, "write these sentences so that messages.py can read them"


def test_every_sentence_is_on_the_page_and_none_else(told):
    listed = [text for text, _, _ in rows()]
    assert len(listed) == len(set(listed)), "a sentence twice"
    missing = {text: where for text, (where, _) in told.items() if text not in listed}
    assert not missing, f"no row in docs/errors.md: {missing}"
    assert set(listed) <= set(told), "nobody says this any more"


def test_every_row_says_the_class_and_what_to_do(told):
    for text, classes, todo in rows():
        assert classes <= told[text][1], (text, told[text])
        assert len(todo) > 3 and todo.endswith("."), text


def test_every_line_of_a_table_is_read():
    heads = PAGE.count("| message | class | what to do |\n| --- | --- | --- |\n")
    assert len(rows()) == len(re.findall(r"^\| .+ \| .+ \| .+ \|$", PAGE, re.M)) - 2 * heads


def test_errors_that_end_a_command_are_known():
    assert {"RefreshError", "InternalError", "NotHere", "SettingsError", "UsageError", "Refused"} <= kinds()
