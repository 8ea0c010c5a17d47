"""Refreshes that fail: what is said, and that the table, the load state and the disk are as they were."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from refresh_pipelines.errors import ContractViolation, InternalError, RefreshError, WrongPeriod
from refresh_pipelines.fetch import NotHere
from refresh_pipelines.outcome import failed
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.workbench import BSEE, FRED, HOST, NOW, Bench, builtin, csv_spec, start

FX, OGORA = builtin("fred_fx"), builtin("bsee_ogora")
YEAR = f"{BSEE}/ogora2025delimit.zip"


@pytest.fixture
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture
def bench(tmp_path, sandbox):
    return Bench(tmp_path, sandbox.base)


def bad(name):
    found = [path for source in ("fred_fx", "bsee_ogora") if (path := SAMPLES / source / "bad" / name).exists()]
    return found[0].read_bytes()


def fails_and_leaves_all_as_it_was(bench, spec, key) -> RefreshError:
    """Refresh, which must fail; compare table, load state and disk with what was before."""
    before = bench.rows(spec.raw_table), bench.warehouse.states(spec.source)[0]
    with pytest.raises(RefreshError) as caught:
        bench.refresh(spec, key)
    assert (bench.rows(spec.raw_table), bench.warehouse.states(spec.source)[0]) == before
    assert bench.staging() == []
    assert (caught.value.source, caught.value.partition) == (spec.name, key)
    return caught.value


# Each bad payload, what class it is, and the parts of what a person reads: expected, came, what to do.
FRED_BAD = [
    ("page.html", 200, "permanent", ["status 200 with a web page", "expected a JSON", "text/plain", "browser"]),
    ("empty.json", 200, "transient", ["expected", "got"]),
    ("truncated.json", 200, "transient", ["expected", "got"]),
    ("renamed-value.json", 200, "contract", ["column 'value' (read from 'value') is missing", "got fields", "val"]),
    ("no-observations.json", 200, "contract", ["expected", "observations", "got"]),
    ("all-missing.json", 200, "contract", ["too few rows", "at least 1 (expect.min", "got 0, and", "min_rows: 0"]),
    ("withdrawn-400.json", 400, "permanent", ["was refused", "expected HTTP 200", "got HTTP 400"]),
    ("withdrawn-404.json", 404, "permanent", ["is not there", "expected HTTP 200", "got HTTP 404", "homepage"]),
]  # fmt: skip
BSEE_BAD = [
    ("empty.zip", "permanent", ["expected", "got"]),
    ("truncated.zip", "transient", ["expected", "got"]),
    ("18-columns.zip", "contract", ["expected 19 fields", "got"]),
    ("no-member.zip", "permanent", ["ogora*delimit.txt", "readme.txt"]),
    ("conflicting-duplicates.zip", "contract", ["a merge key stands for several rows", "got (2025-06-01, 1771999001"]),
    ("non-numeric-volume.zip", "contract", ["1 of 40 rows do not fit", "mon_o_prod_vol='12,5 bbl' is no bigint"]),
    ("other-year.zip", "contract", ["only rows of another period", "2025-01-01 to before 2026-01-01", "from 2019"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "kind", "said"), FRED_BAD, ids=lambda value: str(value)[:20])
def test_a_bad_answer_of_fred_is_named_and_changes_nothing(bench, sandbox, name, status, kind, said):
    bench.refresh(FX, "DEXUSEU")
    sandbox.override(FRED, bad(name), status, {"Content-Type": "text/plain"})
    error = fails_and_leaves_all_as_it_was(bench, FX, "DEXUSEU")
    assert error.error_class == kind, str(error)
    assert str(error).startswith("commodities/fred_fx[DEXUSEU]: ")
    assert [part for part in said if part not in str(error)] == [], str(error)
    assert error.todo


@pytest.mark.parametrize(("name", "kind", "said"), BSEE_BAD, ids=lambda value: str(value)[:20])
def test_a_bad_archive_of_bsee_is_named_and_changes_nothing(bench, sandbox, name, kind, said):
    bench.refresh(OGORA, "2025-01-01")
    sandbox.override(YEAR, bad(name))
    error = fails_and_leaves_all_as_it_was(bench, OGORA, "2025-01-01")
    assert error.error_class == kind, str(error)
    assert str(error).startswith("worldenergy/bsee_ogora[2025-01-01]: ")
    assert [part for part in said if part not in str(error)] == [], str(error)
    assert error.todo


def test_a_failed_first_load_leaves_no_warehouse(bench, sandbox):
    sandbox.override(YEAR, bad("truncated.zip"))
    with pytest.raises(RefreshError):
        bench.refresh(OGORA, "2025-01-01")
    assert not bench.file.exists()


def test_after_a_failure_the_good_payload_loads_as_if_nothing_had_been(bench, sandbox):
    bench.refresh(OGORA, "2025-01-01")
    sandbox.override(YEAR, bad("other-year.zip"))
    fails_and_leaves_all_as_it_was(bench, OGORA, "2025-01-01")
    sandbox.clear()
    assert bench.refresh(OGORA, "2025-01-01").outcome == "unchanged"
    sandbox.revision = "revised"
    assert bench.refresh(OGORA, "2025-01-01").counts.updated == 3


def test_too_few_rows_say_how_many_came(bench, sandbox):
    sandbox.override(HOST, b"k,n,t\na,1,x\nb,1,x\n")
    with pytest.raises(ContractViolation) as caught:
        bench.refresh(csv_spec(expect={"min_rows": 3}))
    assert str(caught.value) == (
        "benin/mini: the payload holds too few rows; expected at least 3 (expect.min_rows); got 2. Nothing was loaded. "
        "Look at the payload; set expect.min_rows: 0 if an empty answer is in order."
    )
    assert caught.value.fetched == 2


def test_last_years_rows_after_the_limit_are_the_wrong_period_at_a_named_address(bench, sandbox):
    sandbox.override(f"{BSEE}/ogora2026delimit.zip", b"", 404)
    sandbox.override(f"{BSEE}/ogoradelimit.zip", (SAMPLES / "bsee_ogora" / "ogora2025delimit.zip").read_bytes())
    bench.now = datetime(2026, 5, 16, tzinfo=timezone.utc)
    with pytest.raises(WrongPeriod) as caught:
        bench.refresh(OGORA, "2026-01-01")
    assert caught.value.earlier
    assert "got 40 rows from 2025-01-01 to 2025-12-01 at https://www.data.bsee.gov/" in str(caught.value)


def test_a_page_at_the_years_address_outweighs_another_year_at_the_fallback(bench, sandbox):
    sandbox.override(YEAR, bad("html-page.zip"))
    with pytest.raises(NotHere) as caught:
        bench.refresh(OGORA, "2025-01-01")
    text = str(caught.value)
    assert "ogora2025delimit.zip answered status 200 with a web page" in text
    assert "ogoradelimit.zip holds 10 rows from 2026-01-01 to 2026-03-01" in text
    assert len(sandbox.requests) == 2


def test_nothing_at_either_address_names_both(bench, sandbox):
    sandbox.override(YEAR, b"", 404)
    sandbox.override(f"{BSEE}/ogoradelimit.zip", b"", 410)
    with pytest.raises(NotHere) as caught:
        bench.refresh(OGORA, "2025-01-01")
    assert "ogora2025delimit.zip is not there; expected HTTP 200; got HTTP 404; and" in str(caught.value)
    assert "ogoradelimit.zip is not there: HTTP 410" in str(caught.value)


def test_a_page_at_one_of_the_addresses_speaks_for_both(bench, sandbox):
    sandbox.override(YEAR, b"", 404)
    sandbox.override(f"{BSEE}/ogoradelimit.zip", bad("html-page.zip"))
    with pytest.raises(NotHere, match=r"ogoradelimit\.zip answered status 200 with a web page") as caught:
        bench.refresh(OGORA, "2025-01-01")
    assert caught.value.page


def test_a_broken_archive_is_no_reason_to_try_the_next_address(bench, sandbox):
    sandbox.override(YEAR, bad("truncated.zip"))
    with pytest.raises(RefreshError):
        bench.refresh(OGORA, "2025-01-01")
    assert len(sandbox.requests) == 1


def test_an_error_of_the_caller_passes_through_and_rolls_back(bench, sandbox):
    def stop(stage):
        raise KeyboardInterrupt(stage)

    tools = replace(bench.tools(), progress=lambda stage: stage == "merged" and stop(stage))
    bench.tools = lambda: tools
    with pytest.raises(KeyboardInterrupt):
        bench.refresh(FX, "DEXUSEU")
    assert bench.warehouse.states("fred_fx")[0] == {}
    assert bench.staging() == []


def test_a_data_folder_that_cannot_be_made_is_told_as_the_machines_trouble(tmp_path, sandbox):
    (tmp_path / "data").write_text("a file where the folder should be")
    bench = Bench(tmp_path, sandbox.base)
    with pytest.raises(InternalError) as caught:
        bench.refresh(FX, "DEXUSEU")
    assert str(caught.value).startswith(
        f"commodities/fred_fx[DEXUSEU]: the folder {tmp_path}/data/staging cannot be used"
    )
    assert "Check REFRESH_DATA_DIR, its rights and the disk." in str(caught.value)
    assert sandbox.requests == []


@pytest.mark.parametrize("trouble", ["readonly", "full-staging", "full-warehouse"])
def test_a_disk_that_takes_no_more_is_told_as_the_machines_trouble(tmp_path, sandbox, trouble):
    # In a child: rights and limits hold for a whole process.
    sandbox.override(HOST, b"k,n,t\n" + b"".join(b"key-%06d,%d,some text\n" % (n, n) for n in range(20_000)))
    said = start("refreshing_child", tmp_path, sandbox.base, trouble).communicate(timeout=60)[0]
    assert said.startswith("internal benin/mini: "), said
    assert ("rights" if trouble == "readonly" else "disk") in said
    again = Bench(tmp_path, sandbox.base).refresh(csv_spec())
    assert again.counts.added == 20_000


def test_a_failure_keeps_what_is_known_of_the_payload_for_its_record(bench, sandbox):
    bench.refresh(FX, "DEXUSEU")
    sandbox.override(f"{FRED}?series_id=DEXUSEU", bad("renamed-value.json"))
    error = fails_and_leaves_all_as_it_was(bench, FX, "DEXUSEU")
    outcome = failed(FX, "DEXUSEU", error)
    assert outcome.bytes == len(bad("renamed-value.json"))
    assert outcome.sha256 == hashlib.sha256(bad("renamed-value.json")).hexdigest()
    assert outcome.seconds.fetch > 0
    assert outcome.seconds.parse > 0
