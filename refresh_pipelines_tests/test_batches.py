"""Batches: what the YAML may say, what one tick decides for each of its sources, and what is known of it afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from refresh_pipelines.gaps import Look, Made
from refresh_pipelines.orchestration.due import standing
from refresh_pipelines.orchestration.gaps import accounts_of, runs_for_ticks
from refresh_pipelines.orchestration.internals import remote_origin
from refresh_pipelines.orchestration.internals_ticks import switch_off, switches
from refresh_pipelines.orchestration.looks import look_of_source, looks_of, newest_look, reason_line, schedule_name
from refresh_pipelines.orchestration.pause import pause, paused_sources, pauses_of, resume, watch_pauses
from refresh_pipelines.orchestration.reads import Reads
from refresh_pipelines.schedule import cron_of
from refresh_pipelines_tests.catalogues import MINI, errors, load
from refresh_pipelines_tests.herding import AT, Herd

BATCHED = MINI.replace("{frequency: daily}", '{frequency: daily, time: "06:00", batch: small}')


@pytest.fixture
def herd(tmp_path, empty_history):
    with Herd(tmp_path, empty_history) as made:
        yield made


def problems(tmp_path, **texts):
    return [str(one) for one in errors(load(tmp_path, {f"benin/{name}.yaml": text for name, text in texts.items()}))]


def table(text, name):
    return text + f"table: {name}\n"


def test_sources_that_are_due_alike_may_share_a_batch(tmp_path):
    assert not problems(tmp_path, a=table(BATCHED, "a"), b=table(BATCHED, "b"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('"06:00"', "0 7 * * * UTC, expire 1h; 0 6 * * * UTC, expire 1h in"),
        ("batch: small", "0 6 * * * Europe/Oslo, expire 1h"),
        ("frequency: daily", "expire 3h"),
    ],
)
def test_a_source_that_is_due_at_other_times_than_its_batch_cannot_be_used(tmp_path, changed, said):
    new = {'"06:00"': '"07:00"', "batch: small": "batch: small, timezone: Europe/Oslo"}
    other = BATCHED.replace(changed, new.get(changed, "frequency: daily, expire: 3h"))
    [text] = problems(tmp_path, a=table(BATCHED, "a"), b=table(other, "b"))
    assert "benin/b and benin/a are of the batch small but not due alike" in text
    assert said in text
    assert "b.yaml:8:" in text


def test_a_source_that_requires_another_of_its_batch_cannot_be_used(tmp_path):
    waits = table(BATCHED, "b") + "requires: [{source: a}]\n"
    [text] = problems(tmp_path, a=table(BATCHED, "a"), b=waits)
    assert "benin/b requires a of its own batch small" in text


def test_a_batch_is_of_sources_that_are_due_at_times(tmp_path):
    found = problems(tmp_path, a=MINI.replace("{frequency: daily}", "{batch: small}"))
    assert any("batch goes with sources that are due at times" in text for text in found)


def test_jitter_moves_a_batch_as_one(tmp_path):
    text = BATCHED.replace("batch: small", "batch: small, jitter: 3h")
    catalogue = load(tmp_path, {f"benin/{name}.yaml": table(text, name) for name in "abc"})
    assert not errors(catalogue)
    assert len({cron_of(spec.schedule, spec.source) for spec in catalogue.sources.values()}) == 1


def test_one_schedule_asks_for_one_run_of_all_of_a_batch(herd):
    for name in "abc":
        herd.member(name)
    herd.add("benin/alone", MINI)
    names = {schedule.name for schedule in herd.definitions().schedules}
    assert {"small_batch", "alone_schedule"} <= names
    assert not names & {"a_schedule", "b_schedule", "c_schedule"}
    [request], _ = herd.tick()
    assert [key.path[-1] for key in request.asset_selection] == ["a", "b", "c"]
    assert {check.name for check in request.asset_check_keys} == {"plausible"}
    assert request.tags["refresh/batch"] == "small"
    assert request.tags["refresh/tick"] == "2026-06-15T06:00:00Z"
    assert request.run_key == "2026-06-15T06:00:00Z|"


def test_a_batch_needs_no_slot_of_its_hosts_pools(herd):
    herd.member("a")
    herd.add("benin/alone", MINI)
    made = herd.definitions().get_repository_def().assets_defs_by_key
    assert made[dg.AssetKey(["benin", "a"])].op.pool is None
    assert made[dg.AssetKey(["benin", "alone"])].op.pool == "example.org"


def test_what_is_paused_or_lacks_its_key_is_left_out_with_its_reason(herd):
    for name in "abc":
        herd.member(name)
    herd.edit("benin/b", "timeout: 40s", "timeout: 40s, auth: {env: NO_SUCH_KEY, query: key}")
    specs = [herd.spec(name) for name in "abc"]
    pause(herd.instance, herd.settings, specs[2:], now=AT, reason="", by="me")
    [request], _ = herd.tick()
    assert [key.path[-1] for key in request.asset_selection] == ["a"]
    assert request.tags["refresh/skipped/b"].startswith("blocked: set NO_SUCH_KEY")
    assert request.tags["refresh/skipped/c"].startswith("paused")


def test_a_tick_that_asks_for_nothing_says_why_for_each_source(herd):
    for name in "ab":
        herd.member(name)
    pause(herd.instance, herd.settings, [herd.spec(name) for name in "ab"], now=AT, reason="", by="me")
    requests, reason = herd.tick()
    assert not requests
    assert reason.splitlines() == [f"{name}: paused: `refresh resume` lets it go on" for name in "ab"]


def test_history_that_was_missed_is_loaded_by_runs_of_its_own(herd):
    herd.member("a")
    daily = "partitions: {time: day, start: 2026-06-01, column: day, initial: all}\nschedule"
    herd.member("b")
    herd.edit("benin/b", "schedule", daily)
    requests, _ = herd.tick()
    assert [len(request.asset_selection) for request in requests] == [2, 1]
    assert requests[1].tags["refresh/source"] == "b"
    assert requests[1].tags["refresh/trigger"] == "catch_up"
    assert len({request.run_key for request in requests}) == 2


def requested(herd, name):
    """Make the run of a tick, which stays queued; return its request."""
    [request], _ = herd.tick()
    checks = frozenset(request.asset_check_keys)
    job = herd.job().get_subset(asset_selection=frozenset(request.asset_selection), asset_check_selection=checks)
    herd.instance.create_run_for_job(
        job,
        tags=request.tags,
        asset_selection=frozenset(request.asset_selection),
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=remote_origin(),
    )
    return herd.spec(name)


def test_while_a_run_of_the_batch_waits_each_of_its_sources_is_held_up_and_says_by_which(herd):
    for name in "ab":
        herd.member(name)
    requested(herd, "a")
    requests, reason = herd.tick()
    assert not requests
    assert [line.split(", ")[0] for line in reason.splitlines()] == [f"{name}: overlap: skip" for name in "ab"]


def test_the_run_of_a_batch_stands_for_the_tick_of_each_source(herd):
    herd.member("a")
    spec = requested(herd, "a")
    [made] = runs_for_ticks(herd.instance, [spec], {"a": AT.replace(year=2000)})["a"]
    assert made == Made(made.run_id, AT, 1, "queued", expired=False)
    reads = Reads([spec], herd.settings, timedelta(0))
    reads.note(herd.instance, AT - timedelta(days=1))
    found = standing(herd.instance, spec, herd.settings, reads, AT + timedelta(minutes=1))
    assert (found.action, found.reason) == ("nothing", f"run {made.run_id[:8]} was made for the newest tick")


def test_the_accounts_of_many_sources_are_those_of_each(herd):
    herd.member("a")
    herd.member("b")
    daily = MINI.replace("frequency: daily", 'frequency: daily, time: "06:00"')
    for name in "cdefgh":
        herd.add(f"benin/{name}", table(daily, name))
    herd.add("benin/never", table(MINI.replace("{frequency: daily}", "{frequency: on_event}"), "never"))
    specs = list(herd.catalogue().sources.values())
    Reads(specs, herd.settings, timedelta(0)).note(herd.instance, AT - timedelta(days=2))
    requested(herd, "a")
    run_tags = {"refresh/source": "c", "refresh/trigger": "schedule", "refresh/tick": "2026-06-15T06:00:00Z"}
    create_run_for_test(herd.instance, status=dg.DagsterRunStatus.SUCCESS, tags=run_tags)
    switch_off(herd.instance, "d_schedule", "schedule", "0 6 * * *")
    now = AT + timedelta(minutes=5)
    reads = Reads(specs, herd.settings, timedelta(0), noting=False)
    asked = (herd.instance, herd.settings)
    together = accounts_of(*asked, specs, reads, AT - timedelta(days=90), now)
    assert together == [
        one for spec in specs for one in accounts_of(*asked, [spec], reads, AT - timedelta(days=90), now)
    ]
    words = {account.spec.source: account.findings[-1].verdict for account in together if account.findings}
    assert words == {"a": "run", "b": "run", "c": "run", "d": "paused"} | dict.fromkeys("efgh", "pending")


def test_a_look_of_the_batch_means_to_each_source_what_it_said_of_it(herd):
    for name in "abc":
        herd.member(name)
    pause(herd.instance, herd.settings, [herd.spec("b")], now=AT, reason="", by="me")
    requested(herd, "a")
    [run] = herd.instance.get_runs()
    look = Look(AT, "success", "", (run.run_id,))
    assert look_of_source(herd.instance, look, "a") == look
    assert look_of_source(herd.instance, look, "b").reason == "paused: `refresh resume` lets it go on"
    assert look_of_source(herd.instance, look, "newcomer") is None
    said = "\n".join(reason_line(herd.spec(name), f"because of\n{name}") for name in "ab")
    skipped = Look(AT, "skipped", said)
    assert look_of_source(herd.instance, skipped, "b").reason == "because of b"
    assert look_of_source(herd.instance, skipped, "c") is None
    assert looks_of(herd.instance, herd.spec("a"), AT.replace(year=2000)) == []
    assert newest_look(herd.instance, herd.spec("a")) is None


def test_a_source_is_paused_alone_and_its_batch_goes_on(herd):
    for name in "ab":
        herd.member(name)
    a, b = herd.spec("a"), herd.spec("b")
    now = datetime.now(timezone.utc)
    assert pause(herd.instance, herd.settings, [a], now=now, reason="", by="me") == [a]
    assert paused_sources(herd.instance, herd.settings, [a, b]) == {"a"}
    assert not switches(herd.instance)
    watch_pauses(herd.instance, herd.settings, [a, b], now)
    assert paused_sources(herd.instance, herd.settings, [a, b]) == {"a"}
    assert resume(herd.instance, herd.settings, [a], now=now + timedelta(minutes=1)) == [a]
    assert not paused_sources(herd.instance, herd.settings, [a, b])
    assert pauses_of(herd.instance, herd.settings, a) == [(now, now + timedelta(minutes=1))]


def test_a_schedule_that_is_stopped_in_the_ui_pauses_its_batch_until_it_is_started_or_one_resumed(herd):
    for name in "ab":
        herd.member(name)
    specs = [herd.spec(name) for name in "ab"]
    now = datetime.now(timezone.utc)
    switch_off(herd.instance, schedule_name(specs[0]), "schedule", "0 6 * * *")
    assert paused_sources(herd.instance, herd.settings, specs) == {"a", "b"}
    assert [end for _, end in pauses_of(herd.instance, herd.settings, specs[0])] == [None]
    watch_pauses(herd.instance, herd.settings, specs, now)
    assert resume(herd.instance, herd.settings, specs[:1], now=now + timedelta(minutes=1)) == specs[:1]
    watch_pauses(herd.instance, herd.settings, specs, now + timedelta(minutes=2))
    assert not paused_sources(herd.instance, herd.settings, specs)
    assert [end is None for _, end in pauses_of(herd.instance, herd.settings, specs[1])] == [False]
