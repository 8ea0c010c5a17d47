"""Every built-in source against every kind of bad payload: the verdict is the one of docs/nasty-payloads.md.

The page is the expectation: what it says of a kind must hold for every source, and every kind must be on it.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines_tests.nasty import KINDS, ZIPPED, Good, Objects, corrected
from refresh_pipelines_tests.nasty_child import enlarged
from refresh_pipelines_tests.workbench import NOW, Bench, builtin, start

PAGE = Path(__file__).resolve().parent.parent / "docs" / "nasty-payloads.md"
# Those that ask an address; what is dropped, and what is made of other sources, has tests of its own.
PARTITIONS = {
    "bsee_ogora": "2025-01-01",
    "cftc_cot": "007601",
    "cftc_cot_history": "2025-01-01",
    "faostat": "QCL",
    "fred_conditions": "NFCI",
    "fred_fx": "DEXUSEU",
    "fred_rates": "DGS10",
    "ndbc_stdmet": "44013",
    "ndbc_stdmet_history": "2025-01-01|44013",
    "sodir_facilities": None,
    "sodir_field_production": None,
    "worldbank_agriculture": "AG.LND.ARBL.ZS",
    "worldbank_business": "IC.BUS.NDNS.ZS",
    "worldbank_employment": "SL.UEM.TOTL.ZS",
}
SIGNAL = SAMPLES / "faostat/datasets_E.json"
REFUSED = {"transient", "permanent", "contract", "quarantined"}
ROWS = 24  # of fewer than twenty no share is judged


def documented() -> dict[str, dict[str, str]]:
    """By kind the verdict of each source, as the page has it; the key "" is that of all the others."""
    out = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[1].startswith("`"):
            verdicts = {"": cells[1].strip("`")}
            for verdict, sources in re.findall(r"`(\w+)`: ([a-z_, ]+)", cells[2]):
                verdicts |= dict.fromkeys(sources.split(", "), verdict)
            out[cells[0]] = verdicts
    return out


DOCUMENTED = documented()


class Rig:
    """One warehouse and one upstream for all sources; each is loaded thrice before anything bad comes."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.bench, self.sandbox = Bench(folder, sandbox.base), sandbox
        self.targets: dict[str, tuple[str, Good]] = {}
        self.served = 0

    def ready(self, source: str) -> tuple[str, Good]:
        if source not in self.targets:
            spec, key = builtin(source), PARTITIONS[source]
            self.sandbox.clear()
            self.bench.refresh(spec, key)
            asked = self.sandbox.requests[-1]
            series = asked.query.get("series_id")
            target = asked.path + (f"?series_id={series}" if series else "")
            body = self.sandbox.answer("GET", f"{quote(asked.path)}?{urlencode(asked.query)}", {})[0].body
            self.targets[source] = target, self._grown(Good(spec, body))
            for body in (self.targets[source][1].body, corrected(self.targets[source][1])) * 2:
                self.load(source, body)
            self.load(source)
        return self.targets[source]

    def _grown(self, good: Good) -> Good:
        table = good.table
        if not isinstance(table, Objects):
            return good
        table.grow(ROWS)
        return Good(good.spec, table.write())

    def load(self, source: str, body: bytes | None = None) -> None:
        """Bring the table back to the good payload, or to another that is as good."""
        target, good = self.targets[source]
        self.serve(target, good.body if body is None else body)
        self.bench.refresh(builtin(source), PARTITIONS[source], force=True)

    def serve(self, target: str, body: bytes) -> None:
        self.sandbox.clear()
        self.sandbox.override(target, body)
        self.served += 1
        # A catalogue that names a new edition each time, or the file would not be asked for.
        day = (NOW.date() - timedelta(days=self.served)).isoformat()
        catalogue = re.sub(r'"DateUpdate": "[0-9-]+"', f'"DateUpdate": "{day}"', SIGNAL.read_text())
        self.sandbox.override("/bulks-faostat.fao.org/production/datasets_E.json", catalogue.encode())

    def held(self, source: str) -> tuple[list[tuple], object]:
        return self.bench.rows(builtin(source).raw_table), self.bench.warehouse.states(source)[0]

    def verdict(self, source: str, small: bool) -> tuple[str, str]:
        spec = builtin(source)
        if small:
            spec = spec.model_copy(update={"request": spec.request.model_copy(update={"max_unpacked": 20_000_000})})
        try:
            outcome = self.bench.refresh(spec, PARTITIONS[source])
        except RefreshError as error:
            return error.error_class, str(error)
        return outcome.outcome, outcome.message or ""


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Sandbox(SAMPLES, clock=lambda: NOW) as sandbox:
        yield Rig(tmp_path_factory.mktemp("nasty"), sandbox)


def test_the_page_has_every_kind_and_names_only_sources_that_there_are():
    assert set(DOCUMENTED) == {*KINDS, *ZIPPED}
    assert {source for verdicts in DOCUMENTED.values() for source in verdicts} <= {"", *PARTITIONS}


def test_every_source_that_asks_an_address_is_here():
    catalogue = {path.stem for path in SAMPLES.iterdir() if (path / "sandbox.yaml").exists()}
    assert set(PARTITIONS) == {name for name in catalogue if not builtin(name).request.drop}


@pytest.mark.parametrize("kind", [*KINDS, *ZIPPED])
@pytest.mark.parametrize("source", PARTITIONS)
def test_a_bad_payload_gets_the_documented_verdict_and_changes_no_row_unless_it_is_loaded(rig, source, kind):
    target, good = rig.ready(source)
    if kind in ZIPPED and not good.zipped:
        return  # no archive to be nasty with
    rig.serve(target, {**KINDS, **ZIPPED}[kind](good))
    before = rig.held(source)
    verdict, message = rig.verdict(source, small=kind == "zip bomb")
    after = rig.held(source)
    if after != before:
        rig.load(source)
    assert verdict == DOCUMENTED[kind].get(source, DOCUMENTED[kind][""]), message
    if verdict in REFUSED:
        assert after == before
        assert source in message and len(message) < 8_000 and "Traceback" not in message
    elif verdict == "unchanged":
        assert after[0] == before[0]


def test_a_member_that_points_elsewhere_is_read_and_written_nowhere(rig):
    target, good = rig.ready("sodir_facilities")
    around = rig.bench.folder.parent.parent
    seen = {path for path in around.glob("*") if path.name == good.member}
    rig.serve(target, ZIPPED["path escape"](good))
    assert rig.verdict("sodir_facilities", small=False)[0] == "unchanged"
    assert set(around.rglob(good.member)) == seen


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("source", "file", "times", "most"),
    [
        ("bsee_ogora", "ogora2025delimit.zip", 1500, 200),
        ("sodir_field_production", "field_production_monthly.csv", 1000, 200),
    ],
)
def test_memory_stays_bounded_for_a_payload_of_a_thousand_times_the_rows(tmp_path, source, file, times, most):
    good = Good(builtin(source), (SAMPLES / source / file).read_bytes())
    (tmp_path / "large").write_bytes(enlarged(good, times))
    child = start("nasty_child", source, PARTITIONS[source] or "", tmp_path, times)
    verdict, grown = child.communicate(timeout=120)[0].split()
    assert verdict in {"loaded", "quarantined"}
    assert int(grown) < most
