"""What lies in a folder and counts as dropped."""

from __future__ import annotations

import os

import pytest

from refresh_pipelines.drop.listing import Moved, pattern_of
from refresh_pipelines.drop.look import pick
from refresh_pipelines.errors import InternalError, RefreshError, UpstreamRefused
from refresh_pipelines_tests.dropping import Dropping, csv, drop_spec

SPEC = drop_spec()


@pytest.fixture
def bench(tmp_path):
    return Dropping(tmp_path)


def keys(bench, spec=SPEC):
    return [file.key for file in bench.look(spec).files]


def test_every_file_of_every_folder_is_seen(bench):
    for name in ("a.csv", "2026/b.csv", "2026/11/c.csv"):
        bench.put(name, csv())
    assert sorted(keys(bench)) == ["2026/11/c.csv", "2026/b.csv", "a.csv"]


@pytest.mark.parametrize(
    "name", [".hidden.csv", ".git/a.csv", "a.csv.tmp", "a.csv.part", "A.CSV.CRDOWNLOAD", "~$a.xlsx", "x/.b/c.csv"]
)
def test_hidden_and_half_written_names_never_count(bench, name):
    bench.put(name, csv())
    assert keys(bench) == []


NAMES = ["with space.csv", "100%.csv", "%2e%2e.csv", "été ☀.csv", "a+b&c=d.csv", "[x].csv", "#.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_as_they_are(bench, name):
    bench.put(f"d r/{name}", csv(["x", 1, "t"]))
    assert keys(bench) == [f"d r/{name}"]
    assert bench.refresh(SPEC, "2026-11-22").counts.added == 1
    assert bench.statuses() == {f"d r/{name}": "loaded"}


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("**/*", {"a.csv", "b/c.csv", "b/d/e.json.gz", "b/.x"}),
        ("*", {"a.csv"}),
        ("*.csv", {"a.csv"}),
        ("**/*.csv", {"a.csv", "b/c.csv"}),
        ("b/**", {"b/c.csv", "b/d/e.json.gz", "b/.x"}),
        ("b/*/?.json.gz", {"b/d/e.json.gz"}),
        ("**/d/*", {"b/d/e.json.gz"}),
    ],
)
def test_a_pattern_matches_whole_paths(glob, matched):
    names = {"a.csv", "b/c.csv", "b/d/e.json.gz", "b/.x"}
    assert {name for name in names if pattern_of((glob,)).fullmatch(name)} == matched


def test_one_of_several_patterns_is_enough(bench):
    for name in ("a.csv", "b.json", "c.txt"):
        bench.put(name, csv())
    assert sorted(keys(bench, drop_spec(drop={"pattern": ["*.csv", "*.json"]}))) == ["a.csv", "b.json"]


