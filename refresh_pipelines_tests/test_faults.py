"""Every fault of the sandbox against every source of the built-in catalogue.

A refresh that meets a fault ends with the documented class, in bounded time and memory, says what a
person can act on, and leaves table, load state and disk as they were.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.delivery import deliver
from refresh_pipelines.errors import RefreshError, UpstreamRefused
from refresh_pipelines.fetch import Fetcher
from refresh_pipelines.parse import Notes
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.sandbox_kinds import KINDS
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines.stage import stage
from refresh_pipelines.tries import BUDGET
from refresh_pipelines.window import due_keys, window_of
from refresh_pipelines_tests.remembering import Remembering
from refresh_pipelines_tests.upstream import Clock
from refresh_pipelines_tests.workbench import NOW, Bench

CATALOGUE = load_catalogue([BUILTIN_CATALOG])
SOURCES = sorted(source for source, spec in CATALOGUE.sources.items() if not spec.request.drop and not spec.derived)
DOCS = Path(__file__).parent.parent / "docs" / "sandbox.md"
# Each fault and the class its refresh ends with; several where it is the format that notices.
FAULTS = {
    "status:500": {"transient"},
    "status:503,120": {"transient"},
    "status:503,+120": {"transient"},
    "status:503,in a while": {"transient"},
    "status:429,3": {"transient"},
    "status:403": {"permanent"},
    "status:404": {"permanent"},
    "redirect": {"permanent"},
    "redirect:http://10.0.0.1/": {"permanent"},
    "redirect:http://[::1]:1/": {"permanent"},
    "redirect_loop": {"permanent"},
    "html": {"permanent"},
    "html:data": {"permanent"},
    "echo": {"permanent"},
    "echo:200": {"permanent"},
    "echo:data": {"transient", "permanent", "contract"},
    "empty": {"transient", "permanent"},
    "json_error": {"permanent", "contract"},
    "truncate": {"transient"},
    "wrong_length": {"transient"},
    "wrong_length:50%": {"transient", "contract"},
    "cut_chunks": {"transient"},
    "cut_gzip": {"transient"},
    "bad_gzip": {"transient"},
    "unknown_encoding": {"transient"},
    "delay:1h": {"transient"},
    "stall": {"transient"},
    "drip:0.01s": {"transient"},
    "reset": {"transient"},
    "hang_up": {"transient"},
    "no_http": {"transient"},
    "huge": {"permanent"},
    "bomb": {"permanent"},
}
# These are no failures: what came is true, or is said to be.
HARMLESS = {"unmodified", "new_etag", "same_etag"}
WAITING = {"delay:1h", "stall", "drip:0.01s"}
LIMIT = 300_000


class Watched(Bench):
    """A bench that reads the load state no more often than it must, and whose clock may run ahead of the machine's."""

    clock: Clock | None = None

    def __init__(self, folder, base):
        super().__init__(folder, base)
        self.warehouse = Remembering(self.file)

    def tools(self):
        own = {"clock": self.clock} if self.clock else {}
        return replace(super().tools(), fetcher=Fetcher(self.settings, sleep=self.slept.append, **own))


def hurried(spec, fault):
    """The spec with a limit of bytes, and with little patience where a fault would use it up."""
    limits = {"max_bytes": LIMIT, **({"timeout": timedelta(seconds=0.1)} if fault in WAITING else {})}
    return spec.model_copy(update={"request": spec.request.model_copy(update=limits)})


def content(bench, spec, key, folder):
    """What a refresh would accept at this moment, without loading it."""
    window = window_of(spec, key)
    delivery = deliver(spec, window, bench.tools().fetcher, folder, None)
    return stage(spec, delivery.parts, window, folder / "rows.arrow", Notes()).content_hash


def revised_key(bench, sandbox, spec, folder):
    """The first due partition for which upstream later publishes other rows."""
    for key in due_keys(spec, NOW) or [None]:
        sandbox.revision = "good"
        good = content(bench, spec, key, folder)
        sandbox.revision = "revised"
        if content(bench, spec, key, folder) != good:
            return key
    raise AssertionError(f"no due partition of {spec.name} has revised samples")


class Case:
    """One source with its first good load, in a folder of its own."""

    def __init__(self, folder, sandbox, source, key):
        self.sandbox, self.spec, self.key = sandbox, CATALOGUE.find(source), key
        self.bench = Watched(folder, sandbox.base)

    def everything(self):
        """The warehouse, byte for byte: table, load state and all else."""
        return hashlib.sha256(self.bench.file.read_bytes()).hexdigest()

    def refresh(self, revision="revised"):
        """Refresh with an upstream that behaves."""
        self.sandbox.clear()
        self.sandbox.revision = revision
        return self.bench.refresh(self.spec, self.key)

    def meets(self, fault, **how):
        """Refresh under a fault, with upstream having something new to give; return the error or outcome."""
        self.sandbox.clear()
        self.sandbox.requests.clear()
        self.bench.slept.clear()
        self.sandbox.revision = "revised"
        self.sandbox.fault(self.spec.source, fault)
        self.bench.clock = Clock(step=0.2) if fault.startswith("drip") else None
        try:
            return self.bench.refresh(hurried(self.spec, fault), self.key, **how)
        except RefreshError as error:
            return error
        finally:
            self.sandbox.clear()


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(SAMPLES, clock=lambda: NOW) as served:
        yield served


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, sandbox):
    """Return a function from a source to its first load, which is made once and must stay as it is."""

    @lru_cache
    def load(source):
        folder, spec = tmp_path_factory.mktemp(source), CATALOGUE.find(source)
        sandbox.clear()
        key = revised_key(Watched(folder, sandbox.base), sandbox, spec, folder)
        case = Case(folder, sandbox, source, key)
        assert case.refresh("good").outcome == "loaded"
        return case

    return load


