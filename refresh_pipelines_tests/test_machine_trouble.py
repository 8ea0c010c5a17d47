"""Commands on a machine in trouble: a folder that cannot be written, a file in its place, a full disk.

Each says what, where and what to do, ends with 1, leaves nothing half done, and works once the
trouble is mended.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial

import pytest

from refresh_pipelines.whole import write_whole
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.served import environment

DROP_BOUND, OVERRIDE_RIGHTS, READ_ANYWAY = 24, 1, 2


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def used(folder, empty_history):
    """Return a folder in which Dagster was used before."""
    shutil.copytree(empty_history, folder / "data/dagster")
    return folder


def rights_count():
    """Take from root, in a child before it becomes a program, the power to write in spite of a folder's rights."""
    if os.geteuid() == 0:
        for power in (OVERRIDE_RIGHTS, READ_ANYWAY):
            if ctypes.CDLL(None).prctl(DROP_BOUND, power, 0, 0, 0):
                os._exit(99)


def disk_is_full(kilobytes=16):
    """Let no file grow beyond a size: the nearest to a full disk that needs no rights."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))


def refresh(folder, *args, limited=None, **more):
    return subprocess.run(
        [sys.executable, "-m", "refresh_pipelines", *args],
        cwd=folder,
        env=environment(ROOT, REFRESH_UPSTREAM="sandbox", **more),
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def works(folder, **more):
    done = refresh(folder, "run", "bsee_ogora", **more)
    assert (done.returncode, done.stdout.count("loaded")) == (0, 2), done.stderr


def told(done, *parts):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.e2e
def test_a_data_folder_that_cannot_be_written_is_named_and_works_once_it_can(folder):
    data = folder / "data"
    data.mkdir(mode=0o555)
    for command in (("run", "bsee_ogora"), ("status",)):
        done = refresh(folder, *command, limited=rights_count)
        told(done, f"expected a folder {data} that can be written", "Permission denied", "set REFRESH_DATA_DIR")
    assert list(data.iterdir()) == []
    data.chmod(0o755)
    works(folder)


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["data", "data/below"])
def test_a_file_where_the_data_folder_should_be_is_named(folder, name):
    (folder / "data").write_text("a note")
    done = refresh(folder, "run", "bsee_ogora", REFRESH_DATA_DIR=name)
    told(done, f"{folder / name} cannot be the data folder", f"got a file {folder / 'data'}", "Nothing was started")
    assert (folder / "data").read_text() == "a note"
    (folder / "data").unlink()
    works(folder, REFRESH_DATA_DIR=name)


@pytest.mark.e2e
def test_a_disk_that_is_full_at_the_first_start_is_told_and_the_next_start_works(folder):
    done = refresh(folder, "run", "bsee_ogora", limited=disk_is_full)
    told(done, "Dagster's history cannot be used", "space on its disk", "Nothing was started. Make room")
    assert "CREATE TABLE" not in done.stderr
    works(folder)


@pytest.mark.e2e
def test_a_disk_that_fills_later_is_told_and_the_next_run_is_right(folder):
    works(folder)
    done = refresh(folder, "run", "bsee_ogora", "--force", limited=partial(disk_is_full, 64))
    told(done, "Dagster's history cannot be used", "may have been made and not recorded")
    assert not list((folder / "data/staging").glob("*"))
    assert not list((folder / "data").glob(".*.json.*"))
    again = refresh(folder, "run", "bsee_ogora", "--force")
    assert (again.returncode, again.stdout.count("unchanged")) == (0, 2)


@pytest.mark.e2e
def test_a_warehouse_in_a_folder_that_cannot_be_written_is_named(used):
    (used / "elsewhere").mkdir(mode=0o555)
    where = {"REFRESH_WAREHOUSE": "duckdb:///elsewhere/x.duckdb"}
    told(
        refresh(used, "run", "bsee_ogora", limited=rights_count, **where),
        f"expected a folder {used / 'elsewhere'} that can be written",
        "REFRESH_WAREHOUSE",
    )
    assert list((used / "elsewhere").iterdir()) == []
    (used / "elsewhere").chmod(0o755)
    works(used, **where)


@pytest.mark.e2e
def test_staging_that_cannot_be_written_fails_each_refresh_with_its_name(used):
    (used / "data/staging").mkdir(mode=0o555)
    done = refresh(used, "run", "bsee_ogora", limited=rights_count)
    told(done, "bsee_ogora[2025-01-01]: the folder", "staging cannot be used", "Nothing was loaded")
    (used / "data/staging").chmod(0o755)
    works(used)


def test_an_outbox_and_a_status_file_that_cannot_be_written_are_no_trouble_of_the_refresh(home):
    data = home.folder / "data"
    (data / "status.json").mkdir()
    (data / "ops.sqlite").write_text("no database")
    home.environ["REFRESH_WEBHOOK_URL"] = "http://127.0.0.1:9/x"
    done = home.refresh("run", "bsee_ogora")
    assert (done.exit_code, done.stdout.count("loaded")) == (0, 2)
    assert (
        f"Notices cannot be written to {data / 'ops.sqlite'}: file is not a database. Move that file away"
        in done.stderr
    )
    assert {path.name for path in data.glob("*status*")} == {"status.json"}
    (data / "status.json").rmdir()
    (data / "ops.sqlite").unlink()
    assert home.refresh("run", "bsee_ogora").exit_code == 0
    assert (data / "status.json").is_file()


def test_make_up_says_so_too_and_starts_nothing(folder):
    (folder / "data").write_text("a note")
    done = subprocess.run(
        [sys.executable, "-m", "refresh_pipelines.orchestration.instance"],
        cwd=folder,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told(done, "cannot be the data folder")
    assert done.stdout == ""


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    (tmp_path / "a").write_text("old")
    write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="b"):
        write_whole(tmp_path / "b", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
