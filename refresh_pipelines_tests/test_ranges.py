"""From wanted partitions to runs, and from a run's partitions to requests."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

import dagster as dg
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.orchestration.partitions import partitions_of
from refresh_pipelines.ranges import between, runs_of, spans
from refresh_pipelines.window import partition_keys, split_key, window_of
from refresh_pipelines_tests.workbench import spec_of

NOW = datetime(2024, 1, 21, 12, tzinfo=timezone.utc)
STATIC = {"static": {"site": ["north", "east", "west"]}}
BY_DAY = {"time": "day", "start": "2024-01-01", "column": "d"}
KINDS = {
    "static": STATIC,
    "days": BY_DAY,
    "crossed": {**BY_DAY, "start": "2024-01-14", **STATIC},
    "dynamic": {"dynamic": "files"},
}
COLUMNS = {"k": {"type": "text"}, "d": {"type": "date"}}
FILES = ["z", "a", "m", "b"]


def source(kind, span=1):
    request = {"url": "https://example.org/{start}/{end}", "span": span}
    return spec_of(partitions=KINDS[kind], columns=COLUMNS, request=request)


def keys_of(spec):
    return partition_keys(spec, NOW, FILES)


@st.composite
def wishes(draw):
    """Any of the partitions of any kind of source."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    keys = keys_of(source(kind))
    chosen = draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    return kind, {key for key, yes in zip(keys, chosen, strict=True) if yes}


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(partitions_of(source("dynamic")).name, FILES)
        yield instance


@hypothesis.settings(max_examples=40)
@given(wish=wishes())
def test_runs_cover_exactly_what_is_wanted_and_each_is_a_range_of_dagsters(instance, wish):
    kind, wanted = wish
    spec = source(kind)
    runs = runs_of(spec, wanted, keys_of(spec))
    covered = [key for run in runs for key in run]
    assert sorted(covered) == sorted(wanted)
    assert [run[0] for run in runs] == sorted((run[0] for run in runs), key=keys_of(spec).index)
    with dg.partition_loading_context(effective_dt=NOW, dynamic_partitions_store=instance):
        for run in runs:
            dagsters = partitions_of(spec).get_partition_keys_in_range(dg.PartitionKeyRange(run[0], run[-1]))
            assert list(map(str, dagsters)) == list(run)


@given(wishes())
def test_neighbouring_runs_could_not_have_been_one(wish):
    kind, wanted = wish
    if kind == "crossed":
        return  # a rectangle may touch others of another shape
    spec = source(kind)
    keys = keys_of(spec)
    runs = runs_of(spec, wanted, keys)
    for run, following in pairwise(runs):
        assert keys.index(following[0]) > keys.index(run[-1]) + 1


def test_a_whole_grid_is_one_run_in_the_declared_order():
    spec = source("crossed")
    [run] = runs_of(spec, set(keys_of(spec)), keys_of(spec))
    assert run[:4] == ("2024-01-14|north", "2024-01-14|east", "2024-01-14|west", "2024-01-15|north")
    assert run[-1] == "2024-01-20|west"


def test_a_hole_in_a_grid_divides_it_into_rectangles():
    spec = source("crossed")
    runs = runs_of(spec, set(keys_of(spec)) - {"2024-01-16|east"}, keys_of(spec))
    assert [(run[0], run[-1], len(run)) for run in runs] == [
        ("2024-01-14|north", "2024-01-15|west", 6),
        ("2024-01-16|north", "2024-01-16|north", 1),
        ("2024-01-16|west", "2024-01-16|west", 1),
        ("2024-01-17|north", "2024-01-20|west", 12),
    ]


def test_keys_that_do_not_exist_are_left_out():
    spec = source("static")
    assert runs_of(spec, {"north", "south"}, keys_of(spec)) == [("north",)]
    assert runs_of(source("dynamic"), {"a"}, []) == []


@pytest.mark.parametrize(
    ("kind", "first", "last", "chosen"),
    [
        ("static", "east", None, ["east", "west"]),
        ("static", "west", "north", []),
        ("days", "2024-01-19", None, ["2024-01-19", "2024-01-20"]),
        ("days", None, "2024-01-02", ["2024-01-01", "2024-01-02"]),
        ("days", "2024-01-03", "2024-01-02", []),
        ("dynamic", "a", "m", ["a", "m"]),
        ("crossed", "2024-01-20", None, ["2024-01-20|north", "2024-01-20|east", "2024-01-20|west"]),
        ("crossed", "2024-01-19|east", "2024-01-20|east", ["2024-01-19|east", "2024-01-20|east"]),
        ("crossed", "2024-01-19|east", None, ["2024-01-19|east", "2024-01-20|east"]),
        ("crossed", None, "2024-01-14|west", ["2024-01-14|west"]),
        ("crossed", "2024-01-20", "2024-01-19", []),
    ],
)
def test_a_range_runs_from_its_first_to_its_last_key(kind, first, last, chosen):
    spec = source(kind)
    assert between(spec, keys_of(spec), first, last) == chosen


@pytest.mark.parametrize(
    ("kind", "first", "last", "said"),
    [
        ("static", "south", None, "no partition 'south'"),
        ("dynamic", None, "new", "no partition 'new'"),
        ("crossed", "2024-01-19|east", "2024-01-20|west", "must name the same static key"),
        ("crossed", "2024-01-19", "2024-01-20|west", "must name the same static key"),
        ("crossed", "2024-01-19|south", None, r"no partition '2024-01-19\|south'"),
    ],
)
def test_ends_that_are_no_keys_or_of_different_stations_are_refused(kind, first, last, said):
    spec = source(kind)
    with pytest.raises(ValueError, match=said):
        between(spec, keys_of(spec), first, last)


@hypothesis.settings(max_examples=60)
@given(wishes(), st.integers(1, 9))
def test_requests_cover_each_partition_once_in_gapless_pieces_of_at_most_span(wish, most):
    kind, wanted = wish
    spec = source(kind, most)
    windows = [window_of(spec, key) for key in sorted(wanted)]
    groups = spans(spec, windows)
    assert sorted(window.partition for group in groups for window in group) == sorted(wanted)
    for group in groups:
        assert 1 <= len(group) <= most
        assert len({split_key(window.partition)[1] for window in group if spec.partitions.time}) <= 1
        assert all(one.end == two.start and one.end for one, two in pairwise(group))


@pytest.mark.parametrize(("most", "requests"), [(1, 20), (7, 3), (20, 1), (366, 1)])
def test_as_few_requests_as_the_span_allows(most, requests):
    spec = source("days", most)
    groups = spans(spec, [window_of(spec, key) for key in keys_of(spec)])
    assert len(groups) == requests
    assert groups[0][0].partition == "2024-01-01"


def test_years_of_days_are_divided_into_whole_spans():
    request = {"url": "https://example.org/{start}/{end}", "span": 1000}
    spec = spec_of(partitions={**BY_DAY, "start": "2012-01-01"}, columns=COLUMNS, request=request)
    windows = [window_of(spec, key) for key in keys_of(spec)]
    assert [len(group) for group in spans(spec, windows)] == [1000] * 4 + [len(windows) - 4000]
