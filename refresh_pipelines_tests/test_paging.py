"""Answers in several pages: asked for in order, loaded once, and not read again while they are the same."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresh_pipelines.outcome import Counts
from refresh_pipelines_tests.pages import (
    BY_QUERY,
    COLUMNS,
    FORM,
    KINDS,
    PLACE,
    SECRET,
    declared,
    in_pages,
    paged,
    queries,
    reply,
    rows,
    said,
    started,
)  # fmt: skip
from refresh_pipelines_tests.upstream import Upstream, answer
from refresh_pipelines_tests.workbench import Bench, spec_of


@pytest.fixture
def serving(tmp_path):
    with started(tmp_path) as start:
        yield start


def loaded(bench):
    return [row[:2] for row in bench.rows("mini")]


def pairs(every):
    return [(row["k"], row["n"]) for row in every]


@pytest.mark.parametrize(
    ("kind", "size", "more", "asked"),
    [
        ("pages", 3, {}, ["page=1", "page=2", "page=3"]),
        ("page", 3, {}, ["page=1", "page=2", "page=3"]),
        ("page", 7, {}, ["page=1", "page=2"]),
        ("page", 3, {"size_param": "per"}, ["per=3&page=1", "per=3&page=2", "per=3&page=3"]),
        ("offset", 3, {}, ["offset=0", "offset=3", "offset=6"]),
        ("offset", 7, {"size_param": "limit"}, ["limit=7&offset=0", "limit=7&offset=7"]),
        ("cursor", 3, {}, ["", "mark=3", "mark=6"]),
        ("cursor", 3, {"size": 3, "size_param": "limit"}, ["limit=3", "limit=3&mark=3", "limit=3&mark=6"]),
        ("cursor", 7, {}, [""]),
        ("link", 3, {}, ["", "mark=3", "mark=6"]),
        ("link", 3, {"size": 3, "size_param": "limit"}, ["limit=3", "mark=3", "mark=6"]),
        ("header", 3, {}, ["", "mark=3", "mark=6"]),
    ],
)
def test_the_pages_are_asked_for_in_order_until_the_last(serving, kind, size, more, asked):
    upstream, bench = serving(in_pages(kind, rows(7), size))
    outcome = bench.refresh(paged(declared(kind, size, total="meta.total", **more)))
    assert (outcome.outcome, outcome.counts) == ("loaded", Counts(fetched=7, added=7))
    assert queries(upstream) == asked
    assert loaded(bench) == pairs(rows(7))


@pytest.mark.parametrize(
    ("paging", "asked"),
    [
        ({"kind": "page", "param": "p", "size": 2, "first": 0}, ["p=0", "p=1"]),
        ({"kind": "offset", "param": "o", "size": 2, "first": 1}, ["o=1", "o=3"]),
    ],
)
def test_counting_begins_where_the_source_says(serving, paging, asked):
    pages = iter([rows(2), rows(1, 2)])
    upstream, bench = serving(lambda path, query: {"rows": next(pages)})
    assert bench.refresh(paged(paging)).counts.added == 3
    assert queries(upstream) == asked


def test_the_requests_own_params_stand_beside_those_of_a_counted_page(serving):
    upstream, bench = serving(in_pages("offset", rows(4), 3))
    bench.refresh(paged(declared("offset", 3), request={"params": {"lang": "en"}}))
    assert queries(upstream) == ["lang=en&offset=0", "lang=en&offset=3"]


def test_an_address_of_the_upstream_is_asked_as_it_is_written(serving):
    mark = "mark=a%2Fb,c+d%20e&flag&%E5=%E5&lang=fr"
    pages = iter([{"rows": rows(1), "next": f"{PLACE}?{mark}#top"}, {"rows": rows(1, 1)}])
    upstream, bench = serving(lambda path, query: next(pages))
    bench.refresh(paged({"kind": "link", "next": "next"}, request={"params": {"lang": "en"}, "auth": BY_QUERY}))
    assert queries(upstream) == [f"lang=en&subscription={SECRET}", f"{mark}&subscription={SECRET}"]


@pytest.mark.parametrize(
    ("first", "address", "path"),
    [
        (PLACE, "?mark=2", "/example.org/data?mark=2"),
        (PLACE, "/v2/data?mark=2", "/example.org/v2/data?mark=2"),
        (PLACE + "/first", "second", "/example.org/data/second"),
        (PLACE, "//example.org/other", "/example.org/other"),
        (PLACE, "https://EXAMPLE.org:443/data?mark=2", "/example.org/data?mark=2"),
        (PLACE, "http://example.org/data?mark=2", "/example.org/data?mark=2"),
    ],
)
@pytest.mark.parametrize("kind", ["link", "header"])
def test_the_next_page_may_be_named_relative_to_the_last(serving, kind, first, address, path):
    def serve(asked, query):
        if len(upstream.seen) > 1:
            return {"rows": rows(1, 1)}
        link = {"Link": f"<{address}>; rel=next"} if kind == "header" else {}
        return said({"rows": rows(1), "meta": {"next": address if kind == "link" else None}}, **link)

    upstream, bench = serving(serve)
    assert bench.refresh(paged(declared(kind, 1), request={"url": first})).counts.added == 2
    assert [asked for _, asked, _, _ in upstream.seen][1:] == [path]


@pytest.mark.parametrize("kind", ["link", "header"])
def test_an_address_of_the_stand_in_means_the_host_it_stands_for(serving, kind):
    def serve(path, query):
        address = "" if query else f"{upstream.base}/example.org/data?mark=1"
        link = {"Link": f"<{address}>; rel=next"} if address and kind == "header" else {}
        return said({"rows": rows(1, len(query)), "meta": {"next": address}}, **link)

    upstream, bench = serving(serve)
    assert bench.refresh(paged(declared(kind, 1))).counts.added == 2
    assert queries(upstream) == ["", "mark=1"]


def test_pages_of_csv_are_linked_by_the_header_alone(serving):
    def serve(path, query):
        mark = int(query.get("mark", 0))
        link = {"Link": f'<{PLACE}?mark=9>; rel="last", <?mark={mark + 1}>; rel="next"'} if mark < 2 else {}
        return answer(f"k,n\nk{mark},{mark}\n".encode(), headers=link)

    upstream, bench = serving(serve)
    assert bench.refresh(paged({"kind": "link"}, format="csv")).counts.added == 3
    assert queries(upstream) == ["", "mark=1", "mark=2"]


@settings(max_examples=15)
@given(
    kind=st.sampled_from(KINDS),
    every=st.lists(st.integers(-50, 50), max_size=9, unique=True),
    size=st.integers(1, 4),
    total=st.booleans(),
)
def test_whatever_the_pages_the_table_holds_the_list(kind, every, size, total):
    listed = [{"k": f"k{n}", "n": n} for n in every]
    with tempfile.TemporaryDirectory() as folder, Upstream(reply(in_pages(kind, listed, size))) as upstream:
        bench = Bench(Path(folder), upstream.base)
        outcome = bench.refresh(paged(declared(kind, size, **({"total": "meta.total"} if total else {}))))
        assert outcome.counts == Counts(fetched=len(every), added=len(every))
        assert sorted(loaded(bench)) == sorted(pairs(listed))


@pytest.mark.parametrize("param", ["page_token", "token", "key", "secret"])
def test_pages_whose_marks_look_like_credentials_are_not_taken_for_one_another(serving, param):
    def serve(path, query):
        mark = int(query.get(param, 0))
        return {"rows": rows(2, 2 * mark), "meta": {"next": str(mark + 1) if mark < 2 else ""}}

    _, bench = serving(serve)
    spec = paged({"kind": "cursor", "param": param, "next": "meta.next"})
    assert bench.refresh(spec).counts == Counts(fetched=6, added=6)
    assert loaded(bench) == pairs(rows(6))


def test_pages_that_are_all_as_before_are_not_read_again_and_one_other_page_is_loaded(serving):
    every = rows(5)
    upstream, bench = serving(in_pages("offset", every, 2))
    first = bench.refresh(paged(declared("offset", 2)))
    written = bench.file.stat().st_mtime_ns
    again = bench.refresh(paged(declared("offset", 2)))
    assert (again.outcome, again.counts) == ("unchanged", Counts(fetched=5, unchanged=5))
    assert (again.sha256, again.data_version) == (first.sha256, first.data_version)
    assert bench.file.stat().st_mtime_ns == written and bench.stages[5:] == ["fetched"]
    every[2] = {"k": "new", "n": 7}
    changed = bench.refresh(paged(declared("offset", 2), load={"mode": "merge"}))
    assert changed.counts == Counts(fetched=5, added=1, unchanged=4)
    assert changed.sha256 != first.sha256
    assert not any("If-" in name for _, _, headers, _ in upstream.seen for name in headers)


def test_validators_of_a_page_are_not_those_of_the_answer(serving):
    pages = itertools.cycle([{"rows": rows(2)}, {"rows": rows(1, 2)}])
    upstream, bench = serving(lambda path, query: said(next(pages), ETag='"same"'))
    spec = paged(declared("page", 2))
    assert [bench.refresh(spec).outcome for _ in range(2)] == ["loaded", "unchanged"]
    assert all("If-None-Match" not in headers for _, _, headers, _ in upstream.seen)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_pages_as_there_may_be_are_none_too_many(serving, kind):
    _, bench = serving(in_pages(kind, rows(5), 2))
    assert bench.refresh(paged(declared(kind, 2, max_pages=3))).counts.added == 5


def test_the_second_address_has_its_own_pages(serving):
    def serve(path, query):
        return answer(b"", 404) if path.endswith("old") else in_pages("page", rows(3), 2)(path, query)

    upstream, bench = serving(serve)
    request = {"url": None, "urls": [PLACE + "/old", PLACE]}
    assert bench.refresh(paged(declared("page", 2), request=request)).counts.added == 3
    assert [path for _, path, _, _ in upstream.seen] == [
        "/example.org/data/old?page=1", "/example.org/data?page=1", "/example.org/data?page=2",
    ]  # fmt: skip


def test_a_page_that_fails_once_is_asked_again(serving):
    failed = []

    def serve(path, query):
        if query["page"] == "2" and not failed:
            failed.append(query)
            return answer(b"", 503)
        return in_pages("page", rows(3), 2)(path, query)

    upstream, bench = serving(serve)
    assert bench.refresh(paged(declared("page", 2))).counts.added == 3
    assert queries(upstream) == ["page=1", "page=2", "page=2"]


def test_an_empty_answer_is_one_page_without_rows(serving):
    _, bench = serving(lambda path, query: {"rows": [], "meta": {"pages": 0, "total": 0}})
    for kind in ("pages", "page", "offset"):
        outcome = bench.refresh(paged(declared(kind, 2, total="meta.total"), kind))
        assert (outcome.outcome, outcome.counts) == ("empty", Counts())


def test_pages_of_a_post_carry_its_body_each_time(serving):
    upstream, bench = serving(in_pages("offset", rows(3), 2))
    request = {"method": "POST", "body": {"series": "x"}}
    assert bench.refresh(paged(declared("offset", 2), request=request)).counts.added == 3
    assert [(asked[0], asked[3]) for asked in upstream.seen] == [("POST", b'{"series": "x"}')] * 2


def test_a_source_without_pages_sends_one_request(serving):
    upstream, bench = serving(in_pages("link", rows(3), 2))
    spec = spec_of(request={"url": PLACE}, format=FORM, columns=COLUMNS)
    assert bench.refresh(spec).counts.added == 2
    assert len(upstream.seen) == 1
