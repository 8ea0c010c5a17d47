"""The benchmarks: their arithmetic, their table and picture, and one small session from end to end. No speed."""

# ruff: noqa: RUF001 - the table has signs of multiplication

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET

import pyarrow.csv as pacsv
import pytest
import requests
import yaml

from benchmarks import bench, harness, payloads
from benchmarks.drain import sources_of
from benchmarks.harness import OWN, BenchError, Sample, Series, Session, ratio, read_series
from benchmarks.place import DEFAULT, Place
from benchmarks.plot import draw
from benchmarks.report import render
from benchmarks.serving import served
from benchmarks.targets import ABSENT, FAILED, MET, MISSED, TARGETS, Check, shown_value
from refresh_pipelines.catalogue import load_catalogue


def series(*values, unit="s", failure=None):
    return Series(unit, [Sample(value) for value in values], failure)


def session(tmp_path, rounds=2):
    return Session(tmp_path / "latest.json", rounds, quick=True)


def test_a_ratio_is_that_of_the_medians_and_none_where_a_side_failed_or_is_zero():
    assert ratio(series(2, 9, 4), series(1, 2, 300)) == 2
    assert ratio(series(2), series(failure="gone")) is None
    assert ratio(series(2), series(0)) is None
    assert ratio(None, series(1)) is None


def test_contestants_take_turns_and_one_that_fails_is_out_with_its_reason(tmp_path):
    kept, order = session(tmp_path, rounds=3), []

    def turn(name, fails_at=None):
        def taken(number):
            order.append(name)
            if number == fails_at:
                raise BenchError("no such host")
            return {"w.a": Sample(number + 1.0), "w.b": Sample(0.5)}

        return taken

    kept.alternate(["w.a"], {OWN: turn("own"), "peer": turn("peer", fails_at=1)})
    assert order == ["own", "peer", "own", "peer", "own"]
    assert kept.works["w.a"][OWN].middle() == 2
    assert kept.works["w.a"]["peer"].failure == "no such host"
    # What the interrupted keeps: the file is as the session is.
    assert read_series(json.loads(kept.path.read_text())) == kept.works


def test_a_session_is_taken_up_where_it_was_and_not_by_another_one(tmp_path):
    begun = session(tmp_path)
    begun.add("w.a", OWN, Sample(1.0))
    begun.modules.append("load")
    begun.notes["load"] = "a note"
    begun.save()
    again = session(tmp_path)
    again.take_up()
    again.add("w.a", OWN, Sample(3.0))
    assert (again.modules, again.notes, again.begun_at) == (["load"], {"load": "a note"}, begun.begun_at)
    assert again.works["w.a"][OWN].values() == [1.0, 3.0]
    with pytest.raises(BenchError, match="another session: rounds differ"):
        session(tmp_path, rounds=5).take_up()
    begun.path.unlink()
    with pytest.raises(BenchError, match="cannot be taken up"):
        session(tmp_path).take_up()


@pytest.mark.parametrize(
    ("own", "other", "state", "said"),
    [
        (series(1.0), series(1.0), MET, "1 ×"),
        (series(3.0), series(1.0), MISSED, "3 ×, 100 % off"),
        (series(1.0), series(failure="it broke"), FAILED, "peer: it broke"),
        (series(1.0), None, ABSENT, "nothing of peer at w"),
    ],
)
def test_a_check_of_a_ratio_says_what_came_of_it(own, other, state, said):
    works = {"w": {OWN: own, **({"peer": other} if other else {})}}
    verdict = Check("≤ 1.5 × peer", "w", "at_most", 1.5, ("w", "peer")).judge(works)
    assert (verdict.state, verdict.measured) == (state, said)


def test_so_many_times_faster_is_the_peers_time_by_ours():
    check = Check("≥ 10 × faster", "w", "at_least", 10, ("w", "peer"), inverse=True)
    assert check.judge({"w": {OWN: series(0.1), "peer": series(2.0)}}).measured == "20 ×"
    missed = check.judge({"w": {OWN: series(1.0), "peer": series(5.0)}})
    assert (missed.state, missed.measured) == (MISSED, "5 ×, 100 % off")


