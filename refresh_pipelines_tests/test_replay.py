"""The table made again from the archive is the one that live loading gave, row for row."""

from __future__ import annotations

import json
import signal
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refresh_pipelines.archive.journal import Journal
from refresh_pipelines.archive.keep import entries
from refresh_pipelines.archive.store import Store
from refresh_pipelines.errors import InternalError, RefreshError, SpecChanged, WarehouseBusy
from refresh_pipelines.outcome import Counts
from refresh_pipelines.refresh import refresh
from refresh_pipelines.refresh_range import refresh_range
from refresh_pipelines.replay import rebuild, replay
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.days import Days, days
from refresh_pipelines_tests.dropping import DAY, Dropping, csv, drop_spec
from refresh_pipelines_tests.stores import both, by_hand, held, opened
from refresh_pipelines_tests.workbench import HOST, NOW, Bench, csv_spec, spec_of, start

PARTITIONS = {"static": {"p": ["a", "b"]}}
COLUMNS = {
    "k": {"type": "text", "nullable": False}, "n": {"type": "int"}, "noise": {"type": "text"},
    "p": {"type": "text", "from": "{p}"},
}  # fmt: skip
SPECS = {
    mode: spec_of(
        "mini", columns=COLUMNS, partitions=PARTITIONS, merge_key=["k"] if mode == "merge" else ["p", "k"],
        load={"mode": mode, "volatile": ["noise"], "history": mode == "merge"},
    )
    for mode in ("merge", "replace_partition")
}  # fmt: skip
row = st.fixed_dictionaries(
    {"k": st.sampled_from("xyz"), "n": st.sampled_from([None, 1, 2]), "noise": st.sampled_from("uv")}
)
payload = st.lists(row, max_size=3, unique_by=lambda one: one["k"])
steps = st.lists(st.tuples(st.sampled_from("ab"), payload, st.booleans()), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    sandbox.clear()
    return Bench(tmp_path, sandbox.base)


def serve(bench, sandbox, spec, rows, key=None, **more):
    """One refresh that gets these rows, some minutes after the last one."""
    bench.now += timedelta(minutes=7)
    sandbox.clear()
    sandbox.override(HOST, rows if isinstance(rows, bytes) else json.dumps(rows).encode())
    return bench.refresh(spec, key, **more)


def states(bench, spec):
    return bench.warehouse.states(spec.source)[0]


def seen(bench, spec):
    rows = held(bench.warehouse, spec.raw_table) if states(bench, spec) else []
    past = by_hand(bench.warehouse, "SELECT * FROM history.mini") if spec.load.history and rows else []
    return rows, states(bench, spec), sorted(past, key=repr)


def live_then_rebuilt(bench, sandbox, spec, sequence):
    for key, rows, force in sequence:
        serve(bench, sandbox, spec, rows, key, force=force)
    live = seen(bench, spec)
    bench.now += timedelta(days=1)
    outcomes = rebuild(spec, bench.tools(), run_id="rebuild")
    assert seen(bench, spec) == live
    assert all(outcome.counts.balanced() for outcome in outcomes)


@pytest.mark.parametrize("mode", SPECS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=steps)
def test_a_rebuilt_table_has_the_rows_times_and_states_that_live_loading_gave(sandbox, mode, sequence):
    with tempfile.TemporaryDirectory() as folder:
        live_then_rebuilt(Bench(Path(folder), sandbox.base), sandbox, SPECS[mode], sequence)


DOUBLE = {"k": {"type": "text"}, "n": {"type": "double"}, "t": {"type": "text"}}
MORE = {"more": {"type": "text"}}
X, Y, Z = ({"k": k, "n": 1, "noise": "u"} for k in "xyz")
SEQUENCE = [
    ("a", [X, Y], False), ("b", [Z], False), ("a", [Y, X], False), ("a", [X], False), ("b", [{**Z, "n": 2}], False),
    ("a", [X, Y], False), ("a", [{**X, "n": None}], True), ("b", [Z, Y], False),
]  # fmt: skip


@both
@pytest.mark.parametrize("mode", SPECS)
def test_a_rebuilt_table_is_the_same_in_both_stores(request, tmp_path, sandbox, kind, mode):
    bench = Bench(tmp_path, sandbox.base)
    bench.warehouse = opened(kind, request, bench.file, attached=True)
    live_then_rebuilt(bench, sandbox, SPECS[mode], SEQUENCE)


WHOLE = {"k": {"type": "text", "nullable": False}, "n": {"type": "int", "max": 5}}
OTHERS = {
    "snapshot": {"mode": "snapshot", "history": True},
    "append": {"mode": "append"},
    "rejects": {"mode": "merge", "reject_share": 0.5, "history": True},
    "evolve": {"mode": "merge", "drift": "evolve"},
}
PAYLOADS = [
    [{"k": k, "n": n, **more} for k, n, more in rows]
    for rows in (
        [("x", 1, {}), ("y", 2, {}), ("z", 3, {})],
        [("x", 1, {}), ("y", 9, {}), ("z", 4, {})],
        [("x", 1, {"extra": "new"}), ("z", 5, {"extra": None}), ("w", 5, {"extra": "w"})],
        [("x", 2, {}), ("y", 2, {}), ("w", 8, {})],
    )
]


@both
@pytest.mark.parametrize("what", OTHERS)
def test_rejected_rows_followed_fields_and_all_modes_are_rebuilt_too(request, tmp_path, sandbox, kind, what):
    spec = spec_of("mini", columns=WHOLE if what == "rejects" else {**WHOLE, "n": {"type": "int"}}, load=OTHERS[what])
    bench = Bench(tmp_path, sandbox.base)
    bench.warehouse = opened(kind, request, bench.file, attached=True)
    for rows in PAYLOADS:
        served = rows if what != "append" else [{**row, "n": 0} for row in rows]
        serve(bench, sandbox, spec, served)
    live = seen(bench, spec), rejected(bench, what)
    assert (bool(live[0][0]), bool(live[1])) == (True, what == "rejects")
    bench.now += timedelta(days=1)
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert (seen(bench, spec), rejected(bench, what)) == live


def rejected(bench, what):
    return sorted(by_hand(bench.warehouse, "SELECT * FROM quarantine.mini"), key=repr) if what == "rejects" else []


def test_a_payload_that_comes_again_is_kept_once_and_listed_each_time(bench, sandbox):
    spec = spec_of()
    for rows in ([X, Y], [X], [X, Y]):
        serve(bench, sandbox, spec, [{**row, "t": "-"} for row in rows])
    store = Store(bench.settings.data_dir, "mini")
    loads = Journal(store).read()
    assert len(list(store.ids())) == 2
    assert [load.payload for load in loads] == [loads[0].payload, loads[1].payload, loads[0].payload]
    assert [load.run_id for load in loads] == ["run-0001", "run-0002", "run-0003"]
    assert states(bench, spec)[""].payload == loads[0].payload


def test_one_request_for_several_days_is_one_payload_and_rebuilds_each_day(tmp_path):
    spec = spec_of("days", **days_spec())
    week = days("2024-02-26", 4)
    with Days(week) as upstream:
        bench = Bench(tmp_path, upstream.base)
        windows = [window_of(spec, day) for day in week]
        refresh_range(spec, windows, bench.tools(), run_id="range-1")
        upstream.rows[week[1]] = ["a,9"]
        bench.now += timedelta(days=1)
        refresh_range(spec, windows, bench.tools(), run_id="range-2")
        bench.refresh(spec, week[2], force=True)
    assert len(list(entries(bench.settings.data_dir, "days"))) == 3
    live = held(bench.warehouse, "days"), bench.warehouse.states("days")[0]
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert (held(bench.warehouse, "days"), bench.warehouse.states("days")[0]) == live
    assert replay(spec, windows[1], bench.tools(), run_id="again").counts == Counts(fetched=1, unchanged=1)


def days_spec():
    return {
        "request": {"url": "https://example.org/days.csv", "params": {"start": "{start}", "end": "{end}"}, "span": 400},
        "format": "csv",
        "columns": {"day": {"type": "date"}, "site": {"type": "text"}, "value": {"type": "int"}},
        "merge_key": ["day", "site"],
        "load": {"mode": "replace_partition"},
        "partitions": {"time": "day", "start": "2024-01-01", "column": "day"},
    }  # fmt: skip


def test_a_day_of_dropped_files_is_rebuilt_after_the_files_are_gone(tmp_path):
    bench, spec = Dropping(tmp_path), drop_spec()
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 2, "t"]))
    bench.put("bad.csv", b"nothing\n")
    bench.refresh(spec, DAY)
    bench.later(hours=1)
    bench.put("a.csv", csv(["x", 5, "t"]))
    bench.put("b.csv", csv(["z", 3, "t"]))
    bench.refresh(spec, DAY)
    live = bench.rows(spec.raw_table), states(bench, spec), bench.ledger()
    for path in (tmp_path / "drops").rglob("*.csv"):
        path.unlink()
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert (bench.rows(spec.raw_table), states(bench, spec), bench.ledger()) == live


