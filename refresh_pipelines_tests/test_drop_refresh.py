"""Refreshes of dropped files: each version once, bad ones refused by name, good ones loaded."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refresh_pipelines.errors import ContractViolation, InternalError, UpstreamRefused
from refresh_pipelines.outcome import Counts
from refresh_pipelines_tests.dropping import DAY, NEXT_DAY, Dropping, csv, drop_spec
from refresh_pipelines_tests.workbench import rows_of

SPEC = drop_spec()
FILED = {"file": {"type": "text", "from": "{file}"}, "k": {"type": "text"}, "n": {"type": "int"}}


@pytest.fixture
def bench(tmp_path):
    return Dropping(tmp_path)


def test_the_files_of_a_day_are_loaded_with_one_verdict_each(bench):
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 2, "t"]))
    bench.put("b/c.csv", csv(["z", 3, "t"]))
    outcome = bench.refresh(SPEC, DAY)
    assert (outcome.outcome, outcome.counts) == ("loaded", Counts(fetched=3, added=3))
    assert bench.ledger() == [("a.csv", "loaded", 2, 2, 0, DAY), ("b/c.csv", "loaded", 1, 1, 0, DAY)]
    assert bench.table() == [("x", 1, "t", DAY), ("y", 2, "t", DAY), ("z", 3, "t", DAY)]
    assert bench.staging() == []


def test_a_second_refresh_reads_nothing(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    first = bench.refresh(SPEC, DAY)
    again = bench.refresh(SPEC, DAY)
    assert (again.outcome, again.bytes, again.message) == ("unchanged", 0, "nothing new")
    assert again.data_version == first.data_version


def test_a_later_file_of_the_day_joins_it(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    bench.later(hours=1)
    bench.put("b.csv", csv(["y", 2, "t"]))
    assert bench.refresh(SPEC, DAY).counts == Counts(fetched=1, added=1)
    assert [row[0] for row in bench.table()] == ["x", "y"]


def test_files_of_another_day_are_left_to_it(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.look(SPEC)
    bench.later(days=1)
    bench.put("b.csv", csv(["y", 2, "t"]))
    assert bench.refresh(SPEC, NEXT_DAY).counts.added == 1
    assert bench.refresh(SPEC, DAY).counts.added == 1
    assert bench.table(columns="k, _partition") == [("x", DAY), ("y", NEXT_DAY)]


def test_what_is_not_stable_is_not_read(bench):
    bench.put("a.csv", csv(["x", 1, "t"]), age=10)
    outcome = bench.refresh(SPEC, DAY)
    assert (outcome.outcome, outcome.message) == ("not_yet", "nothing new; 1 file is not stable yet: a.csv")
    bench.later(seconds=60)
    assert bench.refresh(SPEC, DAY).outcome == "loaded"


def test_a_bad_file_is_refused_by_name_and_the_good_ones_load(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("bad.csv", csv(["y", "one", "t"], ["z", 1, "t"]))
    bench.put("empty.csv", b"")
    outcome = bench.refresh(SPEC, DAY)
    assert (outcome.outcome, outcome.error_class, outcome.counts.added) == ("partial", "contract", 1)
    said = "2 of the files failed (bad.csv, empty.csv); the first: benin/mini[2026-11-22]: file="
    assert outcome.message.startswith(said)
    assert "'one' is no int" in outcome.message
    assert bench.ledger() == [
        ("a.csv", "loaded", 1, 1, 0, DAY), ("bad.csv", "refused", 2, 0, 1, DAY), ("empty.csv", "refused", 0, 0, 0, DAY),
    ]  # fmt: skip
    ((reason,),) = rows_of(bench.warehouse, "SELECT reason FROM refresh.file_ledger WHERE key = 'bad.csv'")
    assert "Nothing of this file was loaded" in reason


def test_a_refused_file_is_read_again_only_when_it_changes(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("bad.csv", csv(["y", "one", "t"]))
    bench.refresh(SPEC, DAY)
    again = bench.refresh(SPEC, DAY)
    assert (again.outcome, again.message) == ("unchanged", "nothing new; 1 file is refused until changed: bad.csv")
    bench.later(hours=1)
    bench.put("bad.csv", csv(["y", 1, "t"]))
    assert bench.refresh(SPEC, DAY).counts.added == 1


def test_a_refused_file_is_read_again_under_a_mended_yaml(bench):
    bench.put("bad.csv", csv(["y", "one", "t"]))
    with pytest.raises(ContractViolation):
        bench.refresh(SPEC, DAY)
    assert bench.pending(SPEC) == []
    mended = drop_spec(columns={"k": {"type": "text"}, "n": {"type": "text"}, "t": {"type": "text"}})
    assert bench.pending(mended) == ["bad.csv"]
    assert bench.refresh(mended, DAY).counts.added == 1


def test_where_all_files_are_bad_the_refresh_fails_and_the_ledger_says_why(bench):
    bench.put("a.csv", csv(["y", "one", "t"]))
    bench.put("b.csv.gz", gzip.compress(csv(["y", 1, "t"]).encode())[:-9])
    with pytest.raises(ContractViolation, match=r"file=a\.csv.*So are 1 other files: b\.csv\.gz"):
        bench.refresh(SPEC, DAY)
    assert bench.statuses() == {"a.csv": "refused", "b.csv.gz": "refused"}
    assert bench.refresh(SPEC, DAY).outcome == "not_yet"
    assert bench.pending(SPEC) == []


def test_a_truncated_archive_is_the_files_own_fault_and_not_tried_again(bench):
    bench.put("b.csv.gz", gzip.compress(csv(["y", 1, "t"]).encode())[:-9])
    with pytest.raises(UpstreamRefused, match="the gzip file is truncated or damaged") as error:
        bench.refresh(SPEC, DAY)
    assert (error.value.retryable, "Drop it again once it is whole" in str(error.value)) == (False, True)


def test_a_file_that_is_too_large_is_refused_unread(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("big.csv", csv(*([n, 1, "t"] for n in range(100))))
    spec = drop_spec(request={"drop": {"url": "drops"}, "max_bytes": "100B"})
    outcome = bench.refresh(spec, DAY)
    assert (outcome.outcome, outcome.counts.added) == ("partial", 1)
    assert "the file is too large; expected at most 100 bytes" in outcome.message


def test_a_file_that_unpacks_to_too_much_is_refused(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("bomb.csv.gz", gzip.compress(csv(*([n, 1, "t"] for n in range(9999))).encode()))
    spec = drop_spec(request={"drop": {"url": "drops"}, "max_unpacked": "1KB"})
    assert "max_unpacked" in bench.refresh(spec, DAY).message


def test_the_same_bytes_under_another_name_are_not_read_again(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("copy.csv", csv(["x", 1, "t"]))
    outcome = bench.refresh(SPEC, DAY)
    # Both are new: the later one says the same once more.
    assert outcome.counts == Counts(fetched=2, added=1, duplicates=1)
    bench.later(days=1)
    bench.put("next.csv", csv(["x", 1, "t"]))
    outcome = bench.refresh(SPEC, NEXT_DAY)
    assert (outcome.outcome, outcome.counts) == ("unchanged", Counts())
    assert outcome.notes == ["1 files hold nothing new: next.csv"]
    assert bench.statuses()["next.csv"] == "duplicate"
    assert bench.table() == [("x", 1, "t", DAY)]
    assert bench.refresh(SPEC, NEXT_DAY).outcome == "unchanged"


def test_the_same_rows_in_other_bytes_change_nothing(bench):
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 2, "t"]))
    bench.refresh(SPEC, DAY)
    bench.later(days=1)
    bench.put("b.csv", csv(["y", 2, "t"], ["x", 1, "t"]))
    assert bench.refresh(SPEC, NEXT_DAY).counts == Counts(fetched=2, unchanged=2)
    assert {row[3] for row in bench.table()} == {DAY}


def test_a_touched_file_is_the_same_file(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    bench.later(hours=2)
    bench.put("a.csv", csv(["x", 1, "t"]))
    assert bench.refresh(SPEC, DAY).outcome == "unchanged"
    assert [row[1] for row in bench.ledger()] == ["loaded", "unchanged"]


def test_a_new_version_of_a_file_is_merged_and_the_old_one_marked(bench):
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 2, "t"]))
    bench.refresh(SPEC, DAY)
    bench.later(days=1)
    bench.put("a.csv", csv(["x", 5, "t"]))
    assert bench.refresh(SPEC, NEXT_DAY).counts == Counts(fetched=1, updated=1)
    assert [(row[1], row[5]) for row in bench.ledger()] == [("loaded", NEXT_DAY), ("replaced", DAY)]
    # Without a column that names the file nobody can say that y was only in it.
    assert bench.table() == [("x", 5, "t", NEXT_DAY), ("y", 2, "t", DAY)]


def test_with_a_column_for_the_file_a_new_version_takes_its_old_rows_away(bench):
    spec = drop_spec(columns=FILED)
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 2, "t"]))
    bench.put("b.csv", csv(["z", 3, "t"]))
    bench.refresh(spec, DAY)
    bench.later(days=1)
    bench.put("a.csv", csv(["x", 5, "t"]))
    assert bench.refresh(spec, NEXT_DAY).counts == Counts(fetched=1, updated=1, deleted=1)
    assert bench.table(columns="file, k, n") == [("a.csv", "x", 5), ("b.csv", "z", 3)]


def test_a_refused_new_version_leaves_the_rows_of_the_old_one(bench):
    spec = drop_spec(columns=FILED)
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(spec, DAY)
    bench.later(hours=1)
    bench.put("a.csv", csv(["x", "five", "t"]))
    with pytest.raises(ContractViolation):
        bench.refresh(spec, DAY)
    assert bench.table(columns="file, k, n") == [("a.csv", "x", 1)]
    assert sorted(row[1] for row in bench.ledger()) == ["loaded", "refused"]


def test_content_that_was_replaced_and_comes_back_is_loaded_again(bench):
    for version, n in enumerate((1, 2, 1)):
        bench.put("a.csv", csv(["x", n, "t"]), age=3600)
        assert bench.refresh(SPEC, DAY).counts in (Counts(fetched=1, added=1), Counts(fetched=1, updated=1)), version
        assert bench.table()[0][1] == n
        bench.later(hours=2)


def test_same_name_refuse_takes_no_second_version(bench):
    spec = drop_spec(drop={"same_name": "refuse"})
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(spec, DAY)
    bench.later(hours=2)
    bench.put("a.csv", csv(["x", 2, "t"]))
    with pytest.raises(UpstreamRefused, match=r"file=a\.csv: a file of this name was loaded before"):
        bench.refresh(spec, DAY)
    assert bench.table() == [("x", 1, "t", DAY)]
    bench.later(hours=2)
    bench.put("a.csv", csv(["x", 1, "t"]))
    assert bench.refresh(spec, DAY).outcome == "unchanged"


def test_of_several_files_the_last_to_arrive_speaks(bench):
    bench.put("z-first.csv", csv(["x", 1, "t"], ["y", 1, "t"]), age=300)
    bench.put("a-last.csv", csv(["x", 2, "t"]), age=200)
    assert bench.refresh(SPEC, DAY).counts == Counts(fetched=3, added=2, duplicates=1)
    assert bench.table() == [("x", 2, "t", DAY), ("y", 1, "t", DAY)]
    assert [(row[0], row[3]) for row in bench.ledger()] == [("a-last.csv", 1), ("z-first.csv", 1)]


def test_an_older_day_read_again_does_not_take_back_what_a_newer_one_said(bench):
    bench.put("a.csv", csv(["x", 1, "t"], ["y", 1, "t"]))
    bench.refresh(SPEC, DAY)
    bench.later(days=1)
    bench.put("b.csv", csv(["x", 2, "t"]))
    bench.refresh(SPEC, NEXT_DAY)
    before = bench.table()
    assert bench.refresh(SPEC, DAY, force=True).counts == Counts(fetched=2, unchanged=2)
    assert bench.table() == before


def test_force_reads_all_files_of_the_day_that_are_still_there(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    gone = bench.put("b.csv", csv(["y", 1, "t"]))
    bench.refresh(SPEC, DAY)
    gone.unlink()
    with bench.warehouse.writing_alone() as (connection, _):
        connection.execute("UPDATE raw.mini SET n = 99 WHERE k = 'x'")
    assert bench.refresh(SPEC, DAY, force=True).counts == Counts(fetched=1, updated=1)


def test_a_changed_yaml_reads_the_day_again_when_it_is_run(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    wider = drop_spec(columns={**SPEC.model_dump()["columns"], "f": {"type": "text", "from": "t"}})
    assert bench.pending(wider) == []
    assert bench.refresh(wider, DAY).counts == Counts(fetched=1, updated=1)


def test_without_its_operational_store_nothing_is_loaded_twice(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    bench.lose_sightings()
    bench.later(days=1)
    # Everything looks new, and belongs to today as far as anybody knows.
    assert bench.pending(SPEC) == ["a.csv"]
    outcome = bench.refresh(SPEC, NEXT_DAY)
    assert (outcome.outcome, outcome.counts) == ("not_yet", Counts())
    # Now it is known again.
    assert (bench.pending(SPEC), bench.sightings()[0].day) == ([], DAY)
    assert bench.table() == [("x", 1, "t", DAY)]
    assert bench.ledger() == [("a.csv", "loaded", 1, 1, 0, DAY)]


class Meddling:
    """A warehouse that is asked between the look and the copies, and does something to the folder then."""

    def __init__(self, warehouse, meddle):
        self._warehouse, self._meddle = warehouse, meddle

    def __getattr__(self, name):
        return getattr(self._warehouse, name)

    def files(self, *args, **kwargs):
        self._meddle()
        return self._warehouse.files(*args, **kwargs)


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_file_that_changes_between_look_and_copy_is_left_for_the_next_look(bench, what):
    path = bench.put("a.csv", csv(["x", 1, "t"]))
    bench.put("b.csv", csv(["y", 1, "t"]))
    new = csv(["x", 2, "t"], ["q", 2, "t"])
    honest = bench.warehouse
    bench.warehouse = Meddling(honest, lambda: bench.put("a.csv", new, 0) if what == "changed" else path.unlink(True))
    outcome = bench.refresh(SPEC, DAY)
    bench.warehouse = honest
    assert (outcome.outcome, [row[0] for row in bench.table()]) == ("loaded", ["y"])
    assert outcome.notes == ["a.csv changed while it was read and is left for the next look"]
    assert "a.csv" not in bench.statuses()
    bench.put("a.csv", new, 0)
    bench.look(SPEC)
    bench.later(seconds=60)
    assert bench.refresh(SPEC, DAY).counts == Counts(fetched=2, added=2)


def test_a_file_that_is_gone_takes_nothing_with_it(bench):
    bench.put("a.csv", csv(["x", 1, "t"])).unlink()
    bench.put("b.csv", csv(["y", 1, "t"]))
    bench.refresh(SPEC, DAY)
    (bench.drops / "b.csv").unlink()
    assert bench.refresh(SPEC, DAY).outcome == "unchanged"
    assert bench.table() == [("y", 1, "t", DAY)]


def test_a_run_leaves_what_is_too_much_to_the_next_one(bench):
    spec = drop_spec(drop={"max_files": 2})
    for number in range(5):
        bench.put(f"{number}.csv", csv([number, 1, "t"]), age=1000 - number)
    outcome = bench.refresh(spec, DAY)
    assert (outcome.counts.added, outcome.notes) == (2, ["3 files are left for the next run"])
    assert [bench.refresh(spec, DAY).counts.added for _ in range(2)] == [2, 1]
    assert [row[0] for row in bench.table()] == list("01234")


def test_a_missing_folder_fails_the_refresh(bench):
    with pytest.raises(UpstreamRefused, match="does not exist"):
        bench.refresh(drop_spec(drop={"url": str(bench.folder / "mount")}), DAY)


def test_a_dropped_table_is_loaded_anew(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    with bench.warehouse.writing_alone() as (connection, _):
        connection.execute("DROP TABLE raw.mini")
        connection.execute("DELETE FROM refresh.tables")
    assert bench.refresh(SPEC, DAY).counts == Counts(fetched=1, added=1)


def test_retiring_a_source_takes_its_ledger_along(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    bench.warehouse.retire("mini")
    assert bench.ledger() == []
    assert bench.refresh(SPEC, DAY).counts.added == 1


def test_a_renamed_source_keeps_its_ledger(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))
    bench.refresh(SPEC, DAY)
    renamed = drop_spec("maxi", aliases=["mini"])
    outcome = bench.refresh(renamed, DAY)
    assert (outcome.outcome, outcome.counts.added) == ("unchanged", 0)
    assert rows_of(bench.warehouse, "SELECT DISTINCT source FROM refresh.file_ledger") == [("maxi",)]


def test_rows_and_ledger_are_one_transaction(bench):
    bench.put("a.csv", csv(["x", 1, "t"]))

    def fail(stage):
        if stage == "merged":
            raise InternalError("the machine stops here")

    bench.stages = type("Stages", (), {"append": staticmethod(fail)})()
    with pytest.raises(InternalError):
        bench.refresh(SPEC, DAY)
    bench.stages = []
    assert bench.warehouse.files("mini", "mini", ["a.csv"])[0] == []
    assert bench.refresh(SPEC, DAY).counts.added == 1


ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=4, unique_by=lambda r: r[0])


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(ROWS, min_size=2, max_size=4), cuts=st.sets(st.integers(1, 3), max_size=2), again=st.booleans())
def test_however_files_fall_into_runs_the_table_is_the_same(tmp_path_factory, files, cuts, again):
    """The last file to arrive speaks for each key, and every row of every file is accounted for."""
    bench = Dropping(tmp_path_factory.mktemp("drops"))
    last = {}
    for number, rows in enumerate(files):
        # Different bytes each time: a file that repeats another one is not read.
        bench.put(f"{number}.csv", csv(*([k, n, number] for k, n in rows)), age=900 - number)
        last.update({k: (k, n, str(number)) for k, n in rows})
        if number + 1 in cuts:
            outcome = bench.refresh(SPEC, DAY)
            assert outcome.counts.balanced()
    outcome = bench.refresh(SPEC, DAY)
    assert outcome.counts.balanced()
    if again:
        assert bench.refresh(SPEC, DAY, force=True).counts.added == 0
    assert bench.table(columns="k, n, t") == sorted(last.values())
    assert sum(row[2] for row in bench.ledger()) == sum(map(len, files))