def test_an_absolute_limit_is_judged_by_the_median():
    check = Check("≤ 20 ms", "w", "at_most", 0.02)
    assert check.judge({"w": {OWN: series(0.01, 0.015, 9)}}).state == MET
    assert check.judge({"w": {OWN: series(0.03)}}).measured == "30 ms, 50 % off"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0123, "s", "12.3 ms"), (2.345, "s", "2.35 s"), (1234.6, "MB", "1,235 MB"), (4.2, "×", "4.2 ×")],
)
def test_numbers_have_three_digits(value, unit, text):
    assert shown_value(value, unit) == text


def test_every_row_of_the_promise_has_checks_and_a_module_that_measures_it():
    rows = [target.row for target in TARGETS]
    for part in (
        "1M rows CSV, initial, warm", "no validator", "304", "PostgreSQL", "10M-row", "scheduled run", "cold, 10k",
        "drained per minute", "due in one minute, requested", "nothing lost", "idle", "1 GB",
    ):  # fmt: skip
        assert any(part in row for row in rows), part
    assert all(target.checks and target.only in bench.NAMES for target in TARGETS)


def test_the_table_shows_every_target_also_those_that_failed_or_were_not_measured(tmp_path):
    kept = session(tmp_path)
    kept.add("duckdb.initial", OWN, Sample(3.0, 3.0, 2.5, 400_000_000))
    kept.add("duckdb.initial", "plain DuckDB", Sample(1.0, 1.0, 1.5))
    kept.fail(["duckdb.initial"], "dlt", "ended with 1: a | b")
    kept.notes["due failed"] = "due.py is not there"
    page = render(kept.document())
    ends = ("| met |", "| **missed** |", "| **failed** |", "| not measured |")
    assert sum(line.endswith(ends) for line in page.splitlines()) == sum(len(target.checks) for target in TARGETS)
    assert "| ≤ 1.5 × plain DuckDB | 3 ×, 100 % off | **missed** |" in page
    assert "| dlt: ended with 1: a \\| b | **failed** |" in page
    assert "| duckdb.initial | refresh_pipelines | 3 s | 3 s–3 s | 2.50 | 400 | 1 |  |" in page
    assert "| duckdb.initial | dlt | failed: ended with 1: a \\| b | | | | |  |" in page
    assert "due.py is not there" in page
    assert "A quick look" in page


def test_the_picture_is_an_svg_with_a_bar_for_each_that_was_measured(tmp_path):
    kept = session(tmp_path)
    kept.add("a", OWN, Sample(3.0))
    kept.add("a", "peer & co", Sample(0.0001))
    kept.add("zero", OWN, Sample(0.0))
    kept.fail(["a"], "gone", "why")
    picture = ET.fromstring(draw(kept.document()))
    bars = [part for part in picture if part.tag.endswith("rect") and part.get("x")]
    assert len(bars) == 2
    assert all(float(bar.get("width")) > 0 for bar in bars)


def test_a_process_is_weighed_with_its_children_and_a_failure_says_what_it_said():
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print('done')"
    said, sample = harness.weighed([sys.executable, "-c", child])
    assert said == "done\n"
    assert sample.cpu >= 0.2
    with pytest.raises(BenchError, match=r"ended with 3: over there"):
        harness.weighed([sys.executable, "-c", "import sys; print('over there'); sys.exit(3)"])
    with pytest.raises(BenchError, match="printed no measurement"):
        harness.stepwise([sys.executable, "-c", "print('nothing')"])


def test_payloads_are_the_same_every_time_and_change_as_they_say(tmp_path):
    first = payloads.initial(tmp_path / "a.csv", 300).read_bytes()
    assert payloads.initial(tmp_path / "b.csv", 300).read_bytes() == first
    old, new = (pacsv.read_csv(path).to_pylist() for path in (tmp_path / "a.csv", payloads.delta(tmp_path / "d", 300)))
    assert len(old) == 300
    assert [row["id"] for row in new[300:]] == [300, 301, 302]
    assert [row["id"] for row, was in zip(new, old, strict=False) if row != was] == [0, 100, 200]
    assert set(old[0]) == {name for name, *_ in payloads.COLUMNS}
    beyond = pacsv.read_csv(payloads.later(tmp_path / "l.csv", 20, 300)).to_pylist()
    assert [row["id"] for row in beyond] == list(range(290, 310))
    assert all(row != was for row, was in zip(beyond, old[290:], strict=False))


