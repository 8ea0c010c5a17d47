"""What the breaker reads of the event log: one refresh is one run of one source, and never the run's status."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.breaker import Event, Try
from refresh_pipelines.clock import utc_now
from refresh_pipelines.later import Waiting
from refresh_pipelines.orchestration.breakers import Breakers, Log, log_from, log_text
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.dagster_bench import FRED
from refresh_pipelines_tests.test_failure_sensor import killed
from refresh_pipelines_tests.workbench import NOW

DATA = "/example.org/data.csv"
GOOD = b"day,value\n2026-01-01,1\n"


@pytest.fixture
def bench(bench):
    bench.edit("commodities/fred_fx", "freshness:", "retry: {attempts: 1}\nfreshness:")
    bench.add("benin/mini", MINI + "retry: {attempts: 1}\n")
    bench.add("benin/other", MINI.replace("data.csv", "other.csv") + "retry: {attempts: 1}\n")
    bench.sandbox.override(DATA, b"no", status=403)
    bench.sandbox.override("/example.org/other.csv", GOOD)
    return bench


def breakers(bench):
    return Breakers(bench.catalogue().sources.values(), bench.settings)


def failures(bench, source="mini", of=None):
    """Return how many failures in a row there are, as a process that has just begun sees it."""
    return (of or breakers(bench)).states(bench.instance, utc_now())[source].failures


def test_one_run_over_many_sources_counts_for_the_one_that_failed(bench):
    for count in (1, 2):
        result = bench.launch(["mini", "other"])
        assert not result.success
        assert (failures(bench), failures(bench, "other")) == (count, 0)
    bench.sandbox.override(DATA, GOOD)
    bench.launch("mini")
    assert failures(bench) == 0
    bench.sandbox.override(DATA, b"no", status=403)
    bench.launch("mini")
    assert failures(bench) == 1


def test_a_run_over_partitions_counts_once_and_not_at_all_with_a_success_among_them(bench):
    bench.sandbox.override(FRED, b"no", status=403)
    bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert failures(bench, "fred_fx") == 1
    bench.launch("fred_fx", "DEXUSEU")
    assert failures(bench, "fred_fx") == 2
    bench.sandbox.clear()
    bench.sandbox.override(f"{FRED}?series_id=DEXUSEU", b"no", status=403)
    result = bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert (bool(bench.good(result)), len(bench.bad(result))) == (True, 1)
    assert failures(bench, "fred_fx") == 0


def test_a_process_that_goes_on_sees_what_others_have_logged_since(bench):
    known = breakers(bench)
    assert failures(bench, of=known) == 0
    bench.launch("mini")
    assert failures(bench, of=known) == 1
    bench.sandbox.override(DATA, GOOD)
    bench.launch("mini")
    assert failures(bench, of=known) == 0


def test_a_step_that_failed_without_an_event_counts_for_its_source_alone(bench):
    known = breakers(bench)
    assert failures(bench, "fred_fx", of=known) == 0
    # A range in the wrong order has no partitions, which the step finds before it reports any.
    result = bench.launch("fred_fx", "DEXMXUS", "DEXUSEU")
    assert (result.success, bench.bad(result)) == (False, [])
    for of in (known, None):
        assert (failures(bench, "fred_fx", of=of), failures(bench, of=of)) == (1, 0)
    bench.launch("fred_fx", "DEXUSEU")
    assert failures(bench, "fred_fx", of=known) == 0


def test_a_process_that_was_killed_is_no_failure_of_the_source(bench):
    run = killed(bench, "DEXUSEU")
    bench.instance.report_run_failed(run)
    assert failures(bench, "fred_fx") == 0


def test_a_deleted_run_is_no_failure_any_more(bench):
    known = breakers(bench)
    results = [bench.launch("mini") for _ in range(2)]
    assert failures(bench, of=known) == 2
    bench.instance.delete_run(results[1].run_id)
    for of in (known, None):
        assert failures(bench, of=of) == 1


def test_failures_under_an_old_name_go_on(bench):
    bench.launch("mini")
    (bench.folder / "catalog/benin/mini.yaml").unlink()
    bench.add("benin/renamed", MINI + "table: mini\naliases: [mini]\n")
    assert failures(bench, "renamed") == 1


def test_derived_sources_have_no_breaker(bench):
    bench.add(
        "benin/made",
        "description: made from another\nrequires: [{source: mini}]\nderive: {query: SELECT day FROM raw.mini}\n"
        "columns: {day: {type: date}}\nmerge_key: [day]\n",
    )
    assert "made" not in breakers(bench).states(bench.instance, utc_now())


def test_status_says_so_and_keeps_its_other_words(bench):
    bench.edit("benin/mini", "retry:", "breaker: {failures: 2}\nretry:")
    for phase in ("closed", "open"):
        bench.launch("mini")
        item = bench.status()["mini"]
        assert (item["breaker"], item["incident"]) == (phase, "permanent")
    assert item["breaker_since"] < item["next_probe_at"]
    assert bench.status()["other"]["breaker"] == "closed"


def test_nothing_is_written_where_somebody_only_asks(bench):
    bench.launch("mini")
    file = bench.settings.data_dir / "status.sqlite"
    file.unlink()
    asking = Breakers(bench.catalogue().sources.values(), bench.settings, keeping=False)
    assert failures(bench, of=asking) == 1
    assert not file.exists()


TEXT = st.text(max_size=9)
INSTANTS = st.integers(0, 10**6).map(lambda minutes: NOW + timedelta(minutes=minutes))
TRIES = st.builds(Try, TEXT, INSTANTS, TEXT, TEXT, TEXT, st.none() | INSTANTS)
WAITING = st.builds(Waiting, st.none() | TEXT, TEXT, INSTANTS, st.integers(1, 9), st.none() | INSTANTS)
EVENTS = st.builds(Event, st.integers(0, 9), TEXT, INSTANTS, st.none() | TEXT, TEXT, TEXT, TEXT, TEXT, st.none())


@given(st.builds(Log, *(st.lists(one, max_size=3).map(tuple) for one in (TRIES, WAITING, EVENTS))))
def test_what_was_read_is_kept_as_it_was(log):
    assert log_from(log_text(log)) == log


def test_an_instance_without_any_event_has_closed_breakers(bench):
    assert {state.phase for state in breakers(bench).states(bench.instance, utc_now()).values()} == {"closed"}
