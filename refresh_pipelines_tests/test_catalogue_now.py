"""The catalogue that a process has read is shown again until a file of it changes."""

from __future__ import annotations

from refresh_pipelines.catalogue_now import catalogue_now
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import MINI, write


def settings_of(folder, **environ):
    return Settings.load({"REFRESH_CATALOG": "catalog", **environ}, root=folder)


def test_it_is_read_once_while_nothing_changes(tmp_path):
    write(tmp_path / "catalog", {"benin/a.yaml": MINI})
    assert catalogue_now(settings_of(tmp_path)) is catalogue_now(settings_of(tmp_path))


def test_a_file_that_is_changed_added_or_deleted_is_seen_at_once(tmp_path):
    write(tmp_path / "catalog", {"benin/a.yaml": MINI})
    settings = settings_of(tmp_path)
    assert catalogue_now(settings).find("a").description == "a test"
    write(
        tmp_path / "catalog", {"benin/a.yaml": MINI.replace("a test", "another"), "benin/b.yaml": MINI + "table: b\n"}
    )
    assert catalogue_now(settings).find("a").description == "another"
    assert set(catalogue_now(settings).sources) == {"a", "b"}
    (tmp_path / "catalog/benin/b.yaml").unlink()
    assert set(catalogue_now(settings).sources) == {"a"}


def test_other_settings_have_a_catalogue_of_their_own(tmp_path):
    text = MINI.replace("data.csv", "{town}.csv") + "params: {town: oslo}\n"
    write(tmp_path / "catalog", {"benin/a.yaml": text})
    plain, changed = settings_of(tmp_path), settings_of(tmp_path, REFRESH_PARAM_BENIN_TOWN="rome")
    found = [catalogue_now(settings).find("a").params for settings in (plain, changed, plain)]
    assert [params["town"] for params in found] == ["oslo", "rome", "oslo"]


def test_with_a_broken_file_it_is_read_each_time(tmp_path):
    write(tmp_path / "catalog", {"benin/a.yaml": MINI, "benin/b.yaml": "nonsense"})
    settings = settings_of(tmp_path)
    assert catalogue_now(settings) is not catalogue_now(settings)
    assert set(catalogue_now(settings).broken) != set()
