"""Rules for `requires` and `derive`: what is said, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.settings import BUILTIN_CATALOG
from refresh_pipelines_tests.catalogues import MINI, errors, load, write

MADE = """\
description: made of mini
requires: [{source: mini, max_lag: 2d}]
derive:
  query: |
    SELECT day, 2 * value AS value FROM raw.mini
columns:
  day: {type: date}
  value: {type: double}
merge_key: [day]
"""
DAYS = MINI + "partitions: {time: day, start: 2026-01-01, column: day}\n"


def said(folder, made, mini=MINI, **others):
    """Return the errors of the catalogue, each as the file, line and text."""
    files = {"g/mini.yaml": mini, "g/made.yaml": made, **{f"g/{name}.yaml": text for name, text in others.items()}}
    return [(one.file.stem, one.line, f"{one.message} ({one.hint})") for one in errors(load(folder, files))]


def test_a_derived_source_needs_no_request_format_or_schedule(tmp_path):
    catalogue = load(tmp_path, {"g/mini.yaml": MINI, "g/made.yaml": MADE})
    assert catalogue.problems == ()
    made = catalogue.find("made")
    assert (made.derived, made.replaces, made.schedule, made.enabled) == (True, True, None, True)


def test_what_defaults_say_of_requests_does_not_reach_a_derived_source(tmp_path):
    defaults = "schedule: {frequency: daily}\nformat: csv\nowner: team:x\n"
    catalogue = load(tmp_path, {"defaults.yaml": defaults, "g/mini.yaml": MINI, "g/made.yaml": MADE})
    assert catalogue.problems == ()
    assert catalogue.find("made").schedule is None
    assert catalogue.find("made").owner == "team:x"


def test_without_derive_a_request_is_missing_and_said_once(tmp_path):
    text = MINI.replace('request: {url: "https://example.org/data.csv"}\n', "")
    assert said(tmp_path, MADE, text)[0] == ("mini", 1, "request is missing ()")
    assert len(said(tmp_path, MADE, text)) == 1


CASES = [
    ("requires: [{source: mini, max_lag: 2d}]\n", "", 2, "a derived source names the sources it is made from"),
    ("source: mini, max_lag", "source: minni, max_lag", 2, "no source is called minni (did you mean mini?)"),
    ("source: mini, max_lag", "source: h/mini, max_lag", 2, "no source is called h/mini (did you mean g/mini?)"),
    ("source: mini, max_lag", "source: made, max_lag", 2, "a source cannot require itself"),
    ("{source: mini, max_lag: 2d}", "{source: mini}, {source: g/mini}", 2, "mini is required twice"),
    ("max_lag: 2d", "max_lag: soon", 2, "not a duration: 'soon'"),
    ("max_lag: 2d", "lag: 2d", 2, "unknown key lag (did you mean max_lag?)"),
    ("max_lag: 2d", "period: latest", 2, "requires.0.period must be newest, same or any"),
    ("max_lag: 2d", "period: same", 2, "period: same compares time partitions, and this source has none"),
    ("max_lag: 2d", "period: any, max_lag: 2d", 2, "max_lag has no meaning with period: any"),
    ("merge_key", "schedule: {frequency: daily}\nmerge_key", 9, "schedule does not go with derive"),
    ("merge_key", "partitions: {static: {a: [b]}}\nmerge_key", 9, "partitions does not go with derive"),
    ("merge_key", "format: csv\nmerge_key", 9, "derive stands in place of format"),
    ("merge_key", "load: {mode: merge}\nmerge_key", 9, "load.mode: merge does not go with derive"),
    ("SELECT day, 2 *", "UPDATE raw.mini SET value = 2 *", 4, "the query is one SELECT"),
    ("FROM raw.mini", "FROM raw.mini; SELECT 1", 4, "the query is one statement, line 1 of it"),
    ("SELECT day,", "SELECT *,", 4, "the query names its columns, without *, line 1 of it"),
    ("SELECT day,", "SELECT mini.*,", 4, "without *"),
    ("2 * value", "2 * value\n    * random()", 4, "random gives each build other rows, line 2 of it"),
    ("SELECT day,", "SELECT current_date AS day,", 4, "current_date gives each build other rows"),
    ("raw.mini", "raw.minni", 4, "no required source loads raw.minni, line 1 of it (did you mean mini?)"),
    ("raw.mini", "mini", 4, "the query reads no raw table (the required sources load raw.mini)"),
]


@pytest.mark.parametrize(("old", "new", "line", "text"), CASES, ids=[text[:40] for *_, text in CASES])
def test_a_mistake_is_told_where_it_is(tmp_path, old, new, line, text):
    assert MADE.count(old) == 1
    found = said(tmp_path, MADE.replace(old, new))
    assert [(stem, at) for stem, at, message in found if text in message] == [("made", line)], found


@pytest.mark.parametrize(
    "query",
    [
        "WITH a AS (SELECT day, value FROM raw.mini) SELECT day, value FROM a;",
        "SELECT day, count(*) * value AS value FROM raw.mini -- not now() and not raw.other;\n    GROUP BY ALL",
        "SELECT day, value FROM RAW . \"mini\" WHERE 'SELECT *; raw.other' <> ''",
    ],
)
def test_a_right_query_passes(tmp_path, query):
    text = MADE.replace("SELECT day, 2 * value AS value FROM raw.mini", query)
    assert said(tmp_path, text) == []


def test_sources_that_wait_for_each_other_are_told_the_circle(tmp_path):
    other = MADE.replace("source: mini", "source: made").replace("raw.mini", "raw.made")
    made = MADE.replace("source: mini", "source: other").replace("raw.mini", "raw.other")
    assert [text for _, _, text in said(tmp_path, made, other=other)] == [
        "the sources wait for each other: made → other → made (take one requirement out)",
        "the sources wait for each other: other → made → other (take one requirement out)",
    ]


def test_a_required_source_that_is_broken_or_disabled_is_a_note(tmp_path):
    catalogue = load(tmp_path, {"g/mini.yaml": MINI + "enabled: false\n", "g/made.yaml": MADE})
    [note] = catalogue.problems
    assert (note.severity, note.line) == ("note", 2)
    assert "g/mini is disabled" in note.message
    catalogue = load(tmp_path, {"g/mini.yaml": MINI + "wrong: key\n", "g/made.yaml": MADE})
    assert [one.message for one in catalogue.problems if one.severity == "note"] == [
        "mini cannot be loaded now, so the gate stays closed"
    ]
    assert set(catalogue.sources) == {"made"}


def test_the_same_period_needs_time_partitions_on_both_sides(tmp_path):
    asking = DAYS + "requires: [{source: mini, period: same}]\n"
    assert said(tmp_path, asking, DAYS) == []
    [(_, _, text)] = said(tmp_path, asking, MINI)
    assert text == "period: same compares time partitions, and g/mini has none (newest or any)"


def test_another_query_is_another_spec_and_other_requirements_are_not(tmp_path):
    def spec_hash(text):
        return load(tmp_path, {"g/mini.yaml": MINI, "g/made.yaml": text}).find("made").spec_hash

    assert spec_hash(MADE) != spec_hash(MADE.replace("2 *", "3 *"))
    assert spec_hash(MADE) == spec_hash(MADE.replace("max_lag: 2d", "max_lag: 3d"))


def test_the_source_on_the_page_about_gates_is_right(tmp_path):
    page = (Path(__file__).parent.parent / "docs/gates.md").read_text()
    block = page.partition("```yaml\n")[2].partition("```")[0]
    write(tmp_path, {"desk/euro_weekly.yaml": block})
    catalogue = load_catalogue([tmp_path, BUILTIN_CATALOG])
    assert errors(catalogue) == []
    assert catalogue.find("desk/euro_weekly").derived