@pytest.fixture
def own(loaded, tmp_path):
    """Return a function from a source to a copy of its first load, which may be changed."""

    def copy(source):
        case = loaded(source)
        shutil.copytree(case.bench.folder, tmp_path / source)
        return Case(tmp_path / source, case.sandbox, source, case.key)

    return copy


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_fault_is_named_in_bounded_time_and_changes_nothing(loaded, source, fault):
    case = loaded(source)
    before = case.everything()
    error = case.meets(fault)
    text = str(error)
    assert isinstance(error, RefreshError), text
    assert error.error_class in FAULTS[fault], text
    assert (error.source, error.partition) == (case.spec.name, case.key)
    assert text.startswith(f"{case.spec.name}[{case.key}]: " if case.key else f"{case.spec.name}: ")
    assert error.todo and (error.expected or error.came), text
    assert "sandbox-placeholder" not in text
    assert case.everything() == before
    assert case.bench.staging() == []
    assert sum(case.bench.slept) <= BUDGET.total_seconds()
    assert 0 < len(case.sandbox.requests) <= 12
    assert {request.fault for request in case.sandbox.requests} == {fault}


@pytest.mark.parametrize("source", SOURCES)
def test_after_faults_the_revised_data_load(own, source):
    case = own(source)
    rows = case.bench.rows(case.spec.raw_table)
    for fault in ("status:503,120", "html", "wrong_length:50%"):
        assert isinstance(case.meets(fault), RefreshError)
    assert case.bench.rows(case.spec.raw_table) == rows
    outcome = case.refresh()
    assert outcome.outcome == "loaded"
    assert outcome.counts.added + outcome.counts.updated + outcome.counts.deleted > 0
    assert case.refresh().outcome == "unchanged"


@pytest.mark.parametrize("source", SOURCES)
def test_faults_that_pass_within_the_tries_are_no_failure(own, source):
    case = own(source)
    case.sandbox.revision = "revised"
    for fault in ("status:503,3", "truncate"):
        case.sandbox.fault(source, fault, times=1)
    assert case.bench.refresh(case.spec, case.key).outcome == "loaded"
    assert sum(case.bench.slept) >= 3


@pytest.mark.parametrize("source", SOURCES)
def test_a_304_is_believed_only_where_it_was_asked_for(loaded, source):
    # Nobody can know that it is a lie until the upstream stops telling it.
    case = loaded(source)
    before = case.everything()
    said = case.meets("unmodified")
    if any("If-None-Match" in request.headers for request in case.sandbox.requests):
        assert said.outcome == "unchanged"
        said = case.meets("unmodified", force=True)
        assert not any("If-None-Match" in request.headers for request in case.sandbox.requests)
    assert said.error_class == "transient"
    assert "HTTP 304" in str(said)
    assert case.everything() == before


@pytest.mark.parametrize("source", SOURCES)
def test_an_etag_that_lies_hides_no_change_and_invents_none(own, source):
    case = own(source)
    assert case.meets("same_etag").outcome == "loaded"
    assert [case.meets(fault).outcome for fault in ("same_etag", "new_etag")] == ["unchanged", "unchanged"]


@pytest.mark.parametrize("fault", ["huge", "bomb"])
def test_a_body_without_end_costs_no_more_than_its_limit(tmp_path, sandbox, fault):
    spec = CATALOGUE.find("fred_fx")
    limited = spec.model_copy(update={"request": spec.request.model_copy(update={"max_bytes": 5_000_000})})
    fetcher, window = Watched(tmp_path, sandbox.base).tools().fetcher, window_of(spec, "DEXUSEU")
    sandbox.clear()
    sandbox.fault("fred_fx", fault)
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamRefused, match="too large"):
            fetcher.fetch(limited, window, spec.request.candidates[0], tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (file,) = tmp_path.glob("payload-*")
    assert 4_000_000 < file.stat().st_size <= 5_000_000
    assert peak < 3_000_000


def test_every_kind_of_fault_is_tried():
    assert {fault.partition(":")[0] for fault in FAULTS} | HARMLESS == set(KINDS)


def test_the_documents_name_the_class_of_every_fault():
    rows = re.findall(r"^\| `([^`]+)` \|[^|]*\| ([^|]*) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {fault: set(re.findall(r"`(\w+)`", classes)) for fault, classes in rows}
    tried: dict[str, set[str]] = {}
    for fault, classes in FAULTS.items():
        kind, _, argument = fault.partition(":")
        # Statuses and echoes differ in kind; elsewhere the argument only says how much or where to.
        name = re.sub(r",.*", "", fault) if kind in ("status", "echo") or argument == "50%" else kind
        tried.setdefault(name, set()).update(classes)
    assert documented == {**tried, "unmodified": {"unchanged"}, "new_etag": {"unchanged"}, "same_etag": {"loaded"}}
