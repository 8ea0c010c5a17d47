"""`refresh run` over dropped files, without a daemon."""

from __future__ import annotations

import os
import time

import pytest

from refresh_pipelines_tests.test_drop_sensor import SURVEY


def put(home, name, *rows, age=3600):
    path = home.folder / "drops" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("day,value\n" + "".join(f"{day},{value}\n" for day, value in rows))
    at = time.time() - age
    os.utime(path, (at, at))
    return path


@pytest.fixture
def shell(home):
    home.environ["REFRESH_UPSTREAM"] = "live"
    home.add({"benin/survey.yaml": SURVEY})
    (home.folder / "drops").mkdir()
    return home


def verdicts(items):
    return [(item["outcome"], item["added"]) for item in items]


def test_files_are_looked_for_and_loaded(shell):
    put(shell, "a.csv", ("2026-01-01", 1))
    (item,) = shell.items("run", "survey")
    assert (item["outcome"], item["added"], item["trigger"]) == ("loaded", 1, "manual")
    day = item["partition"]
    (item,) = shell.items("run", "survey")
    assert (item["outcome"], item["partition"], item["message"]) == ("not_yet", None, "benin/survey: nothing new")
    put(shell, "b.csv", ("2026-01-02", 2))
    assert verdicts(shell.items("run", "survey", "--missing")) == [("loaded", 1)]
    result = shell.refresh("run", "survey", "--missing")
    assert (result.exit_code, "nothing is missing" in result.output) == (0, True)
    assert verdicts(shell.items("run", "survey", "--partition", day)) == [("unchanged", 0)]
    (forced,) = shell.items("run", "survey", "--partition", day, "--force")
    assert (forced["outcome"], forced["fetched"]) == ("unchanged", 2)


def test_what_is_not_stable_is_named_and_not_waited_for(shell):
    put(shell, "a.csv", ("2026-01-01", 1), age=0)
    result = shell.refresh("run", "survey")
    assert result.exit_code == 0
    assert "nothing new; 1 file is not stable yet: a.csv" in result.output


def test_a_bad_file_is_named_and_the_exit_code_says_so(shell):
    put(shell, "a.csv", ("2026-01-01", 1))
    put(shell, "bad.csv", ("soon", 1))
    result = shell.refresh("run", "survey")
    assert result.exit_code == 1
    assert "partial: 1 of the files failed (bad.csv)" in result.output


def test_a_missing_folder_fails_this_source_and_no_other(shell):
    shell.add({"benin/survey.yaml": SURVEY.replace("url: drops", f"url: {shell.folder / 'mount'}")})
    shell.environ["REFRESH_UPSTREAM"] = shell.sandbox.base
    items = {item["source"]: item for item in shell.items("run", "survey", "fred_fx")}
    assert (items["survey"]["outcome"], items["survey"]["error_class"]) == ("failed", "permanent")
    assert "mount does not exist" in items["survey"]["message"]
    assert items["fred_fx"]["outcome"] == "loaded"


def test_a_key_that_is_no_day_is_refused(shell):
    result = shell.refresh("run", "survey", "--partition", "autumn")
    assert (result.exit_code, "is no day of arrival" in result.output) == (2, True)


def test_without_credentials_a_bucket_is_blocked_and_no_failure(shell, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    where = 'url: "s3://bucket/in", options: {endpoint_url: "http://127.0.0.1:9"}'
    text = SURVEY.replace("url: drops", where).replace("request: {", "request: {allow_private: true, ")
    shell.add({"benin/survey.yaml": text})
    (item,) = shell.items("run", "survey")
    assert (item["outcome"], "AWS_ACCESS_KEY_ID" in item["message"]) == ("blocked", True)


def test_list_and_status_know_a_source_without_a_schedule(shell):
    (item,) = [item for item in shell.items("list") if item["source"] == "survey"]
    assert (item["cron"], item["timezone"]) == (None, None)
    put(shell, "a.csv", ("2026-01-01", 1))
    shell.items("run", "survey")
    (item,) = [item for item in shell.items("status") if item["source"] == "survey"]
    assert (item["last_outcome"], item["next_run_at"]) == ("loaded", None)
