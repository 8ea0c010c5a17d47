"""A planted credential is nowhere a person could come across it after a failed run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from refresh_pipelines_tests.dagster_bench import FRED, at

NAME = "FRED_API_KEY"


def everything_told(bench, run_id):
    """Return all text a person could come across: event log, status, outbox, compute logs, lock owners."""
    files = [path for path in Path(bench.folder).rglob("*") if path.is_file() and "catalog" not in path.parts]
    events = [str(entry) for entry in bench.instance.all_logs(run_id)]
    return "\n".join(events + [path.read_bytes().decode("latin-1") for path in files])


def unreachable(bench):
    bench.environ["REFRESH_UPSTREAM"] = "http://127.0.0.1:9"


def refused(bench):
    bench.sandbox.override(FRED, f'{{"error_message": "key {bench.environ[NAME]} is wrong"}}'.encode(), status=400)


def cut_short(bench):
    bench.sandbox.override(FRED, b"{", headers={"Content-Length": "1000"})


def broken_inside(bench):
    def defect():
        raise RuntimeError(f"https://api.stlouisfed.org/?api_key={bench.environ[NAME]}")

    bench.adjust = at("fetched", defect)


def interrupted(bench):
    bench.adjust = at("fetched", lambda: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize("key", ["planted5ecret", "pl+nted/5ecret=&"])
@pytest.mark.parametrize("trouble", [unreachable, refused, cut_short, broken_inside, interrupted])
def test_a_credential_is_nowhere_to_be_found_after_a_failure(retrying, trouble, key):
    retrying.environ |= {NAME: key, "REFRESH_WEBHOOK_URL": "http://127.0.0.1:9/services/pathsecret"}
    trouble(retrying)
    result = retrying.launch("fred_fx", "DEXUSEU")
    told = everything_told(retrying, result.run_id)
    assert not result.success
    assert "refresh/error_class" in told
    assert [text for text in (key, quote(key), quote_plus(key), "pathsecret") if text in told] == []


@pytest.mark.parametrize("fault", ["status:400", "echo", "echo:200", "echo:data", "truncate", "reset", "redirect_loop"])
def test_a_credential_under_a_name_that_says_nothing_is_masked_all_the_same(retrying, fault):
    retrying.edit("commodities/fred_fx", "query: api_key", "query: appid")
    retrying.environ[NAME] = "pl+nted/5ecret=&"
    retrying.sandbox.fault("fred_fx", fault)
    result = retrying.launch("fred_fx", "DEXUSEU")
    told = everything_told(retrying, result.run_id)
    assert not result.success
    assert [text for text in ("pl+nted", quote_plus("pl+nted")) if text in told] == []
