"""A catalogue that is asked before the payload: what it spares, when it is not believed, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from refresh_pipelines.catalogue import load_catalogue
from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.outcome import Counts
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import BUILTIN_CATALOG, SAMPLES
from refresh_pipelines_tests.workbench import Bench, builtin

FAO, SOURCE = builtin("faostat"), SAMPLES / "faostat"
PLACE = "/bulks-faostat.fao.org/production"
CATALOGUE, QCL = f"{PLACE}/datasets_E.json", f"{PLACE}/Production_Crops_Livestock_E_All_Data_(Normalized).zip"
# Asked for every third refresh, whatever the catalogue says.
DISTRUSTFUL = FAO.model_copy(update={"request": FAO.request.model_copy(update={"verify_every": 3})})


@pytest.fixture
def sandbox():
    with Sandbox([SAMPLES]) as running:
        yield running


@pytest.fixture
def bench(sandbox, tmp_path):
    return Bench(tmp_path, sandbox.base)


def asked(sandbox):
    """What was asked since the last look: c for the catalogue, d for data."""
    paths = [request.path for request in sandbox.requests]
    sandbox.requests.clear()
    return "".join("c" if path == CATALOGUE else "d" for path in paths)


def catalogue(change):
    """The catalogue with something done to the entry of QCL."""
    document = json.loads((SOURCE / "datasets_E.json").read_text())
    entries = document["Datasets"]["Dataset"]
    document["Datasets"]["Dataset"] = change(entries, next(one for one in entries if one["DatasetCode"] == "QCL"))
    return json.dumps(document).encode()


def with_values(**values):
    return catalogue(lambda entries, entry: entry.update(values) or entries)


def test_while_the_catalogue_says_the_same_the_payload_is_not_asked_for(bench, sandbox):
    first = bench.refresh(FAO, "QCL")
    assert (first.outcome, first.counts, asked(sandbox)) == ("loaded", Counts(fetched=27, added=27, filtered=81), "cd")
    second = bench.refresh(FAO, "QCL")
    assert (second.outcome, second.data_version, asked(sandbox)) == ("unchanged", first.data_version, "c")
    assert second.bytes_saved == first.bytes > 0
    assert second.validators == "not modified believed (change signal); 1 believed since it was verified"


def test_a_new_edition_is_fetched_and_loaded_once(bench, tmp_path):
    with Sandbox([SAMPLES]) as good:
        bench = Bench(tmp_path, good.base)
        bench.refresh(FAO, "QCL")
    with Sandbox([SAMPLES], revision="revised") as later:
        bench = Bench(tmp_path, later.base)
        outcome = bench.refresh(FAO, "QCL")
        assert outcome.counts == Counts(fetched=27, added=1, updated=1, unchanged=25, deleted=1, filtered=81)
        assert bench.refresh(FAO, "QCL").outcome == "unchanged"
        assert asked(later) == "cdc"


def test_a_new_day_with_the_old_bytes_is_unchanged(bench, sandbox):
    bench.refresh(FAO, "QCL")
    sandbox.override(CATALOGUE, with_values(DateUpdate="2026-09-09"))
    asked(sandbox)
    assert [bench.refresh(FAO, "QCL").outcome for _ in range(2)] == ["unchanged", "unchanged"]
    # The file itself is asked whether it is another one, and answers 304 without a body.
    assert asked(sandbox) == "cdcd"


def test_the_signal_is_verified_and_one_that_lied_is_not_believed_again(bench, sandbox):
    bench.refresh(DISTRUSTFUL, "QCL")
    sandbox.override(QCL, (SOURCE / "revised" / "QCL.zip").read_bytes())  # and the catalogue says nothing
    outcomes = [bench.refresh(DISTRUSTFUL, "QCL") for _ in range(3)]
    assert [one.outcome for one in outcomes] == ["unchanged", "unchanged", "loaded"]
    assert "the upstream's change signal stayed the same while the content changed" in "; ".join(outcomes[2].notes)
    asked(sandbox)
    bench.refresh(DISTRUSTFUL, "QCL")
    assert asked(sandbox) == "cd"


def test_a_signal_that_told_the_truth_is_told_so_when_it_is_verified(bench, sandbox):
    bench.refresh(DISTRUSTFUL, "QCL")
    outcomes = [bench.refresh(DISTRUSTFUL, "QCL") for _ in range(3)]
    assert outcomes[2].validators == "not modified verified: the body is the same"
    assert asked(sandbox) == "cd" + "c" + "c" + "ccd"


def test_force_asks_for_the_payload_whatever_the_catalogue_says(bench, sandbox):
    bench.refresh(FAO, "QCL")
    asked(sandbox)
    assert bench.refresh(FAO, "QCL", force=True).outcome == "unchanged"
    assert asked(sandbox) == "cd"


def test_each_partition_hears_of_its_own_entry(bench, sandbox):
    for domain in ("QCL", "RL"):
        bench.refresh(FAO, domain)
    sandbox.override(CATALOGUE, with_values(DateUpdate="2026-09-09"))
    asked(sandbox)
    bench.refresh(FAO, "RL")
    assert asked(sandbox) == "c"


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (b"<html>login</html>", UpstreamRefused, "the catalogue is not there"),
        (b'{"Datasets": {"Data', UpstreamUnavailable, "the catalogue: the answer is no complete JSON document"),
        (b'{"Datasets": {}}', ContractViolation, "holds no list of entries; expected a list at Datasets.Dataset"),
        (catalogue(lambda entries, entry: [one for one in entries if one is not entry]), ContractViolation,
         "expected one entry with DatasetCode QCL (request.signal.where); got 0 of 7 entries"),
        (catalogue(lambda entries, entry: [*entries, entry]), ContractViolation, "got 2 of 9 entries"),
        (with_values(DateUpdate=None), ContractViolation, "the catalogue's entry has no DateUpdate"),
        (with_values(FileSize={"KB": 3}), ContractViolation, "the catalogue's entry has no FileSize"),
        (with_values(FileLocation="https://other.example.org/QCL.zip"), UpstreamRefused,
         "lists an address on another host; expected bulks-faostat.fao.org; got other.example.org"),
        (with_values(FileLocation="https://[oops"), UpstreamRefused, "lists an address on another host"),
    ],
)  # fmt: skip
def test_trouble_with_the_catalogue_is_told_and_loads_nothing(bench, sandbox, body, error, said):
    bench.refresh(FAO, "QCL")
    before = bench.rows("faostat_observation")
    sandbox.override(CATALOGUE, body)
    asked(sandbox)
    with pytest.raises(error) as caught:
        bench.refresh(FAO, "QCL")
    assert said in str(caught.value)
    assert str(caught.value).startswith("benin/faostat[QCL]: ")
    assert (bench.rows("faostat_observation"), asked(sandbox).strip("c")) == (before, "")


@pytest.mark.parametrize("path", [CATALOGUE, QCL])
def test_a_firewalls_page_under_403_is_refused_and_not_tried_again(bench, sandbox, path):
    sandbox.override(path, (SOURCE / "bad" / "firewall.html").read_bytes(), 403, {"Content-Type": "text/html"})
    with pytest.raises(RefreshError) as caught:
        bench.refresh(FAO, "QCL")
    assert (caught.value.error_class, bench.slept) == ("permanent", [])
    assert "HTTP 403" in str(caught.value)


def test_a_catalogue_that_is_gone_is_no_unpublished_period(bench, sandbox):
    sandbox.override(CATALOGUE, b"", 404)
    with pytest.raises(UpstreamRefused, match="the catalogue is not there"):
        bench.refresh(FAO, "QCL")


def test_an_address_written_with_http_is_asked_by_https(bench, sandbox):
    sandbox.override(CATALOGUE, with_values(FileLocation=f"http:/{QCL}"))
    assert bench.refresh(FAO, "QCL").outcome == "loaded"
    [state] = bench.warehouse.states("faostat")[0].values()
    assert state.url.startswith("https://bulks-faostat.fao.org/production/Production_Crops")
    assert state.signal.startswith("2026-01-15 2KB https://")


YAML = (BUILTIN_CATALOG / "benin" / "faostat.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://bulks", "http://bulks", "http sends requests and answers in the open"),
        ("https://bulks-faostat.fao.org", "https://10.0.0.7", "is a private or local address"),
        ("    address: FileLocation", "", "request needs exactly one of url, urls and drop"),
        ("  timeout", '  url: "https://example.org/x"\n  timeout', "stands in place of url, urls and drop"),
        ("  timeout", "  paging: {kind: link}\n  timeout", "a signal does not go with paging"),
        ("  timeout", "  each: {site: [a, b]}\n  timeout", "a signal does not go with each"),
        ("  timeout", "  method: POST\n  timeout", "a signal does not go with POST"),
        ('{DatasetCode: "{domain}"}', '{DatasetCode: "{domin}"}', "{domin} is not known here (did you mean domain?)"),
        ('"{faostat_area}"', '"{area}"', "{area} is not known here"),
        ("value: [DateUpdate, FileSize]", "value: []", "value"),
        ('Area Code: "{faostat_area}"', "Area Code: 53", "where: Area Code must be a text or a list of texts"),
        ("  kind: csv\n  archive: zip\n", "  kind: xlsx\n", "where does not go with XLSX and layouts"),
        ("'(\\d{4})$'", "'\\d{4}$'", "extract needs one group in brackets, not 0"),
        ("'(\\d{4})$'", "'(?=x)(a)'", "which RE2 does not know"),
    ],
)
def test_a_signal_that_cannot_work_is_said_before_anything_is_asked(tmp_path, old, new, said):
    assert old in YAML
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "group.yaml").write_text('params: {faostat_area: "53"}')
    (tmp_path / "g" / "fao.yaml").write_text(YAML.replace(old, new, 1))
    found = load_catalogue([tmp_path])
    assert said in "\n".join(map(str, found.problems))
    assert not found.sources
