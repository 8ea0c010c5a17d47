"""Samples of every format, damaged at random: a parser gives rows or one of our errors, in bounded time and memory."""

from __future__ import annotations

import resource
import time
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refresh_pipelines.errors import InternalError, RefreshError
from refresh_pipelines.parse import Notes, parse
from refresh_pipelines.settings import SAMPLES
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.workbench import builtin

# Source, sample, partition: one for each parser and each way of packing.
PAYLOADS = {
    "csv in a zip": ("bsee_ogora", "ogora2025delimit.zip", "2025-01-01"),
    "csv": ("sodir_field_production", "field_production_monthly.csv", None),
    "json": ("cftc_cot", "007601.json", "007601"),
    "json in pages": ("worldbank_employment", "SL.UEM.TOTL.ZS.1.json", "SL.UEM.TOTL.ZS"),
    "jsonl": ("cloudtrail", "drop/events.jsonl", "2026-03-01"),
    "parquet": ("cloudtrail", "drop/events.parquet", "2026-03-01"),
    "packed parquet": ("cloudtrail", "drop/events.parquet.gz", "2026-03-01"),
    "xlsx": ("instad_survey", "drop/eri-esi-2022.xlsx", "2026-03-01"),
    "ndbc": ("ndbc_stdmet", "44013.txt", "44013"),
    "packed ndbc": ("ndbc_stdmet_history", "44013h2025.txt.gz", "2025-01-01|44013"),
}
SECONDS, MEGABYTES = 3.0, 400
_WORDS = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b",,", b"{", b"[[[[", b"9" * 50, b"<html>", b"PK\x03\x04")
place = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), place, st.integers(1, 255)),
        st.tuples(st.just("cut"), place, place),
        st.tuples(st.just("put"), place, st.one_of(st.sampled_from(_WORDS), st.binary(max_size=30))),
        st.tuples(st.just("again"), place, place),
    ),
    min_size=1,
    max_size=4,
)


@lru_cache
def sample(name: str) -> bytes:
    source, file, _ = PAYLOADS[name]
    return (SAMPLES / source / file).read_bytes()


def damaged(body: bytes, changes: list[tuple]) -> bytes:
    for kind, where, what in changes:
        at = int(where * len(body))
        if kind == "flip" and body:
            body = body[:at] + bytes([body[at] ^ what]) + body[at + 1 :]
        elif kind == "cut":
            body = body[:at] + body[at + int(what * (len(body) - at)) :]
        elif kind == "put":
            body = body[:at] + what + body[at:]
        elif kind == "again":
            body = body[:at] + body[at : at + 1 + int(what * 200)] * 3 + body[at:]
    return body


@pytest.mark.parametrize("name", PAYLOADS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=DAMAGE)
def test_a_damaged_sample_is_read_or_refused(tmp_path: Path, name: str, changes: list[tuple]):
    source, file, key = PAYLOADS[name]
    spec = builtin(source)
    path = tmp_path / Path(file).name
    path.write_bytes(damaged(sample(name), changes))
    window = window_of(spec, key)
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        rows = sum(batch.num_rows for batch in parse(spec, path, window, Notes()))
    except RefreshError as error:
        assert not isinstance(error, InternalError)
        assert len(str(error)) < 20_000
    else:
        assert rows <= 100_000
    assert time.process_time() - begun < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
