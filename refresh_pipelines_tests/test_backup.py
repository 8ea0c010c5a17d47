"""A backup made while refreshes go on, put back into an empty place; and files that are no backup, refused."""

from __future__ import annotations

import copy
import io
import json
import shutil
import tarfile
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
import zstandard
from filelock import FileLock

from refresh_pipelines.errors import InternalError, WarehouseBusy
from refresh_pipelines.orchestration.events import history
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.service.backup.make import back_up, warehouse_database
from refresh_pipelines.service.backup.pack import MANIFEST, Manifest, packed, unpack
from refresh_pipelines.service.backup.postgres import program
from refresh_pipelines.service.backup.restore import PlaceTaken, restore
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.command_home import ROOT
from refresh_pipelines_tests.dagster_bench import values
from refresh_pipelines_tests.stores import Addressed, held
from refresh_pipelines_tests.workbench import commit_of, spec_of, table_of

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
FX = dg.AssetKey(["commodities", "fred_fx"])


def quiet(_):
    pass


@pytest.fixture
def place(tmp_path, empty_history, monkeypatch):
    """The folder of another installation, where nothing has happened yet."""
    folder = tmp_path / "another"
    shutil.copytree(empty_history, folder / "data/dagster")
    shutil.copy(ROOT / "dagster.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DAGSTER_HOME", "to be put back")
    yield folder
    cheap_history.let_go()


def moved(bench, folder):
    """The same bench, at work in another folder."""
    other = copy.copy(bench)
    other.folder = folder
    shutil.copytree(bench.folder / "catalog", folder / "catalog")
    return other


def put_back(file, settings, replace=False):
    # Before files are replaced, those are closed that only tests keep open.
    return restore(file, settings, NOW, replace=replace, say=lambda _: cheap_history.let_go())


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcomes(bench):
    return [(one.partition, one.outcome) for one in history(bench.instance, bench.spec("fred_fx"), 10)]


