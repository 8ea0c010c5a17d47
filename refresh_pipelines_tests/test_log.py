"""Where records go, what every one of them says, and what happens when they cannot be written."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from pathlib import Path

import pytest

from refresh_pipelines import log
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.warehouse.lock import held
from refresh_pipelines_tests.workbench import start

NOW = datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=timezone.utc)


@pytest.fixture
def begin(tmp_path):
    """Return a function that starts the log with some settings, and one that reads it."""

    def begin(**environ):
        settings = Settings.load({"REFRESH_LOG_FORMAT": "json", **environ}, root=tmp_path)
        log.configure(settings, lambda: NOW)
        return settings

    return begin


def records(settings):
    path = Path(settings.log_file)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_record_says_when_where_and_by_whom(begin):
    settings = begin()
    with log.bound(source="fred_fx", group="commodities", run_id="r1", trigger="schedule"), log.bound(partition="a"):
        log.event("refresh.started", attempt=1)
    [record] = records(settings)
    pid = record.pop("pid")
    assert isinstance(pid, int)
    assert record == {
        "time": "2026-11-22T12:00:00.123Z", "level": "info", "event": "refresh.started", "source": "fred_fx",
        "group": "commodities", "partition": "a", "run_id": "r1", "trigger": "schedule", "attempt": 1,
    }  # fmt: skip


def test_without_a_setting_the_log_is_text_below_the_data_folder(tmp_path):
    log.configure(Settings.load({"REFRESH_DATA_DIR": "elsewhere"}, root=tmp_path), lambda: NOW)
    log.event("tick.skipped", by="x_schedule", reason="closed: waits")
    text = (tmp_path / "elsewhere/log/refresh.log").read_text()
    assert text.startswith("2026-11-22T12:00:00.123Z info tick.skipped pid=")
    assert text.endswith(' by=x_schedule reason="closed: waits"\n')


def test_nothing_is_opened_before_something_happens_and_nothing_is_logged_before_it_is_asked_for(begin, tmp_path):
    log.event("refresh.started")
    begin()
    assert not (tmp_path / "data").exists()


def test_an_empty_setting_switches_it_off(begin, tmp_path):
    begin(REFRESH_LOG_FILE="")
    log.event("refresh.started")
    assert list(tmp_path.iterdir()) == []


def test_a_dash_is_stderr(begin, capsys):
    begin(REFRESH_LOG_FILE="-", REFRESH_LOG_FORMAT="text")
    log.event("refresh.started", source="x")
    captured = capsys.readouterr()
    assert captured.err.startswith("2026-11-22T12:00:00.123Z info refresh.started source=x pid=")
    assert captured.out == ""


def test_a_relative_file_begins_at_the_root(begin, tmp_path):
    assert begin(REFRESH_LOG_FILE="here/x.log").log_file == str(tmp_path / "here/x.log")


@pytest.mark.parametrize(
    ("least", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1), ("WARNING", 2), ("", 3)]
)
def test_what_is_quieter_than_the_level_is_left_out(begin, least, said):
    settings = begin(REFRESH_LOG_LEVEL=least)
    for level in ("debug", "info", "warning", "error"):
        log.event("log", level, level=level)
    assert [record["level"] for record in records(settings)] == ["debug", "info", "warning", "error"][4 - said :]


@pytest.mark.parametrize("name", ["REFRESH_LOG_FORMAT", "REFRESH_LOG_LEVEL"])
def test_a_wrong_setting_is_named(begin, name):
    with pytest.raises(SettingsError, match=f"{name}='loud': expected "):
        begin(**{name: "loud"})


def test_what_the_package_logs_by_pythons_own_means_is_there_too(begin):
    settings = begin()
    logger = logging.getLogger("refresh_pipelines.some.module")
    logger.debug("not this")
    try:
        int("a\nb")
    except ValueError:
        logger.exception("it broke: %s", 7)
    [record] = records(settings)
    assert (record["event"], record["level"], record["message"]) == ("log", "error", "it broke: 7")
    assert record["logger"] == "refresh_pipelines.some.module"
    assert "ValueError: invalid literal" in record["traceback"]


def test_after_another_start_the_former_file_gets_nothing_more(begin):
    first, second = begin(REFRESH_LOG_FILE="a.log"), begin(REFRESH_LOG_FILE="b.log")
    logging.getLogger("refresh_pipelines.x").warning("once")
    assert records(first) == []
    assert len(records(second)) == 1


def test_once_is_once_for_a_process(begin):
    settings = begin()
    for route in ("default", "desk", "default"):
        log.once("notice.nobody", "nobody was told", route=route)
    assert [record["route"] for record in records(settings)] == ["default", "desk"]


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nobody(begin, tmp_path, capsys):
    (tmp_path / "file").touch()
    begin(REFRESH_LOG_FILE="file/x.log", FRED_API_KEY="planted5ecret")
    for _ in range(3):
        log.event("refresh.started")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("The log (REFRESH_LOG_FILE) cannot be written, refreshes go on without it: ")


def test_it_goes_on_where_the_folder_can_be_written_again(begin, tmp_path, capsys):
    (tmp_path / "file").touch()
    settings = begin(REFRESH_LOG_FILE="file/x.log")
    log.event("refresh.started")
    (tmp_path / "file").unlink()
    log.event("refresh.started")
    assert len(records(settings)) == 1


SECRETS = {
    "REFRESH_WEBHOOK_URL": "https://hooks.example.org/services/T0/B0/pathsecret",
    "REFRESH_WEBHOOK_DESK": "https://other.example.org/desk-path-secret?x=1",
    "REFRESH_WEBHOOK_SECRET": "signing-secret",
    "HTTPS_PROXY": "http://me:pr%40xysecret@proxy:3128",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+key",
    "ODDLY_NAMED": "declared&secret",
}


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_of_the_settings_is_written_wherever_it_is_quoted(begin, form):
    settings = begin(**SECRETS, REFRESH_LOG_FORMAT=form)
    log.guard([SECRETS["ODDLY_NAMED"]])
    planted = [*SECRETS.values(), "pr@xysecret", "/services/T0/B0/pathsecret", "declared%26secret"]
    for secret in planted:
        log.event("tick.skipped", f"it said {secret}!", reason=f"x={secret}", by=secret, traceback=f"a\n{secret}\nb")
        log.event("drop.found", days=[secret])
    log.event("log", "http://user:url-password@host/?api_key=unknown-key and Authorization: Bearer bearer-token")
    text = Path(settings.log_file).read_text()
    assert text.count("\n") == 2 * len(planted) + 1
    hidden = (
        "pathsecret",
        "desk-path",
        "signing",
        "xysecret",
        "aws",
        "declared",
        "url-password",
        "unknown",
        "bearer-t",
    )
    assert [word for word in hidden if word in text] == []
    assert "***" in text


def test_the_current_folder_and_short_values_are_no_secrets(begin):
    settings = begin(PWD="/home/somebody", SHORT_KEY="id")
    log.event("log", "an idle id in /home/somebody")
    assert records(settings)[0]["message"] == "an idle id in /home/somebody"


def test_a_traceback_without_end_is_cut(begin):
    settings = begin()
    log.event("refresh.ended", traceback="x" * 100_000)
    assert len(records(settings)[0]["traceback"]) < 21_000


def test_who_waits_for_a_lock_says_for_whom_and_how_long(begin, tmp_path):
    settings = begin()
    lock = tmp_path / "warehouse.lock"
    child = start("holding_child", "lock", lock)
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(Exception, match="in use"), held(lock, 0.05, "the warehouse"):
        pass
    child.stdin.close()
    child.wait()
    child.stdout.close()
    [record] = records(settings)
    assert (record["event"], record["level"], record["lock"]) == ("warehouse.waited", "warning", "warehouse.lock")
    assert record["owner"].startswith(f"PID {child.pid} (")
    assert record["seconds"] >= 0.05