def test_files_are_served_with_and_without_validators(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id\n1\n")
    with served(tmp_path) as base:
        bare = requests.get(f"{base}/plain/a.csv/example.org/x?y=1", timeout=5)
        assert (bare.content, bare.headers.get("ETag")) == (b"id\n1\n", None)
        etag = requests.get(f"{base}/etag/a.csv", timeout=5).headers["ETag"]
        again = requests.get(f"{base}/etag/a.csv", headers={"If-None-Match": etag}, timeout=5)
        assert (again.status_code, again.content) == (304, b"")
        assert requests.get(f"{base}/plain/b.csv", timeout=5).status_code == 404


def test_the_sources_of_a_service_are_right_and_share_neither_host_nor_name(tmp_path):
    place = Place(tmp_path / "place", "http://127.0.0.1:9", sources_of(3), DEFAULT)
    catalogue = load_catalogue(place.settings.catalog)
    assert list(catalogue.problems) == []
    assert len({spec.request.url for spec in catalogue.sources.values()}) == 3
    assert "run_launcher" not in yaml.safe_load((tmp_path / "place/home/dagster.yaml").read_text())


def script(tmp_path, text):
    path = tmp_path / "due.py"
    path.write_text(text)
    return path


def test_a_script_of_its_own_gives_measurements_and_a_note(tmp_path):
    kept = session(tmp_path)
    found = {"measurements": [{"work": "due.requested", "contestant": "SQLite", "unit": "s", "samples": [7, 9]}]}
    path = script(tmp_path, f"import sys\nprint('told', sys.argv[1:])\nprint('''{json.dumps(found)}''')")
    bench.scripted(kept, "due", path)
    assert kept.works["due.requested"]["SQLite"].values() == [7, 9]
    assert kept.notes["due"] == "told ['--json']"


@pytest.mark.parametrize(
    ("text", "why"),
    [("print('hello')", "is no measurement: 'hello'"), ("raise SystemExit('broken')", "ended with 1: broken")],
)
def test_a_script_that_gives_none_is_a_failure_with_its_reason(tmp_path, text, why):
    with pytest.raises(BenchError, match=why):
        bench.scripted(session(tmp_path), "due", script(tmp_path, text))


def test_the_targets_of_a_module_that_fails_have_failed_for_its_reason(tmp_path):
    kept = session(tmp_path)

    def broken():
        raise BenchError("the disk is full")

    bench.attempt(kept, "due", broken)
    verdicts = [check.judge(kept.works) for target in TARGETS if target.only == "due" for check in target.checks]
    assert {verdict.state for verdict in verdicts} == {FAILED}
    assert all("the disk is full" in verdict.measured for verdict in verdicts)


def test_a_word_that_names_no_module_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--only", "loud", "--results", str(tmp_path)])
    assert "--only loud: expected some of load," in capsys.readouterr().err


def test_a_quick_session_loads_and_shows_a_missing_peer_as_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENCH_PEERS", str(tmp_path / "nowhere"))
    bench.main(["--only", "load", "--rounds", "1", "--quick", "--results", str(tmp_path)])
    document = json.loads((tmp_path / "latest.json").read_text())
    works = read_series(document)
    for work in ("duckdb.initial", "duckdb.identical", "duckdb.delta", "duckdb.not_modified", "growth.huge"):
        assert works[work][OWN].middle() > 0, works[work]
    assert "not installed in nowhere" in works["duckdb.initial"]["dlt"].failure
    page = (tmp_path / "latest.md").read_text()
    assert "python is not installed in nowhere" in page
    assert "| 10k rows into a 10M-row table | ≤ 3 × into 10k rows |" in capsys.readouterr().out
    assert (tmp_path / "latest.svg").read_text().startswith("<svg")
