"""Pages that name a test for each promise, and the tests are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def scheduling():
    """Rows of the one table of scheduling.md that is about tests."""
    table = (DOCS / "scheduling.md").read_text().split("## Every semantics and its test")[1].split("\n\n")[1]
    return table.splitlines()[2:]


def failure():
    """Rows of all tables of failure.md that say what is promised."""
    tables = [
        block for block in (DOCS / "failure.md").read_text().split("\n\n") if block.startswith("| What is promised")
    ]
    return [row for table in tables for row in table.splitlines()[2:]]


@pytest.mark.parametrize("rows", [scheduling, failure])
def test_every_promise_names_tests_that_exist(rows):
    found = rows()
    assert len(found) > 15
    for row in found:
        named = NAMED.findall(row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (TESTS / file).read_text(), (file, name)
