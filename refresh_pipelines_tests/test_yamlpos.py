"""YAML with places: what is read as PyYAML reads it, and what is refused where."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.yamlpos import Mark, YamlError, read_document, read_value

FILE = Path("x.yaml")


def problems(text):
    with pytest.raises(YamlError) as caught:
        read_document(text, FILE)
    return [found[:3] for found in caught.value.found]


def test_keys_and_values_know_their_line_and_column():
    document = read_document("a: 1\nb:\n  - x\n  - {c: d}\n", FILE)
    assert document.value == {"a": 1, "b": ["x", {"c": "d"}]}
    assert document.keys[("b", 1, "c")] == Mark(FILE, 4, 6)
    assert document.values[("b", 0)] == Mark(FILE, 3, 5)
    assert document.values[("b", 1, "c")] == Mark(FILE, 4, 9)


def test_a_place_that_is_not_written_is_the_nearest_around_it():
    document = read_document("a:\n  b: 1\n", FILE)
    assert document.key_mark(("a", "x", "y")) == Mark(FILE, 1, 1)
    assert document.value_mark(("z",)) == Mark(FILE, 1, 1)


def test_quoted_codes_stay_text():
    assert read_document('a: "36061"\nb: "007"\nc: 36061', FILE).value == {"a": "36061", "b": "007", "c": 36061}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1),
        ("a:\n  c: 1\n  c: 2\n", 3, 3),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, 3),
        ("a: &x [1]\nb: *x\n", 1, 4),
        ("a: &x [*x]\n", 1, 4),
        ("no: 1\n", 1, 1),
        ("a: 1\n2024: 1\n", 2, 1),
        ("? [a]\n: 1\n", 1, 3),
        ("a: !!python/object/apply:os.system [ls]\n", 1, 4),
        ("a: !!set {b}\n", 1, 4),
        ("a: 2024-02-30\n", 1, 4),
        ("a: b: c\n", 1, 5),
        ("a:\n\tb: 1\n", 2, 1),
        ("a: 1\nb: é\x01\n", 2, 5),
        ("", 1, 1),
        ("# nothing\n", 1, 1),
        ("\n- a\n", 2, 1),
        ("a: 1\n---\nb: 1\n", 2, 1),
    ],
)
def test_what_is_refused_is_named_with_its_place(text, line, column):
    assert (line, column) in [found[:2] for found in problems(text)]


def test_every_problem_of_a_file_is_named():
    assert [found[0] for found in problems("a: 1\na: 2\nyes: 3\nb: 2024-13-01\n")] == [2, 3, 4]


def test_what_is_left_out_is_filled_and_keeps_its_own_place():
    base = read_document("a: {b: 1, c: 2}\nd: [1]\n", Path("base.yaml"))
    merged = read_document("a:\n  b: 7\nd: [2]\n", FILE).under(base, {})
    assert merged.value == {"a": {"b": 7, "c": 2}, "d": [2]}
    assert merged.keys[("a", "b")].file == FILE
    assert merged.keys[("a", "c")] == Mark(Path("base.yaml"), 1, 11)


def test_a_key_that_is_ruled_out_is_not_filled():
    base = read_document("url: x\nother: y\n", FILE)
    merged = read_document("urls: [a]\n", FILE).under(base, {(): {"urls": ("url",)}})
    assert merged.value == {"urls": ["a"], "other": "y"}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


@given(st.dictionaries(st.text(max_size=6), plain, max_size=4))
def test_what_is_read_is_what_pyyaml_reads(data):
    text = yaml.dump(data, Dumper=NoAliases, allow_unicode=True)
    document = read_document(text, FILE)
    assert document.value == yaml.safe_load(text)
    assert set(document.keys) <= set(document.values)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_place_in_it(text):
    try:
        found = [(mark.line, mark.column) for mark in read_document(text, FILE).values.values()]
    except YamlError as error:
        found = [place[:2] for place in error.found]
    assert found
    assert all(line >= 1 and column >= 1 for line, column in found)


def test_a_single_value_is_read_as_in_a_file():
    assert read_value("[a, 7, '7']") == ["a", 7, "7"]
    assert read_value("") is None
    with pytest.raises(YamlError):
        read_value("[a")
