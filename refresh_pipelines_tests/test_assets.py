"""What the YAML becomes in Dagster: assets with everything that is declared, and one for each broken file."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.orchestration.build import build_definitions
from refresh_pipelines.orchestration.io_manager import RefusingIOManager
from refresh_pipelines.orchestration.partitions import partitions_of
from refresh_pipelines.orchestration.retention_asset import RETENTION
from refresh_pipelines.orchestration.score_asset import SCORES
from refresh_pipelines.settings import BUILTIN_CATALOG, Settings
from refresh_pipelines.window import partition_keys
from refresh_pipelines_tests.catalogues import MINI, write

FX = dg.AssetKey(["commodities", "fred_fx"])
OGORA = dg.AssetKey(["worldenergy", "bsee_ogora"])


def definitions_of(folder, files, **environ):
    write(folder / "catalog", files)
    return build_definitions(Settings.load({"REFRESH_CATALOG": "catalog", **environ}, root=folder))


def graph_of(definitions):
    return definitions.resolve_asset_graph()


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    return build_definitions(Settings.load({}, root=tmp_path_factory.mktemp("root")))


@pytest.fixture(scope="module")
def fx(definitions):
    return graph_of(definitions).get(FX)


@pytest.fixture(scope="module")
def fx_asset(definitions):
    return definitions.resolve_assets_def(FX)


def test_the_catalogue_becomes_definitions_that_dagster_accepts(definitions):
    dg.Definitions.validate_loadable(definitions)
    assert {FX, OGORA} <= set(graph_of(definitions).get_all_asset_keys())


def test_each_loaded_source_has_an_executable_asset_named_by_group_and_stem(definitions):
    specs = load_catalogue([BUILTIN_CATALOG]).sources.values()
    found = set(graph_of(definitions).executable_asset_keys) - {SCORES, RETENTION}
    assert {dg.AssetKey([spec.group, spec.source]) for spec in specs} == found


def test_an_asset_says_what_the_yaml_says(fx):
    assert (fx.group_name, list(fx.owners), fx.kinds) == ("commodities", ["team:commodities"], {"duckdb", "json"})
    for text in ("Federal Reserve H.10", "raw.fred_economic", "series_id, obs_date", "0 17 * * 1,2", "public domain"):
        assert text in fx.description


def test_tags_and_tenant_of_the_yaml_are_tags_of_the_asset(tmp_path):
    files = {"commodities/a.yaml": MINI + "tags: {tier: gold}\ntenant: desk\n"}
    asset = graph_of(definitions_of(tmp_path, files)).get(dg.AssetKey(["commodities", "a"]))
    assert {"tier": "gold", "refresh/tenant": "desk"}.items() <= asset.tags.items()


def test_the_pool_of_an_asset_is_its_host(fx_asset):
    assert fx_asset.op.pool == "api.stlouisfed.org"


@pytest.mark.parametrize("host", ["Example.org", "example.org:8443"])
def test_one_host_is_one_pool_however_it_is_written(tmp_path, host):
    files = {"commodities/a.yaml": MINI.replace("example.org", host)}
    asset = definitions_of(tmp_path, files).resolve_assets_def(dg.AssetKey(["commodities", "a"]))
    assert asset.op.pool == "example.org"


def test_attempts_become_retries_that_wait_inside_the_run_only_shortly(fx_asset):
    policy = fx_asset.op.retry_policy
    assert (policy.max_retries, policy.delay) == (2, 20)
    assert (policy.backoff, policy.jitter) == (dg.Backoff.EXPONENTIAL, dg.Jitter.PLUS_MINUS)
    assert sum(policy.calculate_delay(attempt) for attempt in (1, 2)) <= 2 * 90


def test_the_freshness_policy_is_the_checked_limit(fx):
    assert fx.freshness_policy.fail_window.to_timedelta() == timedelta(days=8)


def test_the_code_reference_points_at_the_yaml(fx):
    [reference] = fx.metadata["dagster/code_references"].code_references
    assert reference.file_path == str(BUILTIN_CATALOG / "commodities/fred_fx.yaml")


def test_columns_are_shown_with_types_units_and_bounds(definitions):
    schema = graph_of(definitions).get(OGORA).metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}
    assert columns["oil_bbl"].type == "bigint"
    assert "bbl" in columns["oil_bbl"].description
    assert "unit: d" in columns["days_on_prod"].constraints.other
    assert "between 0.0 and 31.0" in columns["days_on_prod"].constraints.other
    assert not columns["api_well_number"].constraints.nullable
    assert "unique: production_month, api_well_number, prod_interval_cd" in schema.constraints.other


def test_the_code_version_changes_with_what_is_read_and_not_with_the_text(tmp_path):
    variants = [MINI, MINI.replace("a test", "other words"), MINI.replace("double", "int")]
    versions = []
    for number, text in enumerate(variants):
        definitions = definitions_of(tmp_path / str(number), {"commodities/a.yaml": text})
        versions.append(graph_of(definitions).get(dg.AssetKey(["commodities", "a"])).code_version)
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("kind", ["hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize("offset", [0, 1])
def test_dagster_has_the_same_partition_keys_as_we(tmp_path, kind, offset):
    text = MINI + f"partitions: {{time: {kind}, start: 2026-09-08, end_offset: {offset}, column: day}}\n"
    text = text.replace("2026-09-08", "2021-03-05") if kind in ("quarter", "year") else text
    spec = load_catalogue([write(tmp_path, {"commodities/a.yaml": text})]).find("a")
    now = datetime(2026, 11, 22, 3, 30, tzinfo=timezone.utc)
    assert list(partitions_of(spec).get_partition_keys(current_time=now)) == partition_keys(spec, now)


def test_static_partitions_keep_their_order(definitions):
    keys = definitions.resolve_assets_def(FX).partitions_def.get_partition_keys()
    assert keys[:3] == ["DEXUSEU", "DEXBZUS", "DEXMXUS"]


BROKEN = {
    "unknown key": {"commodities/bad.yaml": MINI + "ownr: me\n"},
    "no YAML": {"commodities/bad.yaml": "a: ["},
    "a name Dagster refuses": {"commodities/Fred-FX.yaml": MINI},
    "a name with dots and spaces": {"commodities/fred v1.2.yaml": MINI},
    "a group Dagster refuses": {"my group/a.yaml": MINI},
    "a wrong suffix": {"commodities/a.yml": MINI},
    "two that look the same when made plain": {"commodities/A-B.yaml": MINI, "commodities/A B.yaml": MINI},
    "a broken defaults.yaml": {"benin/group.yaml": "nonsense: 1\n", "benin/a.yaml": MINI},
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_one_visible_asset_that_cannot_run_and_stops_nobody(tmp_path, files):
    definitions = definitions_of(tmp_path, {"commodities/fine.yaml": MINI, **files})
    dg.Definitions.validate_loadable(definitions)
    graph = graph_of(definitions)
    broken = set(graph.get_all_asset_keys()) - set(graph.executable_asset_keys)
    sources = [name for name in files if not name.endswith("group.yaml")]
    assert set(graph.executable_asset_keys) == {dg.AssetKey(["commodities", "fine"]), SCORES, RETENTION}
    assert len(broken) == len(sources)
    for key in broken:
        assert "has problems" in graph.get(key).description
        assert str(tmp_path) in graph.get(key).metadata["refresh/problems"].value
        assert graph.get(key).tags["refresh/disabled"] == "broken_yaml"


def test_a_source_that_stands_twice_is_loaded_once_and_shown_as_broken_beside_it(tmp_path):
    for folder in ("one", "two", "three"):
        write(tmp_path / folder, {"commodities/a.yaml": MINI})
    settings = Settings.load({"REFRESH_CATALOG": "one:two:three"}, root=tmp_path)
    definitions = build_definitions(settings)
    dg.Definitions.validate_loadable(definitions)
    keys = {key.to_user_string() for key in graph_of(definitions).get_all_asset_keys()}
    assert keys == {"commodities/a", "commodities/a_2", "commodities/a_3", "refresh/scores", "refresh/retention"}
    assert graph_of(definitions).executable_asset_keys == {dg.AssetKey(["commodities", "a"]), SCORES, RETENTION}


def test_a_disabled_source_has_an_asset_and_no_schedule(tmp_path):
    files = {"commodities/a.yaml": MINI + "enabled: false\n", "commodities/b.yaml": MINI}
    definitions = definitions_of(tmp_path, files)
    asset = graph_of(definitions).get(dg.AssetKey(["commodities", "a"]))
    assert asset.is_executable
    assert "Disabled" in asset.description
    assert [schedule.name for schedule in definitions.schedules] == ["b_schedule", "weekly_scores", "daily_retention"]


def test_the_io_manager_refuses_to_store_and_to_load_values():
    @dg.asset
    def returns_rows():
        return [1]

    @dg.asset
    def wants_rows(returns_rows):
        return None

    result = dg.materialize(
        [returns_rows],
        resources={"io_manager": RefusingIOManager()},
        raise_on_error=False,
    )
    assert not result.success
    with pytest.raises(dg.Failure, match="returned a list"):
        dg.materialize([returns_rows], resources={"io_manager": RefusingIOManager()})
    with pytest.raises(dg.Failure, match="name it in `deps`"):
        dg.materialize(
            [wants_rows, returns_rows],
            selection=[wants_rows],
            resources={"io_manager": RefusingIOManager()},
        )


def test_importing_the_definitions_opens_nothing_and_writes_only_what_the_sources_say(tmp_path):
    (tmp_path / "dagster.yaml").write_text("")
    code = (
        "import sys, psutil\n"
        "from refresh_pipelines.definitions import defs\n"
        "process = psutil.Process()\n"
        "opened = [*process.net_connections(), *(f.path for f in process.open_files() if 'db' in f.path)]\n"
        "sys.exit(str(opened) if opened else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"dagster.yaml", "data"}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["last_good"]