def test_a_changed_type_is_mended_by_rebuilding(bench, sandbox):
    old, new = spec_of(), spec_of(columns=DOUBLE)
    serve(bench, sandbox, old, [{"k": "x", "n": 1, "t": "-"}])
    first = bench.now
    with pytest.raises(SpecChanged, match="Run `refresh replay mini --rebuild`, or restore the old YAML"):
        serve(bench, sandbox, new, [{"k": "x", "n": 2, "t": "-"}])
    rebuild(new, bench.tools(), run_id="rebuild")
    assert bench.rows("mini") == [("x", 1.0, "-", "mini", None, first, first, "run-0001")]
    assert serve(bench, sandbox, new, [{"k": "x", "n": 2, "t": "-"}]).counts.updated == 1


def test_replaying_the_accepted_payload_reads_it_by_the_new_yaml_and_asks_nobody(bench, sandbox):
    serve(bench, sandbox, spec_of(), [{"k": "x", "n": 1, "t": "-", "more": "new"}])
    asked = len(sandbox.requests)
    wide = spec_of(
        columns={"k": {"type": "text"}, "n": {"type": "int"}, "t": {"type": "text"}, "more": {"type": "text"}}
    )
    outcome = replay(wide, window_of(wide, None), bench.tools(), run_id="again")
    assert (outcome.counts, outcome.trigger) == (Counts(fetched=1, updated=1), "replay")
    assert [row[3] for row in bench.rows("mini")] == ["new"]
    assert len(sandbox.requests) == asked
    assert Journal(Store(bench.settings.data_dir, "mini")).read()[-1].run_id == "again"