def test_symbolic_links_are_passed_over(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text(csv(["x", 1, "t"]))
    bench.put("a.csv", csv())
    (bench.drops / "link.csv").symlink_to(outside / "secret.csv")
    (bench.drops / "folder").symlink_to(outside)
    (bench.drops / "inside.csv").symlink_to(bench.drops / "a.csv")
    (bench.drops / "broken.csv").symlink_to(bench.drops / "nowhere")
    assert keys(bench) == ["a.csv"]


def test_a_file_that_becomes_a_link_is_not_read(bench, tmp_path):
    path = bench.put("a.csv", csv(["x", 1, "t"]))
    found = bench.look(SPEC)
    (tmp_path / "secret.csv").write_text(csv(["x", 1, "t"]))
    path.unlink()
    path.symlink_to(tmp_path / "secret.csv")
    with pytest.raises(Moved):
        found.folder.copy(found.files[0], tmp_path / "copy")


def test_the_folder_itself_may_be_a_link(bench, tmp_path):
    bench.put("a.csv", csv())
    bench.drops.rename(tmp_path / "elsewhere")
    bench.drops.symlink_to(tmp_path / "elsewhere")
    assert keys(bench) == ["a.csv"]


def test_a_relative_folder_is_made_where_nobody_has_made_it(bench):
    assert bench.look(drop_spec(drop={"url": "drops/not/yet"})).sentence() == "nothing new"
    assert (bench.drops / "not/yet").is_dir()


@pytest.mark.parametrize("url", ["{root}/mount", "file://{root}/mount", "../beside", "link/in"])
def test_any_other_missing_folder_is_an_error_and_no_empty_day(bench, url):
    (bench.folder / "link").symlink_to(bench.folder.parent / "unmounted")
    with pytest.raises(UpstreamRefused, match=r"the folder .* does not exist") as error:
        bench.look(drop_spec(drop={"url": url.format(root=bench.folder)}))
    assert "Make the folder" in str(error.value)
    assert not (bench.folder.parent / "beside").exists() and not (bench.folder / "mount").exists()


def test_a_file_in_place_of_the_folder_is_an_error(bench):
    bench.drops.rmdir()
    bench.drops.write_text("x")
    with pytest.raises(UpstreamRefused, match="does not exist"):
        bench.look(SPEC)


@pytest.mark.parametrize("url", ["file://{root}/drops", "{root}/drops", "drops/", "local://{root}/drops"])
def test_a_folder_may_be_named_in_several_ways(bench, url):
    bench.put("a.csv", csv())
    assert keys(bench, drop_spec(drop={"url": url.format(root=bench.folder)})) == ["a.csv"]


def test_params_name_the_folder(bench):
    bench.put("benin/a.csv", csv())
    assert keys(bench, drop_spec(drop={"url": "{base}/benin"}, params={"base": "drops"})) == ["a.csv"]


def test_files_count_when_their_folder_holds_the_marker(bench):
    spec = drop_spec(drop={"marker": "_SUCCESS", "pattern": "**/*.csv"})
    bench.put("day1/a.csv", csv())
    bench.put("day1/_SUCCESS", b"")
    bench.put("day2/b.csv", csv())
    assert keys(bench, spec) == ["day1/a.csv"]
    assert bench.look(spec).sentence() == "nothing new; 1 file is waiting for the marker: day2/b.csv"
    bench.put("day2/_SUCCESS", b"")
    assert keys(bench, spec) == ["day1/a.csv", "day2/b.csv"]


def test_files_are_in_the_order_of_arrival(bench):
    bench.put("z.csv", csv(), age=500)
    bench.put("a.csv", csv(), age=100)
    assert keys(bench) == ["z.csv", "a.csv"]
    bench.later(minutes=5)
    bench.put("0.csv", csv(), age=9999)
    assert keys(bench) == ["z.csv", "a.csv", "0.csv"]


def test_what_is_not_stable_yet_is_named(bench):
    for number in range(7):
        bench.put(f"{number}.csv", csv(), age=1)
    bench.put("old.csv", csv())
    assert bench.pending(SPEC) == ["old.csv"]
    assert bench.look(SPEC).sentence().startswith("nothing new; 7 files are not stable yet: 0.csv, 1.csv, ")


def test_a_run_takes_the_oldest_and_at_most_so_many_files_and_bytes(bench):
    for number in range(5):
        bench.put(f"{number}.csv", "x" * 100, age=1000 - number)
    files = bench.look(SPEC).files
    assert [file.key for file in pick(files, drop_spec(drop={"max_files": 2}).request.drop)] == ["0.csv", "1.csv"]
    most = drop_spec(drop={"max_total": "250B"}).request.drop
    assert [file.key for file in pick(files, most)] == ["0.csv", "1.csv"]
    # One file is always taken: otherwise it would never be.
    assert len(pick(files, drop_spec(drop={"max_total": "1B"}).request.drop)) == 1


def test_a_damaged_operational_store_is_told_with_what_to_do(bench):
    bench.settings.data_dir.mkdir()
    (bench.settings.data_dir / "ops.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InternalError, match=r"ops\.sqlite cannot be used.*move it away"):
        bench.look(SPEC)


def test_what_one_look_saw_the_next_one_knows(bench):
    bench.put("a.csv", csv(), age=10)
    bench.look(SPEC)
    bench.later(seconds=20)
    bench.look(SPEC)
    (sighting,) = bench.sightings()
    assert (sighting.last_seen_at - sighting.first_seen_at).total_seconds() == 20
    assert sighting.stable_at is None
    bench.later(seconds=40)
    bench.look(SPEC)
    assert bench.sightings()[0].stable_at == bench.now


def test_a_folder_that_may_not_be_listed_is_told(bench):
    if os.geteuid() == 0:
        spec = drop_spec(drop={"url": "drops\0"})  # root may list everything, and nobody this
    else:
        bench.drops.chmod(0)
        spec = SPEC
    with pytest.raises(RefreshError, match="the folder drops"):
        bench.look(spec)
    bench.drops.chmod(0o755)


def test_an_unknown_storage_is_told_by_name(bench):
    with pytest.raises(UpstreamRefused, match=r"cannot be opened.*gcsfs"):
        bench.look(drop_spec(drop={"url": "gs://bucket/prefix"}))
