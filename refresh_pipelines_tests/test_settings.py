"""Settings from environment and .env, and the units people write."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.postgres_url import for_dagster
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES, Settings, SettingsError, find_root
from refresh_pipelines.units import format_duration, parse_duration, parse_rate, parse_size


def test_without_anything_set_all_lies_below_the_root(tmp_path):
    settings = Settings.load({}, tmp_path)
    assert settings.data_dir == tmp_path / "data"
    assert settings.warehouse_file == tmp_path / "data" / "warehouse.duckdb"
    assert settings.catalog == (BUILTIN_CATALOG,)
    assert (settings.upstream, settings.sandbox, settings.sandbox_port) == (None, False, 8088)
    assert (settings.lock_timeout, settings.webhook_url) == (timedelta(minutes=5), None)


def test_the_environment_wins_over_the_file(tmp_path):
    (tmp_path / ".env").write_text("REFRESH_DATA_DIR=filed\nFRED_API_KEY=filed\nREFRESH_WEBHOOK_URL=\n")
    settings = Settings.load({"REFRESH_DATA_DIR": "given"}, tmp_path)
    assert settings.data_dir == tmp_path / "given"
    assert settings.environ["FRED_API_KEY"] == "filed"
    assert settings.webhook_url is None


def test_empty_values_count_as_not_set(tmp_path):
    names = ["DATA_DIR", "CATALOG", "UPSTREAM", "WAREHOUSE", "LOCK_TIMEOUT", "SANDBOX_PORT", "WEBHOOK_URL"]
    empty, bare = Settings.load({f"REFRESH_{name}": "" for name in names}, tmp_path), Settings.load({}, tmp_path)
    assert (empty.data_dir, empty.catalog, empty.warehouse) == (bare.data_dir, bare.catalog, bare.warehouse)
    assert empty.lock_timeout == bare.lock_timeout


def test_samples_lie_beside_each_own_catalogue_and_the_bundled_ones_come_last(tmp_path):
    settings = Settings.load({"REFRESH_CATALOG": "a/catalog:builtin:a/more:/other/c"}, tmp_path)
    assert settings.samples == (tmp_path / "a/samples", Path("/other/samples"), SAMPLES)
    assert Settings.load({}, tmp_path).samples == (SAMPLES,)


def test_no_secret_is_in_what_settings_print(tmp_path):
    settings = Settings.load(
        {"FRED_API_KEY": "planted", "REFRESH_WEBHOOK_URL": "https://hooks.example/planted"}, tmp_path
    )
    assert "planted" not in repr(settings) and settings.webhook_url


def test_catalogue_folders_are_taken_in_order_from_the_root(tmp_path):
    settings = Settings.load({"REFRESH_CATALOG": f"mine:builtin::{tmp_path}/other:~/third"}, tmp_path / "root")
    mine, builtin, other, third = settings.catalog
    assert (mine, builtin, other) == (tmp_path / "root" / "mine", BUILTIN_CATALOG, tmp_path / "other")
    assert third.is_absolute() and "~" not in str(third)


@pytest.mark.parametrize(
    ("text", "file"), [("duckdb:///w.duckdb", "{root}/w.duckdb"), ("duckdb:////var/w.duckdb", "/var/w.duckdb")]
)
def test_three_slashes_are_relative_and_four_absolute(tmp_path, text, file):
    assert str(Settings.load({"REFRESH_WAREHOUSE": text}, tmp_path).warehouse_file) == file.format(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("postgres://me:pa55@host/db", "does not begin with postgresql://"), ("sqlite:///pa55", "does not begin with"),
        ("postgresql://me:pa55@host", "names no database"), ("postgresql://me:pa55@/db", "names no host"),
        ("postgresql://me:pa55@host:port/db", "host or port cannot be read"),
        ("postgresql://me:pa/55@host/db", "host or port cannot be read"),
        ("postgresql://me:5/p55@host/db", "special characters"), ("postgresql://me:55#x@host/db", "special characters"),
        ("postgresql://me:pa55@host:0/db", "its port is 0"),
    ],
)  # fmt: skip
def test_an_address_of_dagsters_history_that_cannot_be_used_is_not_repeated(tmp_path, text, why):
    with pytest.raises(SettingsError, match="REFRESH_INSTANCE: expected postgresql://user:password@") as caught:
        Settings.load({"REFRESH_INSTANCE": text}, tmp_path)
    assert why in str(caught.value) and "55" not in str(caught.value).partition(";")[2]


def test_an_address_of_dagsters_history_is_completed_and_shown_without_its_secrets(tmp_path):
    assert Settings.load({}, tmp_path).instance is None
    settings = Settings.load({"REFRESH_INSTANCE": "postgresql://me:pa55%40@host:5433/db?sslmode=require"}, tmp_path)
    assert settings.instance_name == "postgresql://host:5433/db"
    assert "pa55" not in repr(settings)
    assert settings.instance.startswith("postgresql://me:pa55%40@host:5433/db?connect_timeout=10&")
    assert settings.instance.endswith("&sslmode=require")
    # What Dagster is given is what it was read from, with a driver.
    again = Settings.load({"REFRESH_INSTANCE": for_dagster(settings.instance)}, tmp_path)
    assert again.instance == settings.instance
    folder = Settings.load({"REFRESH_INSTANCE": "postgresql://me@/db?host=%2Frun%2Fa%20b"}, tmp_path)
    assert folder.instance_name == "postgresql:///db at /run/a b"


@pytest.mark.parametrize(
    ("text", "upstream", "sandbox"),
    [
        ("live", None, False), ("sandbox", "http://127.0.0.1:9000", True),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000", False),
        ("https://mirror.example/a/", "https://mirror.example/a", False),
    ],
)  # fmt: skip
def test_upstream_is_live_the_sandbox_or_a_base(tmp_path, text, upstream, sandbox):
    settings = Settings.load({"REFRESH_UPSTREAM": text, "REFRESH_SANDBOX_PORT": "9000"}, tmp_path)
    assert (settings.upstream, settings.sandbox) == (upstream, sandbox)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("", True), ("true", True), ("YES", True), ("1", True), ("false", False), ("No", False), (" 0 ", False)],
)
def test_schedules_are_enabled_unless_somebody_says_no(tmp_path, text, meant):
    assert Settings.load({"REFRESH_SCHEDULES_ENABLED": text}, tmp_path).schedules_enabled is meant


def test_a_switch_that_is_neither_yes_nor_no_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="REFRESH_SCHEDULES_ENABLED='maybe': expected true or false"):
        Settings.load({"REFRESH_SCHEDULES_ENABLED": "maybe"}, tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2m", 120), ("0.5", 0.5), ("7", 7), ("0s", 0)])
def test_a_lock_timeout_is_a_duration_or_seconds(tmp_path, text, seconds):
    assert Settings.load({"REFRESH_LOCK_TIMEOUT": text}, tmp_path).lock_timeout == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REFRESH_UPSTREAM", "Live"), ("REFRESH_UPSTREAM", "ftp://x"), ("REFRESH_UPSTREAM", "http://"),
        ("REFRESH_UPSTREAM", "http://x/?a=1"), ("REFRESH_UPSTREAM", "http://x y"), ("REFRESH_WAREHOUSE", "sqlite:///x"),
        ("REFRESH_WAREHOUSE", "w.duckdb"), ("REFRESH_LOCK_TIMEOUT", "5 minutes"),
        ("REFRESH_LOCK_TIMEOUT", "9" * 20 + "w"),
        ("REFRESH_LOCK_TIMEOUT", "9" * 20), ("REFRESH_LOCK_TIMEOUT", "-1"), ("REFRESH_SANDBOX_PORT", "0"),
        ("REFRESH_SANDBOX_PORT", "65536"), ("REFRESH_SANDBOX_PORT", "http"), ("REFRESH_SANDBOX_PORT", "\u00b2"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named_with_its_value(tmp_path, name, text):
    with pytest.raises(SettingsError) as caught:
        Settings.load({name: text}, tmp_path)
    assert name in str(caught.value) and text in str(caught.value)


def test_the_root_is_where_dagster_yaml_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (find_root() / "dagster.yaml").exists()
    (tmp_path / "dagster.yaml").touch()
    assert find_root() == tmp_path


@given(st.integers(0, 10**8))
def test_durations_are_read_as_they_are_written(seconds):
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "hours"), [("36h", 36), ("30d", 720), ("2w", 336), ("1h30m", 1.5), (timedelta(hours=2), 2)]
)
def test_durations_have_units(text, hours):
    assert parse_duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "5", 5, None, "5 m", "m", "1.5h", "-1h", "1y", "1H"])
def test_other_durations_are_explained(text):
    with pytest.raises(ValueError, match="write a number and s, m, h, d or w"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("200MB", 200_000_000), ("1 GB", 10**9), ("7B", 7), ("3KB", 3000), (12, 12)]
)
def test_sizes_are_decimal(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1MiB", "1.5GB", -1, True, None, "1mb"])
def test_other_sizes_are_explained(text):
    with pytest.raises(ValueError, match="write a number and B, KB, MB or GB"):
        parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("2/s", 2), ("120/m", 2), ("3600/h", 1), ("86400/d", 1), (0.5, 0.5)])
def test_rates_are_requests_a_second(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0/s", "2", 2, "1.5/s", "2/w", 0.0, -1.0, float("nan"), float("inf"), None])
def test_other_rates_are_explained(text):
    with pytest.raises(ValueError, match="write requests per unit of time"):
        parse_rate(text)