def test_what_was_loaded_before_there_was_an_archive_is_named_before_anything_is_touched(bench, sandbox):
    spec = SPECS["merge"]
    serve(bench, sandbox, spec, [X], "a")
    serve(bench, sandbox, spec, [Y], "b")
    Store(bench.settings.data_dir, "mini").manifest_path(states(bench, spec)["b"].payload).unlink()
    before = seen(bench, spec)
    with pytest.raises(InternalError, match="has not the accepted payload of b; expected one for each of the 2"):
        rebuild(spec, bench.tools(), run_id="rebuild", lossy=True)
    assert seen(bench, spec) == before
    assert replay(spec, window_of(spec, "a"), bench.tools(), run_id="again").outcome == "unchanged"


def test_a_gap_before_the_accepted_payload_has_to_be_allowed(bench, sandbox):
    spec = SPECS["merge"]
    serve(bench, sandbox, spec, [X], "a")
    first = states(bench, spec)["a"].payload
    serve(bench, sandbox, spec, [Y], "a")
    Store(bench.settings.data_dir, "mini").manifest_path(first).unlink()
    with pytest.raises(InternalError, match=r"has not all payloads of a; .* --lossy"):
        rebuild(spec, bench.tools(), run_id="rebuild")
    rebuild(spec, bench.tools(), run_id="rebuild", lossy=True)
    assert [row[0] for row in bench.rows("mini")] == ["y"]


def test_a_warehouse_that_is_lost_is_made_anew_from_the_archive_alone(bench, sandbox):
    spec = SPECS["merge"]
    for key, rows, force in SEQUENCE:
        serve(bench, sandbox, spec, rows, key, force=force)
    live = seen(bench, spec)
    bench.file.unlink()
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert seen(bench, spec) == live


def test_a_line_whose_commit_was_never_made_is_no_load(bench, sandbox):
    spec = spec_of()
    serve(bench, sandbox, spec, [{"k": "x", "n": 1, "t": "-"}])

    def fail(stage):
        if stage == "merged":
            raise InternalError("killed")

    sandbox.clear()
    sandbox.override(HOST, b'[{"k": "y", "n": 1, "t": "-"}]')
    bench.now += timedelta(minutes=1)
    with pytest.raises(InternalError):
        refresh(spec, window_of(spec, None), replace(bench.tools(), progress=fail), run_id="dead")
    path = Journal(Store(bench.settings.data_dir, "mini")).path
    path.write_text(path.read_text() + '{"kind": "load", "cut in the mid')
    serve(bench, sandbox, spec, [{"k": "z", "n": 1, "t": "-"}])
    assert [load.run_id for load in Journal(Store(bench.settings.data_dir, "mini")).read()] == [
        "run-0001", "dead", "run-0002",
    ]  # fmt: skip
    live = bench.rows("mini"), states(bench, spec)
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert (bench.rows("mini"), states(bench, spec)) == live
    assert [row[0] for row in live[0]] == ["x", "z"]


