"""Recorded answers that are no data, or another source's: refused by `refresh parse` with the verdict they should get.

The verdicts are those of the failure catalogue of the upstreams: refused, malformed, or another layout.
"""

from __future__ import annotations

import pytest

from refresh_pipelines.errors import LONGEST, WrongPeriod
from refresh_pipelines.parse import Notes
from refresh_pipelines.stage import stage
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.recorded import FRED, READ, WORLD_BANK, packed, parsed, recorded
from refresh_pipelines_tests.workbench import builtin

PARTITIONS = {
    "bsee_ogora": "2023-01-01",
    "cloudtrail": "2026-11-22",
    "cftc_cot": "007601",
    "cftc_cot_history": "2021-01-01",
    "faostat": "FS",
    "fred_conditions": "NFCI",
    "fred_fx": "DEXUSEU",
    "fred_rates": "DGS10",
    "instad_survey": "2026-11-22",
    "ndbc_stdmet": "44013",
    "ndbc_stdmet_history": "2020-01-01|tplm2",
    "sodir_facilities": None,
    "sodir_field_production": None,
    "worldbank_agriculture": "AG.YLD.CREL.KG",
    "worldbank_business": "IC.BUS.NDNS.ZS",
    "worldbank_employment": "SL.UEM.TOTL.ZS",
}
MISSING, PAGE, MEMBER = "is missing from the payload", "is a web page", "does not hold the declared member"
# Source, payload, class of the error, words of its message. Those of two archives were recorded unpacked, and are
# packed again under the member's name that the source declares.
FAULTS = [
    *((source, "fred/fault-400-bad-api-key.json", "permanent", "is not registered") for source in FRED),
    *((source, "worldbank/fault-200-invalid-indicator.json", "permanent", "Invalid value") for source in WORLD_BANK),
    *((source, "worldbank/fault-400-invalid-source.html", "permanent", PAGE) for source in WORLD_BANK),
    *((source, "worldbank/countries-page1.json", "contract", MISSING) for source in WORLD_BANK),
    ("ndbc_stdmet", "ndbc/station_realtime-41013.html", "permanent", PAGE),
    ("ndbc_stdmet", "ndbc/realtime2-44013.spec", "contract", "no header of NDBC standard meteorological data"),
    ("ndbc_stdmet", "ndbc/realtime2-TPLM2.cwind", "contract", "no header of NDBC standard meteorological data"),
    ("ndbc_stdmet", "ndbc/stdmet-tplm2h2020.txt", "contract", "no header of NDBC standard meteorological data"),
    ("ndbc_stdmet_history", "ndbc/station_realtime-41013.html", "permanent", PAGE),
    ("ndbc_stdmet_history", "ndbc/realtime2-44013.spec", "contract", "no header of NDBC standard meteorological data"),
    ("ndbc_stdmet_history", "ndbc/realtime2-TPLM2.cwind", "contract", "no header of NDBC standard meteorological data"),
    ("ndbc_stdmet_history", "ndbc/realtime2-44013.txt", "contract", "another period"),
    ("sodir_facilities", "sodir/apaAreaNet.csv", "contract", MISSING),
    ("sodir_facilities", "sodir/pipLine.csv", "contract", MISSING),
    ("sodir_field_production", "sodir/apaAreaNet.csv", "contract", MISSING),
    ("sodir_field_production", "sodir/fclPoint.csv", "contract", MISSING),
    ("sodir_field_production", "sodir/pipLine.csv", "contract", MISSING),
    ("cftc_cot", "cftc/socrata-tff-ES.json", "contract", MISSING),
    ("cftc_cot_history", "cftc/FinFutYY-a.txt", "contract", MISSING),
    ("cloudtrail", "s3-events/ocean.parquet", "contract", MISSING),
    ("instad_survey", "s3-events/ocean.parquet", "permanent", "is none of the declared kinds"),
    ("faostat", "bsee/ogorafixed-a.zip", "permanent", MEMBER),
    ("bsee_ogora", "bsee/DeepQualRawData.zip", "permanent", MEMBER),
    ("bsee_ogora", "bsee/ogorafixed-a.zip", "permanent", MEMBER),
    ("bsee_ogora", "bsee/mastdatadelimit-excerpt.txt", "permanent", "is no ZIP archive"),
]
MEMBERS = {"cftc_cot_history": "f_year.txt", "sodir_facilities": "fclPoint.csv"}


def partition(source):
    return ["--partition", PARTITIONS[source]] if PARTITIONS[source] else []


def assert_readable(item, source):
    name = f"{builtin(source).name}[{PARTITIONS[source]}]: " if PARTITIONS[source] else f"{builtin(source).name}: "
    message = item["message"]
    assert message.startswith(name)
    assert message.isprintable() and len(message) < 2 * LONGEST, message


@pytest.mark.parametrize(("source", "name", "verdict", "words"), FAULTS, ids=[f"{f[0]}-{f[1]}" for f in FAULTS])
def test_a_recorded_fault_gets_its_verdict(ran, tmp_path, source, name, verdict, words):
    for path in recorded(name):
        payload = packed(path, MEMBERS[source], tmp_path) if source in MEMBERS else path
        (item,) = parsed(source, payload, *partition(source))
        ran(source, "recorded")
        assert (item["error_class"], item["rows"]) == (verdict, None)
        assert words in item["message"]
        assert_readable(item, source)


@pytest.mark.parametrize("source", sorted(MEMBERS))
def test_an_archive_of_another_member_is_refused(tmp_path, source):
    for path in recorded(READ[source]):
        (item,) = parsed(source, packed(path, "other.csv", tmp_path), *partition(source))
        assert item["error_class"] == "permanent" and MEMBER in item["message"]


def test_every_recording_of_these_upstreams_is_read_or_refused_by_one_of_the_sources():
    used = {path for pattern in [*READ.values(), *(fault[1] for fault in FAULTS)] for path in recorded(pattern)}
    hosts = ("bsee", "cftc", "faostat", "fred", "ndbc", "s3-events", "sodir", "worldbank")
    assert used == {path for host in hosts for path in recorded(f"{host}/*")}


@pytest.mark.parametrize("source", sorted(READ))
def test_recorded_payloads_of_all_other_sources_are_refused_and_never_a_defect(source):
    own = set(recorded(READ[source])) if source not in MEMBERS else set()
    others = [path for path in recorded("*/*") if path not in own]
    items = parsed(source, *others, *partition(source)) if others else []
    assert len(items) == len(others)
    for item in items:
        assert item["error_class"] in {"permanent", "contract", "transient"}, item
        assert_readable(item, source)


@pytest.mark.parametrize(
    ("source", "pattern", "later", "earlier"),
    [
        ("bsee_ogora", "bsee/ogoradelimit-2025-01.zip", "2026-01-01", "2022-01-01"),
        ("ndbc_stdmet_history", READ["ndbc_stdmet_history"], "2021-01-01|tplm2", "2019-01-01|tplm2"),
    ],
)
def test_a_recorded_year_is_the_wrong_period_of_every_other(tmp_path, source, pattern, later, earlier):
    # Whether its rows are earlier tells a year that is not published yet from a failure.
    spec = builtin(source)
    for path in recorded(pattern):
        for key, rows_are_earlier in ((later, True), (earlier, False)):
            with pytest.raises(WrongPeriod) as caught:
                stage(spec, [path], window_of(spec, key), tmp_path / "rows.arrow", Notes())
            assert caught.value.earlier is rows_are_earlier
