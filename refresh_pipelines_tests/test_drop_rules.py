"""What `refresh check` says of a source with a drop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from refresh_pipelines.drop.ledger import Status
from refresh_pipelines.spec import Drop
from refresh_pipelines_tests.catalogues import load
from refresh_pipelines_tests.test_rules import changed, take_mark

SURVEY = """\
description: tables that somebody drops
params: {folder: drops/survey}
request:
  drop: {url: "{folder}", pattern: "**/*.csv", quiet: 60s}
format: csv
columns:
  file: {type: text, from: "{file}"}
  day: {type: date}
merge_key: [file, day]
load: {mode: merge}
schedule: {frequency: on_event}
partitions: {dynamic: day_of_arrival}
"""
DROP = '{url: "{folder}", pattern: "**/*.csv", quiet: 60s}'
URL = 'url: "{folder}"'
CASES = [
    (URL, 'url: "{▸fodler}"', "{fodler} is not known here"),
    (URL, "url: ▸ftp://host/x", "not a folder that files can be dropped into"),
    (URL, "url: ▸simplecache::s3://b/x", "not a folder that files can be dropped into"),
    (URL, "url: ▸../elsewhere", "the folder lies outside the root"),
    (URL, "url: ▸s3://key:pw@bucket/x", "an address must not hold a user or password"),
    ('pattern: "**/*.csv"', 'pattern: ▸"/etc/*"', "lies outside the folder"),
    ('pattern: "**/*.csv"', "pattern: ▸[a, ../b]", "lies outside the folder"),
    ("quiet: 60s", "quiet: ▸soon", "not a duration"),
    ("quiet: 60s", "▸quite: 60s", "unknown key quite (did you mean quiet?)"),
    ("quiet: 60s", "marker: ▸a/b", "request.drop.marker must match"),
    ("quiet: 60s", "same_name: ▸keep", "request.drop.same_name must be replace or refuse"),
    ("quiet: 60s", "options: {secret: ▸abc}", "secret is written as a value"),
    ("quiet: 60s", "options: {endpoint_url: ▸http://10.0.0.1:9000}", "http sends requests and answers in the open"),
    (f"drop: {DROP}", f"drop: {DROP}\n  ▸method: POST", "request.method does not go with drop"),
    (f"drop: {DROP}", f"drop: {DROP}\n  ▸auth: {{env: A, query: b}}", "request.auth does not go with drop"),
    (f"drop: {DROP}", f"drop: {DROP}\n  url: https://a.org/b", "request needs exactly one of url, urls and drop"),
    ("schedule: {frequency: on_event}", "▸schedule: {frequency: daily}", "a source with drop says schedule"),
    ("partitions: {dynamic: day_of_arrival}\n", "", "a source with drop has dynamic partitions"),
    ("{mode: merge}", "{mode: ▸replace_partition}", "load.mode: replace_partition does not go with drop"),
    ("load: {mode: merge}", "expect: {▸keep: {file: 0%}}", "expect.keep does not go with drop"),
    ("file: {type: text,", "file: {type: ▸int,", "the name of a file is text"),
    (f"  drop: {DROP}", "  url: https://a.org/b", "on_event goes with dropped files"),
]  # fmt: skip


PAGE = (Path(__file__).parent.parent / "docs/file-drops.md").read_text()


def test_the_example_of_the_page_is_right(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert problems(tmp_path, example) == []


def test_the_page_names_every_key_and_status():
    assert set(Drop.model_fields) <= set(re.findall(r"`(\w+)`", PAGE.split("## When")[0]))
    assert set(get_args(Status)) == set(re.findall(r"^\| `(\w+)`", PAGE.split("## What became")[1], re.MULTILINE))


def problems(tmp_path, text):
    return list(load(tmp_path / "catalog", {"g/survey.yaml": text}).problems)


def test_a_drop_that_is_right_has_no_problem(tmp_path):
    assert problems(tmp_path, SURVEY) == []


@pytest.mark.parametrize(("old", "new", "said"), CASES)
def test_a_wrong_drop_is_told_at_its_place(tmp_path, old, new, said):
    text = changed(SURVEY, old, new)
    text, place = take_mark(text) if "▸" in text else (text, None)
    found = problems(tmp_path, text)
    fitting = [problem for problem in found if said in str(problem)]
    assert fitting, [str(problem) for problem in found]
    assert place is None or "fodler" in said or (fitting[0].line, fitting[0].column) == place


def test_only_a_column_for_the_file_tells_which_rows_a_new_version_lacks(tmp_path):
    text = changed(SURVEY, "quiet: 60s", "same_name: replace")
    assert problems(tmp_path, text) == []
    text = changed(changed(text, 'file: {type: text, from: "{file}"}', "file: {type: text}"), "folder}", "folder}")
    (note,) = problems(tmp_path, text)
    assert (note.severity, "stay in the table" in str(note)) == ("note", True)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket", "/data/drops", "file:///data"])
def test_a_folder_may_lie_in_these_places(tmp_path, url):
    assert problems(tmp_path, changed(SURVEY, URL, f"url: {url}")) == []


def test_an_endpoint_in_our_own_network_is_said_to_be_meant(tmp_path):
    options = "options: {endpoint_url: http://10.0.0.1:9000}"
    text = changed(SURVEY, "quiet: 60s", options)
    assert problems(tmp_path, changed(text, f"  drop: {DROP.replace('quiet: 60s', options)}", "")) != []
    assert problems(tmp_path, changed(text, "request:\n", "request:\n  allow_private: true\n")) == []


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("quiet: 60s", "quiet: 5m, max_files: 7, marker: _OK, options: {anon: true}", True),
        ('pattern: "**/*.csv"', 'pattern: "*.csv"', False),
    ],
)
def test_when_and_how_many_files_are_read_does_not_change_what_they_say(tmp_path, old, new, same):
    first = load(tmp_path / "one", {"g/survey.yaml": SURVEY}).find("survey")
    second = load(tmp_path / "two", {"g/survey.yaml": changed(SURVEY, old, new)}).find("survey")
    assert (first.spec_hash == second.spec_hash) is same
