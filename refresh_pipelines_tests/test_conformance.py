"""Every source reads its own samples as declared in the tables of this folder; test_recorded reads real payloads.

At the end of a session the number of payloads that ran is printed for each source.
"""

from __future__ import annotations

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.parse import Notes
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.stage import require_rows, stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.declared_autoload import DECLARED_AUTOLOAD
from refresh_pipelines_tests.declared_benin import DECLARED_BENIN
from refresh_pipelines_tests.declared_commodities import DECLARED_COMMODITIES
from refresh_pipelines_tests.declared_worldenergy import DECLARED_WORLDENERGY
from refresh_pipelines_tests.workbench import builtin

DECLARED = {**DECLARED_AUTOLOAD, **DECLARED_BENIN, **DECLARED_COMMODITIES, **DECLARED_WORLDENERGY}
CASES = [(source, name, *declared) for source, files in DECLARED.items() for name, declared in files.items()]
# Files of a source's folder that are no payloads.
BESIDE = {"README.md", "sandbox.yaml", "datasets_E.json", "revised/datasets_E.json"}


def lacking(sources):
    """Which kinds of samples each of some sources lacks: good ones, what comes later, and what is to be refused."""
    # What lies in `drop` the sandbox has dropped: good files of sources that read a folder.
    kinds = {
        source: {
            name.partition("/")[0] if "/" in name else "good"
            for name in (declared.removeprefix("drop/") for declared in DECLARED.get(source, ()))
        }
        for source in sources
    }
    every = {"good", "revised", "bad"}
    return {source: every - found for source, found in kinds.items() if found != every}


def undeclared(source):
    """Files that are there and not declared, and the other way round; pages of one series are joined by +."""
    folder = SAMPLES / source
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - BESIDE
    return found ^ {page for name in DECLARED.get(source, ()) for page in name.split("+")}


def test_every_source_of_the_catalogue_has_good_revised_and_bad_samples():
    catalogue = load_catalogue([BUILTIN_CATALOG])
    assert not catalogue.broken
    asked = [spec.source for spec in catalogue.sources.values() if not spec.derived]
    assert lacking(asked) == {}
    assert sorted(DECLARED) == sorted(asked)


def test_a_source_that_joins_the_catalogue_without_samples_is_named():
    assert lacking(["fred_fx", "new_source"]) == {"new_source": {"good", "revised", "bad"}}


@pytest.mark.parametrize("source", sorted(DECLARED))
def test_every_sample_is_declared(source):
    assert undeclared(source) == set()


@pytest.mark.parametrize("source", sorted(DECLARED))
def test_a_sample_is_good_where_it_should_be_and_refused_where_not(source):
    for name, (_, expected) in DECLARED[source].items():
        assert isinstance(expected, str) == name.startswith("bad/"), name


@pytest.mark.parametrize(("source", "name", "partition", "expected"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_sample_gives_what_is_declared_for_it(ran, tmp_path, source, name, partition, expected):
    spec = builtin(source)
    pages = [SAMPLES / source / page for page in name.split("+")]
    for _ in pages:
        ran(source, "own")

    def staged():
        result = stage(spec, pages, window_of(spec, partition), tmp_path / "rows.arrow", Notes())
        require_rows(spec, result)
        return result.fetched, result.duplicates, result.filtered

    if isinstance(expected, str):
        with pytest.raises(RefreshError) as caught:
            staged()
        assert caught.value.error_class == expected
    else:
        assert staged() == expected
