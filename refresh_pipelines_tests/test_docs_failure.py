"""The page about failure names a test for each promise, and the tests are there."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "failure.md"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def test_every_promise_about_failure_names_tests_that_exist():
    tables = [block for block in PAGE.read_text().split("\n\n") if block.startswith("| What is promised")]
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(rows) > 20
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (Path(__file__).parent / file).read_text(), (file, name)
