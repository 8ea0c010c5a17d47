"""`refresh logs`: ends of logs of any size, lines as they come, and logs that are put aside meanwhile."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.cli.logs import logs
from refresh_pipelines.service.logs import follow, last_lines


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x85"), max_size=9)))
def test_the_last_lines_are_those_of_the_whole_file(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "some.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    for count in (0, 1, 3, 1000):
        assert last_lines(path, count) == (lines[-count:] if count else [])


def test_the_end_of_a_file_longer_than_one_block_is_whole(tmp_path):
    path = tmp_path / "long.log"
    path.write_text("".join(f"{number:099}\n" for number in range(5_000)))
    assert [int(line) for line in last_lines(path, 3_000)] == list(range(2_000, 5_000))
    assert last_lines(tmp_path / "none.log", 5) == []


def test_lines_are_followed_across_a_log_that_is_put_aside(tmp_path):
    path, steps = tmp_path / "a.log", []
    path.write_text("old\n")

    def step():
        if not steps:
            raise EndOfTestError
        steps.pop(0)()

    def write(text):
        with path.open("a") as file:
            file.write(text)

    def aside():
        write("before\n")
        path.rename(tmp_path / "a.log.1")
        path.write_text("after\n")

    steps += [lambda: write("one\nhal"), lambda: write("f\n"), aside]
    coming, out = follow({"a": path}, step), []
    with pytest.raises(EndOfTestError):
        out.extend(coming_into(coming, out))
    assert out == [("a", "one"), ("a", "half"), ("a", "before"), ("a", "after")]


class EndOfTestError(Exception):
    pass


def coming_into(coming, out):
    for one in coming:
        out.append(one)
    return []


def test_a_name_that_no_process_has_is_told_with_those_there_are(home):
    result = home.refresh("logs", "demon")
    assert result.exit_code == 2
    assert "did you mean daemon?" in result.output and "code, webserver, daemon" in result.output
    assert "Nothing was printed" in home.refresh("logs").output
    assert CliRunner().invoke(logs, ["--help"]).exit_code == 0
