"""A planted credential is in nothing that a failed refresh says or leaves behind, whatever the upstream repeats."""

from __future__ import annotations

import html
import json
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
from refresh_pipelines_tests.remembering import Remembering
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
        bench.warehouse = Remembering(bench.file)
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


def places(spec):
    """Its own place for a source with a key; a query for the others, and for one of each kind a header."""
    if spec.request.auth:
        return ["own"]
    return ["query", "header"] if spec.source in {"worldbank_agriculture", "bsee_ogora", "ndbc_stdmet"} else ["query"]


PLANTED = [
    (source, place)
    for source, spec in sorted(CATALOGUE.sources.items())
    if not spec.request.drop and not spec.derived
    for place in places(spec)
]


@pytest.mark.parametrize(("source", "place"), PLANTED)
def test_no_fault_makes_a_refresh_tell_the_key_or_leave_it_on_disk(loaded, sandbox, source, place):
    spec, bench, key = loaded(source, place)
    for fault in FAULTS:
        sandbox.clear()
        sandbox.requests.clear()
        sandbox.fault(source, fault)
        with pytest.raises(RefreshError) as caught:
            bench.refresh(spec, key)
        assert leaks(repr([(dict(asked.query), dict(asked.headers)) for asked in sandbox.requests])), fault
        assert leaks(told(caught.value, spec, key)) == [], fault
    sandbox.clear()
    sandbox.revision = "revised"
    outcome = bench.refresh(spec, key)
    assert leaks(repr(outcome) + repr(outcome.item())) == []
    assert leaks(left(bench)) == []


@pytest.mark.parametrize(
    "written",
    [quote(SECRET), quote_plus(SECRET), html.escape(SECRET), json.dumps(SECRET), SECRET.replace("/", r"\/")],
)
def test_a_key_is_masked_however_an_answer_writes_it(loaded, sandbox, written):
    spec, bench, key = loaded("ndbc_stdmet", "query")
    sandbox.clear()
    sandbox.override(f"/www.ndbc.noaa.gov/data/realtime2/{key}.txt", f"no such key: {written}".encode(), 400)
    with pytest.raises(RefreshError) as caught:
        bench.refresh(spec, key)
    assert "no such key: " in str(caught.value)
    assert "5ecret" not in told(caught.value, spec, key)


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
