"""The rate of a host in runs: the catalogue's lowest one, and a store that cannot be used."""

from __future__ import annotations

from dataclasses import replace

from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.ops import ops_file
from refresh_pipelines_tests.dagster_bench import partitions
from refresh_pipelines_tests.upstream import Clock

RATE = "  rate: 2/s\n"
QUICK = """\
description: another source of the same host
request: {url: "https://api.stlouisfed.org/quick", rate: 1/s}
format: json
columns: {k: {type: text}}
merge_key: [k]
schedule: {frequency: daily}
"""


def timed(bench):
    """Have the bench's requests wait on a clock that nobody waits for."""
    clock = Clock()
    tools = {"clock": clock, "sleep": clock.sleep, "now": clock.now}
    bench.adjust = lambda made: replace(made, fetcher=Fetcher(bench.settings, **tools))
    return clock


def test_a_source_without_a_rate_waits_as_others_of_its_host_want_it(bench):
    clock = timed(bench)
    bench.edit("commodities/fred_fx", RATE, "")
    bench.add("commodities/quick", QUICK)
    assert bench.launch("fred_fx", "DEXUSEU", "DEXMXUS").success
    assert clock.slept == [1, 1]


def test_a_disabled_source_holds_nobody_up(bench):
    clock = timed(bench)
    bench.add("commodities/quick", QUICK + "enabled: false\n")
    assert bench.launch("fred_fx", "DEXUSEU", "DEXMXUS").success
    assert clock.slept == [0.5, 0.5]


def test_a_store_that_cannot_be_used_is_one_warning_in_the_log_of_a_good_run(bench):
    clock = timed(bench)
    ops_file(bench.settings.data_dir).parent.mkdir(parents=True, exist_ok=True)
    ops_file(bench.settings.data_dir).write_bytes(b"no database " * 100)
    result = bench.launch("fred_fx", "DEXUSEU", "DEXMXUS")
    assert result.success
    assert partitions(bench.good(result)) == ["DEXUSEU", "DEXBZUS", "DEXMXUS"]
    assert clock.slept == [0.5, 0.5]
    said = [entry.user_message for entry in bench.instance.all_logs(result.run_id)]
    assert len([text for text in said if "keeps request.rate by itself" in text]) == 1
