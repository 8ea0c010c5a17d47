"""A planted credential is in nothing that a failed refresh says or leaves behind, whatever the upstream repeats."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote, quote_plus

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.outcome import failed
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.spec import Auth
from refresh_pipelines.window import due_keys
from refresh_pipelines_tests.workbench import NOW, Bench

CATALOGUE = load_catalogue([BUILTIN_CATALOG])
SECRET = "pl+nted/5ecret=&42~key"
FORMS = {SECRET, quote(SECRET), quote(SECRET, safe=""), quote_plus(SECRET)}
FAULTS = [
    "echo", "echo:401", "echo:500", "echo:200", "echo:data", "status:403", "status:500,7", "reset", "hang_up",
    "truncate", "wrong_length:50%", "redirect", "redirect_loop", "html", "json_error", "bad_gzip", "huge",
]  # fmt: skip
# Where a source has no key of its own it is given one, under names that say nothing to a redactor.
PLACES = {"query": {"query": "appid"}, "header": {"header": "X-Station", "prefix": "Token "}}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


def keyed(source, place):
    spec = CATALOGUE.find(source)
    auth = spec.request.auth if place == "own" else Auth(env="PLANTED", **PLACES[place])
    limits = {"auth": auth, "max_bytes": 300_000}
    return spec.model_copy(update={"request": spec.request.model_copy(update=limits)})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, sandbox):
    """Return a function from source and place to a bench whose first load was made with the planted key."""

    @lru_cache
    def load(source, place):
        spec, bench = keyed(source, place), Bench(tmp_path_factory.mktemp(source), sandbox.base)
        bench.settings = replace(bench.settings, environ={spec.request.auth.env: SECRET})
        sandbox.clear()
        sandbox.revision = "good"
        key = next(iter(due_keys(spec, NOW)), None)
        assert bench.refresh(spec, key).outcome == "loaded"
        return spec, bench, key

    return load


def behind(error):
    """An exception with everything it is chained to."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def told(error, spec, key):
    """All texts in which a person, a log or an event could show the error."""
    texts = [str(error), repr(error), "".join(traceback.format_exception(error)), repr(failed(spec, key, error))]
    for each in behind(error):
        texts += [str(each), repr(each), repr(vars(each)) if isinstance(each, RefreshError) else ""]
    return "\n".join(texts)


def left(bench):
    """Every byte below the data folder."""
    return b"\n".join(path.read_bytes() for path in bench.folder.rglob("*") if path.is_file())


def leaks(text):
    found = text if isinstance(text, str) else text.decode("latin-1")
    return [form for form in FORMS if form in found]


PLANTED = [
    (source, place)
    for source, spec in sorted(CATALOGUE.sources.items())
    for place in (["own"] if spec.request.auth else PLACES)
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("source", "place"), PLANTED)
def test_no_fault_makes_a_refresh_tell_the_key(loaded, sandbox, source, place, fault):
    spec, bench, key = loaded(source, place)
    sandbox.clear()
    sandbox.requests.clear()
    sandbox.fault(source, fault)
    with pytest.raises(RefreshError) as caught:
        bench.refresh(spec, key)
    assert leaks(repr([(dict(asked.query), dict(asked.headers)) for asked in sandbox.requests]))
    assert leaks(told(caught.value, spec, key)) == []


@pytest.mark.parametrize(("source", "place"), PLANTED)
def test_nothing_on_disk_holds_the_key(loaded, sandbox, tmp_path, source, place):
    spec, bench, key = loaded(source, place)
    for fault in FAULTS:
        sandbox.clear()
        sandbox.fault(source, fault)
        with pytest.raises(RefreshError):
            bench.refresh(spec, key)
    sandbox.clear()
    sandbox.revision = "revised"
    shutil.copytree(bench.folder, tmp_path / "copy")
    again = Bench(tmp_path / "copy", sandbox.base)
    again.settings = replace(again.settings, environ=bench.settings.environ)
    outcome = again.refresh(spec, key)
    assert leaks(repr(outcome) + repr(outcome.item())) == []
    assert leaks(left(bench)) == []
    assert leaks(left(again)) == []


@pytest.mark.parametrize("before", range(92, 122, 3))
@pytest.mark.parametrize("status", [200, 400])
def test_no_part_of_the_key_is_told_where_an_answer_is_cut(loaded, sandbox, before, status):
    spec, bench, key = loaded("ndbc_stdmet", "query")
    sandbox.clear()
    start = b"<html>" if status == 200 else b""
    body = start + b"x" * before + b" " + SECRET.encode() + b" the end"
    sandbox.override(f"/www.ndbc.noaa.gov/data/realtime2/{key}.txt", body, status)
    with pytest.raises(RefreshError) as caught:
        bench.refresh(spec, key)
    assert "xxxx" in str(caught.value)
    assert SECRET[:4] not in told(caught.value, spec, key)
