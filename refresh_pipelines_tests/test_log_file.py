"""The log's file: several processes, full and old files, and what is no longer kept."""

from __future__ import annotations

import os
import stat
from datetime import datetime, timedelta, timezone

import pytest
from filelock import FileLock

from refresh_pipelines.log.file import LogFile
from refresh_pipelines_tests.workbench import start

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now.timestamp()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "refresh.log"


def lines(file):
    """Return all lines there are, oldest first."""
    return [line for path in (*reversed(file.aside()), file.path) for line in path.read_text().splitlines()]


def test_four_processes_lose_and_tear_no_record_while_files_are_put_aside(path):
    most = 120_000
    children = [start("logging_child", path, most, f"p{number}", 500) for number in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.close()
    for child in children:
        assert child.wait(timeout=60) == 0
        child.stdout.close()
    file = LogFile(path, most)
    written = lines(file)
    assert len(file.aside()) >= 2
    assert all(line.endswith("|") for line in written)
    found = [tuple(line.split()[1:3]) for line in written]
    assert sorted(found) == sorted((f"p{number}", str(record)) for number in range(4) for record in range(500))
    for number in range(4):
        own = [int(record) for name, record in found if name == f"p{number}"]
        assert own == sorted(own)


def test_a_full_file_is_put_aside_and_five_are_kept(path):
    file = LogFile(path, most=5)
    for number in range(9):
        file.append(f"record {number}")
    assert [one.name for one in file.aside()] == [f"refresh.log.{number}" for number in range(1, 6)]
    assert not path.exists()
    assert [one.read_text() for one in file.aside()] == [f"record {number}\n" for number in (8, 7, 6, 5, 4)]


def test_a_gap_that_a_dead_process_left_costs_no_file(path):
    file = LogFile(path, most=5)
    for number in range(5):
        file.append(f"record {number}")
    (path.parent / "refresh.log.2").unlink()
    file.append("record 5")
    assert [one.read_text() for one in file.aside()] == [f"record {number}\n" for number in (5, 4, 2, 1, 0)]


def test_another_process_that_puts_it_aside_is_not_waited_for(path):
    file = LogFile(path, most=10)
    file.append("first")
    with FileLock(path.with_name(".refresh.log.lock")):
        file.append("second, long enough")
        assert file.aside() == []
    file.append("third")
    assert [one.read_text() for one in file.aside()] == ["first\nsecond, long enough\nthird\n"]


@pytest.mark.parametrize("line", ["{} info log", '{{"time": "{}"'])
def test_a_file_is_put_aside_after_a_week_and_removed_a_month_after_its_last_line(path, line):
    clock = Clock()
    LogFile(path, clock=clock).append(line.format(clock.now.strftime("%Y-%m-%dT%H:%M:%S.000Z")))
    clock.now += timedelta(days=6)
    LogFile(path, clock=clock).append("second")
    clock.now += timedelta(days=1)
    file = LogFile(path, clock=clock)
    file.append("third")
    [old] = file.aside()
    assert old.read_text().endswith("\nsecond\n")
    os.utime(old, (NOW.timestamp(),) * 2)
    clock.now = NOW + timedelta(days=30)
    LogFile(path, clock=clock).append("fourth")
    assert old in file.aside()
    clock.now += timedelta(hours=2)
    file.append("fifth")  # also a process that lives long looks after it
    assert old not in file.aside()


def test_others_may_not_read_or_write_it(path):
    LogFile(path).append("x")
    assert not stat.S_IMODE(path.stat().st_mode) & 0o137


def test_what_the_disk_took_only_half_of_ends_before_the_next_record(path):
    file = LogFile(path)
    file.append("whole")
    file._torn = True  # a full disk cannot be had in a test
    file.append("next")
    assert path.read_text() == "whole\n\nnext\n"
