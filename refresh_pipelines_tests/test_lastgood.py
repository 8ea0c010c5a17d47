"""A source whose file is broken runs on what it said before, shows what is wrong, and nothing else is kept alive."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.lastgood import remember, with_last_good, working_catalogue
from refresh_pipelines.settings import BUILTIN_CATALOG, Settings
from refresh_pipelines_tests.catalogues import MINI, write

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=timezone.utc)
BAD = MINI + "ownr: me\n"


class Folder:
    """A catalogue below a folder, remembered and read again as the code location does."""

    def __init__(self, root):
        self.root, self.environ = root, {"REFRESH_CATALOG": "catalog"}

    @property
    def settings(self):
        return Settings.load(self.environ, self.root)

    def write(self, **files):
        write(self.root / "catalog", {f"benin/{name}.yaml": text for name, text in files.items()})

    def remember(self, at=NOW, only=None):
        catalogue = self.files()
        remember(catalogue, self.settings, at, only)
        return catalogue

    def files(self):
        return load_catalogue(self.settings.catalog, self.settings.environ)

    def kept(self):
        return sorted(path.stem for path in (self.root / "data/last_good").iterdir())


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_every_built_in_source_comes_back_as_it_was(tmp_path):
    shutil.copytree(BUILTIN_CATALOG, tmp_path / "catalog")
    folder = Folder(tmp_path)
    good = folder.remember()
    (tmp_path / "catalog/defaults.yaml").write_text("a: [")
    assert folder.files().sources == {}
    again = working_catalogue(folder.settings)
    assert dict(again.sources) == dict(good.sources)
    assert list(again.sources) == list(good.sources)
    hashes = {name: spec.spec_hash for name, spec in good.sources.items()}
    assert {name: spec.spec_hash for name, spec in again.sources.items()} == hashes
    assert set(again.stale) == set(good.sources)
    assert again.broken == {}


_SCALARS = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False), st.dates(), st.none())


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.one_of(_SCALARS, st.lists(_SCALARS))))
def test_whatever_a_yaml_file_can_say_is_kept(tmp_path_factory, params):
    folder = Folder(tmp_path_factory.mktemp("kept"))
    folder.write(a=MINI)
    catalogue = folder.files()
    catalogue.written["a"]["params"] = params
    remember(catalogue, folder.settings, NOW)
    folder.write(a=BAD)
    [spec] = working_catalogue(folder.settings).sources.values()
    assert spec.params == params


def test_a_broken_source_runs_on_and_its_problems_stay(folder):
    folder.write(a=MINI, b=MINI)
    folder.remember()
    folder.write(a=BAD)
    again = working_catalogue(folder.settings)
    assert set(again.sources) == {"a", "b"}
    assert again.broken == {}
    assert (again.stale["a"].good_at, again.stale["a"].broken.name) == (NOW, "benin/a")
    assert again.problems == folder.files().problems != ()
    assert again.sources["a"].file.endswith("benin/a.yaml")


def test_the_newest_good_version_counts_and_says_since_when(folder):
    folder.write(a=MINI)
    folder.remember()
    folder.remember(NOW + timedelta(days=1))
    folder.write(a=MINI.replace("a test", "another"))
    folder.remember(NOW + timedelta(days=2))
    folder.remember(NOW + timedelta(days=3))
    folder.write(a="a: [")
    folder.remember(NOW + timedelta(days=4))
    again = working_catalogue(folder.settings)
    assert (again.sources["a"].description, again.stale["a"].good_at) == ("another", NOW + timedelta(days=2))


def test_what_has_not_changed_is_not_written_again(folder):
    folder.write(a=MINI)
    folder.remember()
    before = (folder.root / "data/last_good/a.json").stat().st_mtime_ns
    folder.remember(NOW + timedelta(days=1))
    assert (folder.root / "data/last_good/a.json").stat().st_mtime_ns == before


def test_a_mended_source_runs_on_its_file_again(folder):
    folder.write(a=MINI)
    folder.remember()
    folder.write(a=BAD)
    folder.write(a=MINI.replace("a test", "mended"))
    again = working_catalogue(folder.settings)
    assert (again.sources["a"].description, again.stale) == ("mended", {})


def test_a_source_that_never_was_good_stays_broken(folder):
    folder.write(a=BAD, b=MINI)
    folder.remember()
    again = working_catalogue(folder.settings)
    assert (set(again.sources), set(again.broken)) == ({"b"}, {"a"})


def test_a_deleted_file_is_deleted_also_when_it_comes_back_broken(folder):
    folder.write(a=MINI, b=MINI)
    folder.remember()
    (folder.root / "catalog/benin/a.yaml").unlink()
    assert set(working_catalogue(folder.settings).sources) == {"b"}
    folder.remember()
    assert folder.kept() == ["b"]
    folder.write(a=BAD)
    assert set(working_catalogue(folder.settings).broken) == {"a"}


def test_a_catalogue_folder_that_is_missing_makes_nobody_forget(folder):
    folder.write(a=MINI)
    folder.remember()
    (folder.root / "catalog").rename(folder.root / "elsewhere")
    folder.remember()
    assert folder.kept() == ["a"]


def test_a_process_that_runs_one_source_remembers_that_one_and_forgets_none(folder):
    folder.write(a=MINI, b=MINI)
    folder.remember(only=["b"])
    assert folder.kept() == ["b"]
    (folder.root / "catalog/benin/b.yaml").unlink()
    folder.remember(only=["a"])
    assert folder.kept() == ["a", "b"]


@pytest.mark.parametrize("shared", ["benin/group.yaml", "defaults.yaml"])
def test_shared_values_that_are_broken_leave_all_sources_with_what_was_filled_in_before(folder, shared):
    write(folder.root / "catalog", {shared: "owner: team:x\n"})
    folder.write(a=MINI, b=MINI)
    folder.remember()
    write(folder.root / "catalog", {shared: "owner: [\n"})
    again = working_catalogue(folder.settings)
    assert {name: spec.owner for name, spec in again.sources.items()} == {"a": "team:x", "b": "team:x"}


def test_a_version_that_the_grammar_of_today_refuses_is_not_resurrected(folder):
    folder.write(a=MINI)
    folder.remember()
    path = folder.root / "data/last_good/a.json"
    path.write_text(path.read_text().replace('"merge_key"', '"key_of_former_days"'))
    folder.write(a=BAD)
    again = working_catalogue(folder.settings)
    assert set(again.sources) == set()
    first, *_, last = again.broken["a"].problems
    assert "unknown key ownr" in first.message
    assert last.message.startswith("the last good version, of 2026-11-22T09:00+00:00, is refused today too: ")


@pytest.mark.parametrize(
    "text", ["", "{}", "\n", "[1]\n[2]", '{"version": 1}\n{"group": "benin"}', '{"version": 9, "good_at": "x"}\n{}']
)
def test_a_damaged_memory_is_no_memory(folder, text):
    folder.write(a=MINI)
    folder.remember()
    (folder.root / "data/last_good/a.json").write_text(text)
    folder.write(a=BAD)
    assert set(working_catalogue(folder.settings).broken) == {"a"}


def test_a_damaged_memory_is_written_anew(folder):
    folder.write(a=MINI)
    folder.remember()
    (folder.root / "data/last_good/a.json").write_bytes(b"\xff\xfe")
    folder.remember()
    folder.write(a=BAD)
    assert set(working_catalogue(folder.settings).stale) == {"a"}


def test_a_source_of_the_same_name_in_another_group_is_another_source(folder):
    folder.write(a=MINI)
    folder.remember()
    (folder.root / "catalog/benin/a.yaml").unlink()
    write(folder.root / "catalog", {"energy/a.yaml": BAD})
    assert set(working_catalogue(folder.settings).broken) == {"a"}


def test_a_name_that_is_taken_stays_with_the_one_that_loads(folder):
    folder.write(a=MINI)
    folder.remember()
    write(folder.root / "catalog", {"benin2/a.yaml": MINI})
    again = working_catalogue(folder.settings)
    assert (again.sources["a"].group, again.stale) == ("benin", {})


def test_what_shares_a_table_in_another_shape_now_is_not_brought_back(folder):
    folder.write(a=MINI + "table: both\n")
    folder.remember()
    folder.write(a=BAD, b=MINI.replace("value:", "amount:") + "table: both\n")
    again = working_catalogue(folder.settings)
    assert set(again.sources) == {"b"}
    assert "share the table both" in again.broken["a"].problems[-1].message


def test_an_alias_that_is_wrong_leaves_the_source_as_it_was(folder):
    folder.write(a=MINI, b=MINI)
    folder.remember()
    folder.write(a=MINI + "aliases: [b]\n")
    again = working_catalogue(folder.settings)
    assert (again.sources["a"].aliases, set(again.stale)) == ((), {"a"})


def test_sources_that_would_wait_for_each_other_are_not_brought_back(folder):
    folder.write(a=MINI + "requires: [{source: b}]\n", b=MINI)
    folder.remember()
    assert folder.kept() == ["a", "b"]
    folder.write(a=BAD, b=MINI + "requires: [{source: a}]\n")
    again = working_catalogue(folder.settings)
    assert set(again.sources) == {"b"}
    assert "wait for each other" in again.broken["a"].problems[-1].message


def test_values_of_the_environment_are_not_kept(folder):
    folder.environ["REFRESH_PARAM_BENIN_SITE"] = "planted5ecret"
    folder.write(a=MINI + "params: {site: x}\n")
    assert folder.remember().sources["a"].params == {"site": "planted5ecret"}
    assert "planted5ecret" not in (folder.root / "data/last_good/a.json").read_text()
    folder.write(a=BAD)
    assert working_catalogue(folder.settings).sources["a"].params == {"site": "planted5ecret"}


def test_a_date_is_still_a_date(folder):
    folder.write(a=MINI + "partitions: {time: day, start: 2024-01-01, column: day}\n")
    folder.remember()
    kept = json.loads((folder.root / "data/last_good/a.json").read_text().partition("\n")[2])
    assert kept["written"]["partitions"]["start"] == {"yaml:date": "2024-01-01"}
    folder.write(a=BAD)
    partitions = working_catalogue(folder.settings).sources["a"].partitions
    assert partitions.start_at.date() == date(2024, 1, 1)


def test_a_catalogue_without_problems_is_left_as_it_is(folder):
    folder.write(a=MINI)
    catalogue = folder.files()
    assert with_last_good(catalogue, folder.settings) is catalogue
