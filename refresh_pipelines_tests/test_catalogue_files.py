"""Where files of a catalogue lie, what they are called, and files that cannot be read."""

import pytest

from refresh_pipelines.catalogue import BrokenSource, load_catalogue
from refresh_pipelines_tests.catalogues import MINI, errors, load, write


@pytest.mark.parametrize("name", ["Fred.yaml", "9fred.yaml", "fred-fx.yaml", f"{'a' * 41}.yaml", "fred.yml"])
def test_a_sources_name_is_plain(tmp_path, name):
    catalogue = load(tmp_path, {f"g/{name}": MINI})
    assert catalogue.sources == {}
    assert [problem.file.name for problem in errors(catalogue)] == [name]


def test_a_groups_name_is_plain_and_any_plain_name_will_do(tmp_path):
    catalogue = load(tmp_path, {"my_own/a.yaml": MINI, "My Own/b.yaml": MINI})
    assert list(catalogue.sources) == ["a"]
    assert "b" in catalogue.broken


def test_the_second_source_of_a_name_is_broken_and_names_the_first(tmp_path):
    write(tmp_path / "one", {"g/a.yaml": MINI})
    write(tmp_path / "two", {"g/a.yaml": MINI, "h/a.yaml": MINI})
    catalogue = load_catalogue([tmp_path / "one", tmp_path / "two"])
    assert catalogue.sources["a"].file == str(tmp_path / "one/g/a.yaml")
    assert sorted(catalogue.broken) == ["g/a", "h/a"]
    assert all(str(tmp_path / "one/g/a.yaml") in str(problem) for problem in catalogue.problems)
    with pytest.raises(BrokenSource):
        catalogue.find("h/a")


@pytest.mark.parametrize("name", ["stray.yaml", "g/deeper/a.yaml"])
def test_yaml_in_the_wrong_place_is_not_passed_over(tmp_path, name):
    catalogue = load(tmp_path, {"g/ok.yaml": MINI, name: MINI})
    assert [problem.file for problem in errors(catalogue)] == [tmp_path / name]
    assert list(catalogue.sources) == ["ok"]


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    files = {"g/a.yaml": MINI, "g/.a.yaml": "a: [", ".git/x.yaml": "a: [", "g/notes.txt": "x", "README.md": "x"}
    assert load(tmp_path, files).problems == ()


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path):
    write(tmp_path, {"g/a.yaml": MINI})
    (tmp_path / "g/b.yaml").symlink_to("nowhere.yaml")
    catalogue = load_catalogue([tmp_path])
    assert "cannot be read" in catalogue.broken["b"].problems[0].message


def test_sources_may_share_a_table_of_the_same_shape(tmp_path):
    files = {"g/a.yaml": MINI + "table: t\n", "g/b.yaml": MINI + "table: t\n"}
    assert len(load(tmp_path, files).sources) == 2


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("value: {type: double}", "value: {type: int}", "columns"),
        ("value: {type: double}", "value: {type: double}\n  more: {type: int}", "columns"),
        ("  day: {type: date}\n  value: {type: double}", "  value: {type: double}\n  day: {type: date}", "columns"),
        ("merge_key: [day]", "merge_key: [day, value]", "merge_key"),
    ],
)
def test_the_second_source_of_a_table_with_another_shape_is_broken(tmp_path, old, new, what):
    files = {"g/a.yaml": MINI + "table: t\n", "g/b.yaml": MINI.replace(old, new) + "table: t\n"}
    catalogue = load(tmp_path, files)
    (problem,) = catalogue.broken["b"].problems
    assert what in problem.message
    assert "g/a" in problem.message
    assert list(catalogue.sources) == ["a"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "a: [", "just text\n", "a: 1\na: 2\n"])
def test_a_file_that_is_no_record_is_one_problem_with_a_place(tmp_path, text):
    catalogue = load(tmp_path, {"g/bad.yaml": text, "g/good.yaml": MINI})
    (problem,) = catalogue.problems
    assert problem.file.name == "bad.yaml"
    assert problem.line >= 1
    assert "good" in catalogue.sources


def test_a_file_that_is_not_utf8_says_where(tmp_path):
    write(tmp_path, {"g/good.yaml": MINI})
    (tmp_path / "g/bad.yaml").write_bytes(b"description: ok\nowner: caf\xe9\n")
    (problem,) = load_catalogue([tmp_path]).problems
    assert (problem.line, problem.column) == (2, 11)
    assert "UTF-8" in problem.message


def test_a_byte_order_mark_is_no_problem(tmp_path):
    assert load(tmp_path, {"g/a.yaml": "\ufeff" + MINI}).problems == ()


def test_a_missing_folder_is_a_problem_and_the_next_folder_still_loads(tmp_path):
    write(tmp_path / "there", {"g/a.yaml": MINI})
    catalogue = load_catalogue([tmp_path / "missing", tmp_path / "there"])
    assert [problem.file.name for problem in errors(catalogue)] == ["missing"]
    assert list(catalogue.sources) == ["a"]


def test_a_name_of_before_may_be_given_with_its_group(tmp_path):
    files = {"g/a.yaml": MINI + "aliases: [old_a, h/a, h/older]\n", "g/b.yaml": MINI + "aliases: []\n"}
    catalogue = load(tmp_path, files)
    assert catalogue.problems == ()
    assert catalogue.sources["a"].aliases == ("old_a", "h/a", "h/older")


@pytest.mark.parametrize(
    ("files", "said", "broken"),
    [
        ({"g/a.yaml": "[b]", "h/b.yaml": "[]"}, "b is a source still, in", ["a"]),
        ({"g/a.yaml": "[h/b]", "g/b.yaml": "[]\nenabled: false"}, "h/b is a source still, in", ["a"]),
        ({"g/a.yaml": "[b]", "g/b.yaml": "[]\ncolour: red"}, "b is a source still, in", ["a", "b"]),
        ({"g/a.yaml": "[a]"}, "a is this source's own name", ["a"]),
        ({"g/a.yaml": "[g/a]"}, "g/a is this source's own name", ["a"]),
        ({"g/a.yaml": "[x]", "g/b.yaml": "[h/x]"}, "says too that it was called", ["a", "b"]),
        ({"g/a.yaml": "[Old-Name]"}, "'Old-Name' was no source's name", ["a"]),
        ({"g/a.yaml": "['/b']"}, "'/b' was no source's name", ["a"]),
    ],
)
def test_a_name_of_before_that_is_not_ones_own_breaks_the_source(tmp_path, files, said, broken):
    catalogue = load(tmp_path, {name: f"{MINI}aliases: {text}\n" for name, text in files.items()})
    assert sorted(catalogue.broken) == broken
    (first, *_) = [problem for problem in catalogue.broken["a"].problems if said in problem.message]
    assert (first.file.name, first.line, first.column) == ("a.yaml", 9, 11)
