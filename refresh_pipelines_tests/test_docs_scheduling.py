"""The page about scheduling names a test for each promise, and the tests are there."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "scheduling.md"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_promise_about_scheduling_names_tests_that_exist():
    text = PAGE.read_text()
    table = text.split("## Every semantics and its test")[1].split("\n\n")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| What")][1:]
    assert len(rows) > 15
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (Path(__file__).parent / file).read_text(), (file, name)