def test_a_rebuild_that_fails_half_way_leaves_all_as_it_was(bench, sandbox):
    spec = SPECS["merge"]
    for key, rows, force in SEQUENCE:
        serve(bench, sandbox, spec, rows, key, force=force)
    live = seen(bench, spec)
    left = iter([None, None])

    def fail(stage):
        if stage == "merged" and next(left, "over"):
            raise InternalError("killed")

    with pytest.raises(InternalError):
        rebuild(spec, replace(bench.tools(), progress=fail), run_id="rebuild")
    assert seen(bench, spec) == live
    assert bench.staging() == []


def test_a_source_that_is_refreshed_meanwhile_is_not_rebuilt_from_what_was_before(bench, sandbox):
    spec = spec_of()
    serve(bench, sandbox, spec, [{"k": "x", "n": 1, "t": "-"}])

    def meanwhile(stage):
        if stage == "staged":
            serve(bench, sandbox, spec, [{"k": "y", "n": 1, "t": "-"}])

    with pytest.raises(WarehouseBusy, match="was refreshed while its payloads were read"):
        rebuild(spec, replace(bench.tools(), progress=meanwhile), run_id="rebuild")
    assert [row[0] for row in bench.rows("mini")] == ["x", "y"]


def test_other_sources_of_the_table_keep_their_rows(bench, sandbox):
    one, two = spec_of("one", table="t"), spec_of("two", table="t")
    serve(bench, sandbox, one, [{"k": "x", "n": 1, "t": "-"}])
    serve(bench, sandbox, two, [{"k": "y", "n": 1, "t": "-"}])
    live = bench.rows("t")
    rebuild(one, bench.tools(), run_id="rebuild")
    assert bench.rows("t") == live
    changed = spec_of("one", table="t", columns=DOUBLE)
    with pytest.raises(
        SpecChanged, match="`refresh retire one two --reload` and then `refresh replay one --rebuild` and"
    ):
        rebuild(changed, bench.tools(), run_id="rebuild")
    assert bench.rows("t") == live


def test_a_payload_that_cannot_be_read_is_kept_all_the_same(bench, sandbox):
    with pytest.raises(RefreshError):
        serve(bench, sandbox, spec_of(), b'[{"k": "x", "n": "much", "t": "-"}]')
    [entry] = entries(bench.settings.data_dir, "mini")
    assert (entry.run_id, entry.bytes, entry.partition) == ("run-0001", 35, "")
    assert Journal(Store(bench.settings.data_dir, "mini")).read() == []


def test_an_unchanged_source_writes_nothing_into_the_archive(bench, sandbox):
    serve(bench, sandbox, spec_of(), [{"k": "x", "n": 1, "t": "-"}])
    folder = bench.settings.data_dir / "archive"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert serve(bench, sandbox, spec_of(), [{"k": "x", "n": 1, "t": "-"}]).outcome == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.e2e
@pytest.mark.parametrize("stage", ["fetched", "staged", "merged", "committed"])
def test_killed_at_any_stage_no_payload_is_lost_and_the_archive_knows_what_was_loaded(tmp_path, sandbox, stage):
    sandbox.clear()
    bench, spec = Bench(tmp_path, sandbox.base), csv_spec()
    sandbox.override(HOST, b"k,n,t\na,1,x\n")
    child = start("refreshing_child", tmp_path, sandbox.base, stage)
    assert (child.communicate(timeout=60)[0], child.returncode) == ("", -signal.SIGKILL)
    if stage != "fetched":
        assert len(list(entries(bench.settings.data_dir, "mini"))) == 1
    for number in (1, 2):
        bench.now += timedelta(minutes=1)
        sandbox.override(HOST, f"k,n,t\na,{number},x\n".encode())
        bench.refresh(spec)
    live = bench.rows("mini"), states(bench, spec)
    assert live[0][0][-1] == "run-0002"
    assert live[0][0][5] == (NOW if stage == "committed" else NOW + timedelta(minutes=1))
    rebuild(spec, bench.tools(), run_id="rebuild")
    assert (bench.rows("mini"), states(bench, spec)) == live