def test_what_was_loaded_before_and_during_a_backup_is_there_again(bench, place, tmp_path):
    bench.launch("fred_fx", "DEXUSEU")
    bench.instance.add_run(dg.DagsterRun("job", "under-way", status=dg.DagsterRunStatus.STARTED))

    def meanwhile(what):
        if what == "warehouse":  # the history is copied, the warehouse is not
            bench.launch("fred_fx", "DEXBZUS")

    file = tmp_path / "a backup.tar.zst"
    made = back_up(bench.instance, bench.settings, file, NOW, meanwhile)
    rows = table_of(bench.settings.warehouse_file, "fred_economic")
    bench.sandbox.revision = "revised"
    bench.launch("fred_fx", "DEXUSEU")
    bench.sandbox.revision = "good"
    assert file.stat().st_mode & 0o077 == 0
    assert made.tables["warehouse.duckdb"]["raw.fred_economic"] == len(rows) == 48

    other = moved(bench, place)
    done = put_back(file, other.settings)

    assert (done.manifest, done.aside, done.ended) == (made, None, 1)
    assert table_of(other.settings.warehouse_file, "fred_economic") == rows
    with open_instance(other.settings) as other.instance:
        assert outcomes(other) == [("DEXUSEU", "loaded")]
        assert other.instance.get_run_by_id("under-way").status is dg.DagsterRunStatus.CANCELED
        found = other.good(other.launch("fred_fx", "DEXUSEU", "DEXBZUS"))
        said = [(one.partition, values(one)["refresh/outcome"], "refresh/recovered" in one.metadata) for one in found]
        assert sorted(said) == [
            ("DEXBZUS", "loaded", True), ("DEXBZUS", "unchanged", False), ("DEXUSEU", "unchanged", False)
        ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["a backup.tar.zst"]
    assert not list(other.settings.data_dir.glob(".restore*"))


def test_a_place_with_something_in_it_is_left_alone_or_moved_aside(bench, place, tmp_path):
    bench.launch("fred_fx", "DEXUSEU")
    file = tmp_path / "x.tar.zst"
    back_up(bench.instance, bench.settings, file, NOW, quiet)
    other = moved(bench, place)
    with open_instance(other.settings) as other.instance:
        other.instance.report_runless_asset_event(dg.AssetMaterialization("old"))
    (place / "data/ops.sqlite").write_bytes(b"old")
    cheap_history.let_go()
    with pytest.raises(PlaceTaken, match="history of runs"):
        put_back(file, other.settings)
    with FileLock(place / "data/.due.lock"), pytest.raises(WarehouseBusy, match=r"at work; .*run --due"):
        put_back(file, other.settings, replace=True)
    assert (place / "data/ops.sqlite").read_bytes() == b"old"

    aside = put_back(file, other.settings, replace=True).aside

    assert aside == place / "data/replaced_20261125_120000"
    assert (aside / "ops.sqlite").read_bytes() == b"old"
    assert {"runs.db", "runs", "schedules.db"} <= {path.name for path in aside.iterdir()}
    with open_instance(other.settings) as other.instance:
        assert other.instance.all_asset_keys() == [FX]


def test_databases_in_postgres_are_dumped_and_loaded(postgres_server, tmp_path, place):
    with ExitStack() as stack:
        names = [stack.enter_context(postgres_server.database()) for _ in range(4)]
        open_instance(Settings.load({"REFRESH_INSTANCE": postgres_server.url(names[2])}, root=place)).dispose()
        postgres_server.ask("postgres", f"DROP DATABASE {names[3]}; ")
        postgres_server.ask("postgres", f"CREATE DATABASE {names[3]} TEMPLATE {names[2]}")  # quicker than once more
        one, two, past, other = map(postgres_server.url, names)
        environ = {"REFRESH_DATA_DIR": "one", "REFRESH_WAREHOUSE": one, "REFRESH_INSTANCE": past}
        here = Settings.load(environ, root=place)
        there = Settings.load({"REFRESH_DATA_DIR": "two", "REFRESH_WAREHOUSE": two, "REFRESH_INSTANCE": other}, place)
        spec, row = spec_of(), {"k": "a", "n": "1", "t": None}
        first, second = Addressed(one), Addressed(two)
        first.commit(commit_of(spec, [row], tmp_path / "scratch"))
        second.commit(commit_of(spec_of("older"), [row, {**row, "k": "b"}], tmp_path / "scratch"))
        file = tmp_path / "x.tar.zst"
        with open_instance(here) as instance:
            instance.report_runless_asset_event(dg.AssetMaterialization(FX))
            made = back_up(instance, here, file, NOW, quiet)
        assert (made.history, made.warehouse) == ("postgresql 18", "postgresql 18")
        assert made.tables["warehouse.pgdump"]["raw.mini"] == 1
        assert made.tables["history.pgdump"]["public.event_logs"] == 1
        with pytest.raises(PlaceTaken, match=r"^a warehouse$"):
            put_back(file, there)
        with pytest.raises(InternalError, match=r"pg_restore failed on the warehouse"):
            warehouse_database(there).load(file, 18, "aside", keep=True)
        assert second.sources() == {"older"}
        put_back(file, there, replace=True)
        assert second.sources() == {"mini"}
        assert held(second, "mini") == held(first, "mini")
        assert second.states("mini", "mini")[0] == first.states("mini", "mini")[0]
        left = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%replaced%' ORDER BY 1"
        aside = [("raw_replaced_20261125_120000",), ("refresh_replaced_20261125_120000",)]
        assert (postgres_server.ask(names[1], left), postgres_server.ask(names[3], left)) == (aside, [])
        with open_instance(there) as instance:
            assert instance.all_asset_keys() == [FX]
            instance.report_runless_asset_event(dg.AssetMaterialization("new"))


def test_a_backup_of_another_kind_of_store_is_refused(bench, place, tmp_path, postgres):
    file = tmp_path / "x.tar.zst"
    back_up(bench.instance, bench.settings, file, NOW, quiet)
    other = Settings.load({"REFRESH_WAREHOUSE": postgres}, root=place)
    with pytest.raises(InternalError, match="the warehouse of the backup is of another kind; expected postgresql"):
        put_back(file, other)


@pytest.fixture
def small(tmp_path):
    """A backup with one file."""
    (tmp_path / "content").write_bytes(bytes(range(256)) * 64)
    with packed(tmp_path / "small.tar.zst", Manifest(NOW.isoformat(), {}, "duckdb", "sqlite")) as pack:
        pack.add("data/x", tmp_path / "content")
    return tmp_path / "small.tar.zst"


def unpacked(path):
    return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()


def changed(path, change):
    path.write_bytes(zstandard.ZstdCompressor().compress(change(unpacked(path))))


def named(path, name):
    """A tar with one entry of that name, as an attacker writes it."""
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        path.write_bytes(zstandard.ZstdCompressor().compress(out.getvalue()))


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "no zstd": lambda path: path.write_bytes(b"PK\x03\x04" * 100),
    "no tar": lambda path: path.write_bytes(zstandard.ZstdCompressor().compress(b"hello" * 1000)),
    "a bit": lambda path: changed(path, lambda tar: tar.replace(b"\x10\x11\x12", b"\x10\x11\x13", 1)),
    "a size": lambda path: changed(path, lambda tar: tar.replace(b'"size": 16384', b'"size": 16385')),
    "a part": lambda path: changed(path, lambda tar: tar.replace(b'"history"', b'"mystery"')),
    "upwards": lambda path: named(path, "../../x"),
    "absolute": lambda path: named(path, "/x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_nothing_is_touched(small, place, damage):
    DAMAGES[damage](small)
    settings = Settings.load({}, root=place)
    before = tree(place)
    with pytest.raises(InternalError, match=r"small.tar.zst is damaged, or no backup.*Nothing was touched"):
        put_back(small, settings, replace=True)
    left = tree(place)
    assert {name: left[name] for name in before} == before
    assert {Path(name).suffix for name in {*left} - {*before}} <= {".lock"}


def test_a_later_format_is_told_as_such(small, tmp_path):
    changed(small, lambda tar: tar.replace(b'"format": 1', b'"format": 9'))
    with pytest.raises(InternalError, match="of another version; expected format 1; got format 9"):
        unpack(small, tmp_path / "new")


def test_a_database_that_lost_rows_is_refused(bench, place, tmp_path):
    file = tmp_path / "x.tar.zst"
    made = back_up(bench.instance, bench.settings, file, NOW, quiet)
    made.tables["history/runs.db"]["runs"] += 1
    unpack(file, tmp_path / "out")
    with packed(tmp_path / "y.tar.zst", made) as pack:
        for name in [*made.members]:
            pack.add(name, tmp_path / "out" / name)
    with pytest.raises(
        InternalError, match=r"runs\.db of the backup does not hold what it held; expected 1 rows in runs"
    ):
        put_back(tmp_path / "y.tar.zst", moved(bench, place).settings)


def test_a_backup_that_breaks_off_leaves_nothing(bench, tmp_path):
    def stop(what):
        if what == "warehouse":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(bench.instance, bench.settings, tmp_path / "to/x.tar.zst", NOW, stop)
    assert not list((tmp_path / "to").iterdir())


def test_programs_older_than_the_server_are_not_taken(tmp_path):
    assert program("pg_dump", 18).is_file()
    with pytest.raises(InternalError, match="there is no pg_dump for a server of PostgreSQL 99; expected pg_dump 99"):
        program("pg_dump", 99)


def test_the_command_names_files_by_time_and_keeps_as_many_as_it_is_told(home, tmp_path):
    folder = tmp_path / "backups"
    for old in ("refresh-20250101T000000Z.tar.zst", "refresh-20250102T000000Z.tar.zst", "mine.tar.zst"):
        folder.mkdir(exist_ok=True)
        (folder / old).write_bytes(b"")
    result = home.refresh("backup", str(folder), "--keep", "2", "--json")
    said = json.loads(result.stdout)
    assert {item["database"] for item in said["items"]} >= {"history/runs.db", "history/runs/index.db"}
    assert said["removed"] == [str(folder / "refresh-20250101T000000Z.tar.zst")]
    assert len(list(folder.iterdir())) == 3
    assert home.refresh("backup", str(folder / "mine.tar.zst")).exit_code == 2
    assert home.refresh("backup", str(folder / "new.tar.zst"), "--keep", "2").exit_code == 2
    restored = home.refresh("restore", said["file"])
    assert (restored.exit_code, "MB, of 20" in restored.stdout) == (0, True), restored.output
    assert ".env" not in unpack(Path(said["file"]), tmp_path / "out").text()
    assert MANIFEST not in json.loads((tmp_path / "out" / MANIFEST).read_text())["members"]
