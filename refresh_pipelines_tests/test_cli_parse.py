"""`refresh parse`: stored payloads through a source's parser and contract."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.parse import parse
from refresh_pipelines.settings import SAMPLES

EURO = str(SAMPLES / "fred_fx" / "DEXUSEU.json")
YEAR = str(SAMPLES / "bsee_ogora" / "ogora2025delimit.zip")
CUT = str(SAMPLES / "fred_fx" / "bad" / "truncated.json")
FIELDS = ["source", "file", "fetched", "rejected", "duplicates", "filtered", "error_class", "message", "rows"]


def run(*args):
    return CliRunner().invoke(parse, args, catch_exceptions=False)


def items(result):
    document = json.loads(result.stdout)
    assert list(document) == ["version", "ok", "items"] and document["version"] == 1
    assert document["ok"] == (result.exit_code == 0)
    assert all(list(item) == FIELDS for item in document["items"])
    return document["items"]


def test_json_has_the_counts_of_each_file():
    (item,) = items(run("bsee_ogora", YEAR, "--partition", "2025-01-01", "--json"))
    assert item == {
        "source": "bsee_ogora", "file": YEAR, "fetched": 40, "rejected": 0, "duplicates": 1, "filtered": 0,
        "error_class": None, "message": None, "rows": None,
    }  # fmt: skip


def test_rows_are_the_typed_columns_with_the_partition_filled_in():
    (item,) = items(run("commodities/fred_fx", EURO, "--partition", "DEXUSEU", "--rows", "--json"))
    assert len(item["rows"]) == item["fetched"] == 24 and item["filtered"] == 1
    first = item["rows"][0]
    assert list(first) == ["series_id", "obs_date", "value"]
    assert (first["series_id"], first["obs_date"]) == ("DEXUSEU", "2026-09-21") and isinstance(first["value"], float)


def test_without_a_partition_its_column_stays_empty_and_that_is_said():
    result = run("fred_fx", EURO, "--rows", "--json")
    (item,) = items(result)
    assert item["rows"][0]["series_id"] is None and item["fetched"] == 24
    assert result.stderr == "No --partition given: columns filled from {series_id} stay empty.\n"


def test_a_param_fills_the_column_too():
    result = run("fred_fx", EURO, "--param", "series_id=GDP", "--rows", "--json")
    assert items(result)[0]["rows"][0]["series_id"] == "GDP" and result.stderr == ""


def test_without_a_partition_the_period_is_not_checked():
    assert items(run("bsee_ogora", YEAR, "--json"))[0]["fetched"] == 40
    (item,) = items(run("bsee_ogora", YEAR, "--partition", "2024-01-01", "--json"))
    assert item["error_class"] == "contract" and "2024-01-01 to before 2025-01-01" in item["message"]


def test_one_bad_file_among_good_ones_is_named_and_fails_the_command():
    result = run("fred_fx", EURO, CUT, "--partition", "DEXUSEU", "--json")
    good, bad = items(result)
    assert (good["error_class"], bad["error_class"], result.exit_code) == (None, "transient", 1)
    assert bad["message"].startswith("commodities/fred_fx[DEXUSEU]: the answer is no complete JSON document")


def test_too_few_rows_are_a_contract_error_with_its_counts():
    (item,) = items(run("fred_fx", str(SAMPLES / "fred_fx/bad/all-missing.json"), "--json"))
    assert (item["error_class"], item["fetched"]) == ("contract", 0)
    assert "expected at least 1 (expect.min_rows); got 0" in item["message"]


def test_rejected_rows_are_counted():
    bad = str(SAMPLES / "bsee_ogora" / "bad" / "non-numeric-volume.zip")
    (item,) = items(run("bsee_ogora", bad, "--json"))
    assert (item["rejected"], item["error_class"]) == (1, "contract") and item["fetched"] >= 1
    assert "mon_o_prod_vol='12,5 bbl' is no bigint" in item["message"]


def test_rejected_rows_are_shown_with_their_reasons_on_demand():
    bad = str(SAMPLES / "bsee_ogora" / "bad" / "non-numeric-volume.zip")
    document = json.loads(run("bsee_ogora", bad, "--rejects", "--json").stdout)
    (item,) = document["items"]
    (reject,) = item["rejects"]
    assert list(reject) == ["row_number", "column_names", "reason", "raw"]
    assert reject["reason"].startswith("mon_o_prod_vol='12,5 bbl' is no bigint")
    assert json.loads(reject["raw"])["mon_o_prod_vol"] == "12,5 bbl"
    assert "12,5 bbl" in run("bsee_ogora", bad, "--rejects").stdout


def test_the_table_is_for_people_and_messages_go_to_stderr():
    result = run("fred_fx", EURO, CUT, "--rows", "--partition", "DEXUSEU")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].split() == [
        "SOURCE",
        "FILE",
        "FETCHED",
        "REJECTED",
        "DUPLICATES",
        "FILTERED",
        "ERROR",
    ]
    assert "2026-09-21" in result.stdout and "transient" in result.stdout
    assert f"{CUT}: commodities/fred_fx[DEXUSEU]: the answer is no complete" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fred_fx"], "Missing argument 'FILES...'"),
        (["fred_fx", "no-such-file.json"], "does not exist"),
        (["fred_fx", str(SAMPLES)], "is a directory"),
        (["fred_fy", EURO], "did you mean fred_fx?"),
        (["bsee_ogora", YEAR, "--partition", "2025"], "keys look like 1996-01-01"),
        (["fx_daily", EURO], "is a query over other sources and reads no files"),
        (["fred_fx", EURO, "--param", "series_id"], "--param wants NAME=VALUE"),
    ],
)
def test_a_wrong_use_exits_with_2_and_says_what_is_wrong(args, said):
    result = run(*args)
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


def test_no_dagster_warehouse_or_network_is_needed():
    code = "import sys; from refresh_pipelines.cli.parse import parse; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"dagster", "pandas", "requests", "refresh_pipelines.warehouse", "refresh_pipelines.fetch"} & set(loaded)
