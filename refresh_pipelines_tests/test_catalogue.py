"""What a catalogue folder gives, and that no problem of one file reaches another source."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.catalogue import BrokenSource, Problem, UnknownSource, load_catalogue
from refresh_pipelines.settings import BUILTIN_CATALOG
from refresh_pipelines_tests.catalogues import MINI, errors, load, write

FRED = (BUILTIN_CATALOG / "commodities/fred_fx.yaml").read_text()


def test_the_builtin_catalogue_has_no_errors():
    catalogue = load_catalogue([BUILTIN_CATALOG])
    assert errors(catalogue) == []
    assert {"fred_fx", "bsee_ogora"} <= set(catalogue.sources)
    assert catalogue.broken == {}


def test_sources_are_ordered_by_group_then_name(tmp_path):
    catalogue = load(tmp_path, {"b/z.yaml": MINI, "b/a.yaml": MINI, "a/m.yaml": MINI})
    assert [spec.name for spec in catalogue.sources.values()] == ["a/m", "b/a", "b/z"]
    assert list(catalogue.sources) == ["m", "a", "z"]


def test_a_problem_reads_as_compilers_write_it():
    assert str(Problem(Path("a/b.yaml"), 3, 7, "bad", "do this")) == "a/b.yaml:3:7: bad (do this)"
    assert str(Problem(Path("a/b.yaml"), 3, 7, "bad")) == "a/b.yaml:3:7: bad"


def test_one_broken_file_leaves_the_others_alone(tmp_path):
    catalogue = load(tmp_path, {"g/good.yaml": MINI, "g/bad.yaml": MINI + "colour: red\n", "g/worse.yaml": "a: [\n"})
    assert list(catalogue.sources) == ["good"]
    assert sorted(catalogue.broken) == ["bad", "worse"]


def test_defaults_and_group_fill_what_a_source_leaves_out(tmp_path):
    files = {
        "defaults.yaml": "owner: team:all\nretry: {attempts: 2, delay: 5s}\n",
        "g/group.yaml": "owner: team:g\nparams: {sites: [a, b]}\nrequest: {timeout: 5s}\n",
        "g/a.yaml": MINI + "retry: {delay: 9s}\n",
        "h/b.yaml": MINI,
    }
    catalogue = load(tmp_path, files)
    assert catalogue.problems == ()
    a, b = catalogue.sources["a"], catalogue.sources["b"]
    assert (a.owner, b.owner) == ("team:g", "team:all")
    assert (a.retry.attempts, a.retry.delay.seconds) == (2, 9)
    assert a.params == {"sites": ["a", "b"]}
    assert a.request.timeout.seconds == 5


def test_a_default_frequency_does_not_join_a_sources_cron(tmp_path):
    files = {
        "defaults.yaml": "schedule: {frequency: weekly, day: friday, timezone: Europe/Berlin}\n",
        "g/a.yaml": MINI.replace("{frequency: daily}", '{cron: "5 4 * * *"}'),
        "g/b.yaml": MINI,
    }
    catalogue = load(tmp_path, files)
    assert catalogue.problems == ()
    assert catalogue.sources["a"].schedule.cron == "5 4 * * *"
    assert {spec.schedule.timezone for spec in catalogue.sources.values()} == {"Europe/Berlin"}


def test_a_problem_in_the_defaults_stands_there_once(tmp_path):
    files = {"defaults.yaml": "a_typo: 1\npriority: 2\n", "g/a.yaml": MINI, "g/b.yaml": MINI}
    catalogue = load(tmp_path, files)
    assert [(p.file.name, p.line, p.severity) for p in catalogue.problems] == [("defaults.yaml", 1, "error")]
    assert sorted(catalogue.broken) == ["a", "b"]


def test_sources_of_unreadable_defaults_are_not_loaded_without_them(tmp_path):
    catalogue = load(tmp_path, {"g/group.yaml": "a: [", "g/a.yaml": MINI, "h/b.yaml": MINI})
    assert list(catalogue.sources) == ["b"]
    assert len(errors(catalogue)) == 1
    assert catalogue.broken["a"].problems[0].file.name == "group.yaml"


def test_a_param_is_set_from_the_environment(tmp_path):
    files = {"g/group.yaml": "params: {sites: [a], limit: 5, name: x}\n", "g/a.yaml": MINI}
    environ = {"REFRESH_PARAM_G_SITES": "[b, 'c']", "REFRESH_PARAM_G_LIMIT": "7", "REFRESH_PARAM_G_NAME": ""}
    catalogue = load(tmp_path, files, environ)
    assert catalogue.problems == ()
    assert catalogue.sources["a"].params == {"sites": ["b", "c"], "limit": 7, "name": "x"}


def test_a_param_that_nobody_declares_is_noted(tmp_path):
    catalogue = load(tmp_path, {"g/a.yaml": MINI + "params: {limit: 5}\n"}, {"REFRESH_PARAM_G_LIMITS": "7"})
    (note,) = catalogue.problems
    assert note.severity == "note"
    assert "REFRESH_PARAM_G_LIMIT?" in note.hint


@pytest.mark.parametrize("value", ["{a: 1}", "[zzz", "[[a]]", "*x"])
def test_a_param_that_cannot_be_used_breaks_its_source_without_showing_it(tmp_path, value):
    catalogue = load(tmp_path, {"g/a.yaml": MINI + "params: {limit: 5}\n"}, {"REFRESH_PARAM_G_LIMIT": value})
    (problem,) = catalogue.broken["a"].problems
    assert (problem.line, problem.column) == (9, 17)
    assert value not in str(problem)


# Lists of params that stand for keys.

KEYED = MINI.replace(
    'url: "https://example.org/data.csv"', 'url: "https://example.org/{site}.csv", each: {site: "{sites}"}'
)
STATIC = MINI.replace("data.csv", "{site}.csv") + 'partitions: {static: {site: "{sites}"}}\n'
GROUP = "params: {sites: [a, b]}\n"


def listed(spec):
    return spec.request.each.values if spec.request.each else spec.partitions.static["site"]


@pytest.mark.parametrize("text", [KEYED, STATIC])
@pytest.mark.parametrize(
    ("files", "environ", "values"),
    [
        ({"g/group.yaml": GROUP}, {}, ("a", "b")),
        ({"defaults.yaml": GROUP}, {}, ("a", "b")),
        ({"g/group.yaml": GROUP}, {"REFRESH_PARAM_G_SITES": "[c, '44013']"}, ("c", "44013")),
        ({"g/group.yaml": GROUP}, {"REFRESH_PARAM_G_SITES": "[c]", "REFRESH_PARAM_H_SITES": "[d]"}, ("c",)),
        ({"defaults.yaml": "params: {sites: [x]}\n", "g/group.yaml": GROUP}, {}, ("a", "b")),
    ],
)
def test_keys_come_from_a_list_of_the_group_or_of_the_environment(tmp_path, text, files, environ, values):
    catalogue = load(tmp_path, {**files, "g/a.yaml": text}, environ)
    assert errors(catalogue) == []
    assert listed(catalogue.sources["a"]) == values


@pytest.mark.parametrize("text", [KEYED, STATIC])
def test_a_sources_own_list_wins_over_the_groups(tmp_path, text):
    catalogue = load(tmp_path, {"g/group.yaml": GROUP, "g/a.yaml": text + "params: {sites: [own]}\n"})
    assert listed(catalogue.sources["a"]) == ("own",)


@pytest.mark.parametrize(
    ("value", "of_each", "of_static"),
    [
        ("c", "{sites} is no list of the params", "{sites} is no list of the params"),
        ("[44013, 44025]", "site must be a list of texts", "static.site must be text (put it in quotes)"),
        ("[]", "site must be a list of texts", "needs a plain name and a list of different keys"),
        ("[a, a]", "site names a value twice", "needs a plain name and a list of different keys"),
        ("[a, null]", "site must be a list of texts", "static.site must be text"),
        ("[[a]]", "REFRESH_PARAM_G_SITES holds neither", "REFRESH_PARAM_G_SITES holds neither"),
    ],
)
def test_a_list_of_the_environment_that_will_not_do_breaks_the_source(tmp_path, value, of_each, of_static):
    files = {"g/group.yaml": GROUP, "g/keyed.yaml": KEYED, "g/static.yaml": STATIC, "g/good.yaml": MINI}
    catalogue = load(tmp_path, files, {"REFRESH_PARAM_G_SITES": value})
    assert "good" in catalogue.sources or value == "[[a]]"  # which the group gives to each of its sources
    for source, said in (("keyed", of_each), ("static", of_static)):
        assert any(said in str(problem) for problem in catalogue.broken[source].problems), catalogue.problems


@pytest.mark.parametrize("text", [KEYED, STATIC])
def test_a_list_that_nobody_declares_is_named_with_the_nearest(tmp_path, text):
    catalogue = load(tmp_path, {"g/group.yaml": GROUP, "g/a.yaml": text.replace("{sites}", "{site}")})
    problem = next(p for p in catalogue.broken["a"].problems if "no list of the params" in p.message)
    assert problem.message == "{site} is no list of the params" and "did you mean sites?" in problem.hint
    line = text.splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith('"{sites}"')


@pytest.mark.parametrize("text", [KEYED, STATIC])
def test_without_any_list_the_hint_says_how_to_write_one(tmp_path, text):
    catalogue = load(tmp_path, {"g/a.yaml": text})
    problem = next(p for p in catalogue.broken["a"].problems if "no list of the params" in p.message)
    assert problem.hint == "write the keys as a list, or the list under params"


def test_a_text_that_is_more_than_a_field_is_no_list(tmp_path):
    text = STATIC.replace('"{sites}"', '"x{sites}"')
    assert "a" in load(tmp_path, {"g/group.yaml": GROUP, "g/a.yaml": text}).broken


def test_a_source_is_found_by_either_name():
    catalogue = load_catalogue([BUILTIN_CATALOG])
    assert catalogue.find("fred_fx") is catalogue.find("commodities/fred_fx")


@pytest.mark.parametrize(("name", "near"), [("fred_fy", "fred_fx"), ("meteo/fred_fx", "commodities/fred_fx")])
def test_an_unknown_source_names_the_nearest(name, near):
    with pytest.raises(UnknownSource, match=f"did you mean {near}"):
        load_catalogue([BUILTIN_CATALOG]).find(name)


def test_a_broken_source_is_found_with_its_problems(tmp_path):
    catalogue = load(tmp_path, {"g/a.yaml": MINI + "colour: red\n"})
    with pytest.raises(BrokenSource, match="unknown key colour") as caught:
        catalogue.find("a")
    assert caught.value.problems == catalogue.broken["a"].problems


def test_sources_are_selected_by_name_and_group(tmp_path):
    catalogue = load(tmp_path, {"g/a.yaml": MINI, "g/b.yaml": MINI, "h/c.yaml": MINI})
    assert [spec.source for spec in catalogue.select()] == ["a", "b", "c"]
    assert [spec.source for spec in catalogue.select(["c", "g/a", "a"])] == ["c", "a"]
    assert [spec.source for spec in catalogue.select([], "g")] == ["a", "b"]
    with pytest.raises(UnknownSource, match="group"):
        catalogue.select([], "x")


def test_a_thousand_sources_are_read_in_seconds(tmp_path):
    write(tmp_path, {f"g{i % 10}/s{i}.yaml": FRED.replace("table: fred_economic\n", "") for i in range(200)})
    before = os.times().user
    assert len(load_catalogue([tmp_path]).sources) == 200
    # Generous, for a busy machine: usually 0.4 s of processor time, so 2 s for a thousand.
    assert os.times().user - before < 3


KEYS = st.sampled_from(
    ["request", "format", "columns", "schedule", "partitions", "retry", "load", "params", "merge_key"]
)
JUNK = st.sampled_from(
    [
        *(
            "null",
            "7",
            "text",
            "[a]",
            "[[a]]",
            "{a: b}",
            "{a: {b: c}}",
            '"{"',
            "true",
            "2024-01-01",
            "99999999999999999d",
        ),
        *("{delay: 99999999999999d}", "{url: 'https://[::1'}", "{url: '//{'}", "{start: x}", "{day: {from: '{0}'}}"),
        "{day: {type: date, from: '{0}'}}",
    ]
)


@given(st.dictionaries(KEYS, JUNK, min_size=1, max_size=3))
def test_no_value_anywhere_stops_the_catalogue(tmp_path_factory, junk):
    lines = [line for line in FRED.splitlines() if not line.startswith(tuple(junk))]
    text = "\n".join([*lines, *(f"{key}: {value}" for key, value in junk.items())])
    catalogue = load(tmp_path_factory.mktemp("c"), {"g/junk.yaml": text, "g/good.yaml": MINI})
    assert "good" in catalogue.sources
    assert ("junk" in catalogue.sources) != ("junk" in catalogue.broken)
    assert all(p.line >= 1 and p.column >= 1 for p in catalogue.problems)
