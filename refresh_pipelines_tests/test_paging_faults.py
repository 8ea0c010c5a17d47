"""Pages that do not fit together, do not end or lead elsewhere: nothing is loaded, and no key leaves."""

from __future__ import annotations

import itertools
import json
import traceback

import pytest

from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.fetch import Payload
from refresh_pipelines.paging import Pager
from refresh_pipelines_tests.pages import (
    BY_HEADER,
    BY_QUERY,
    PLACE,
    SECRET,
    declared,
    in_pages,
    paged,
    queries,
    rows,
    said,
    started,
)  # fmt: skip
from refresh_pipelines_tests.upstream import answer, redirect


@pytest.fixture
def serving(tmp_path):
    with started(tmp_path) as start:
        yield start


def two_rows(path, query):
    """An answer of one page, whichever way pages are counted."""
    first = (query.get("page", "1"), query.get("offset", "0")) == ("1", "0")
    return {"rows": rows(2 if first else 0), "meta": {"total": 2, "pages": 1}}


@pytest.fixture
def fails(serving):
    """Load two rows, then let `serve` answer; return the error, and see that the table is as it was."""

    def fails(paging, serve, error=RefreshError, before=None, **changes):
        answers = []
        upstream, bench = serving(lambda *asked: answers[-1](*asked))  # noqa: PLW0108 - the last one changes
        answers.append(before or two_rows)
        bench.refresh(paged(paging, **changes))
        table, state = bench.rows("mini"), bench.warehouse.states("mini")[0]
        upstream.seen.clear()
        answers.append(serve)
        with pytest.raises(error) as caught:
            bench.refresh(paged(paging, **changes))
        assert (bench.rows("mini"), bench.warehouse.states("mini")[0]) == (table, state)
        assert bench.staging() == []
        return caught.value, upstream

    return fails


def told(error):
    """Everything of an error that a log or an event could show."""
    return "".join(traceback.format_exception(error)) + str(error) + repr(vars(error))


@pytest.mark.parametrize("announced", [4, 6])
def test_pages_that_are_not_all_rows_are_tried_again_later(fails, announced):
    def serve(path, query):
        return {"rows": rows(3, 9) if query["page"] == "1" else rows(2, 12), "meta": {"total": announced}}

    error, _ = fails({"kind": "page", "param": "page", "size": 3, "total": "meta.total"}, serve, UpstreamUnavailable)
    assert f"expected {announced} rows (meta.total); got 5 on 2 pages" in str(error)


@pytest.mark.parametrize("number", [None, "many", "", [3]])
@pytest.mark.parametrize("field", ["total", "pages"])
def test_a_count_that_is_none_is_told_with_its_path(fails, field, number):
    paging = {"kind": "page", "param": "page", "size": 3, field: f"meta.{field}"}
    serve = lambda path, query: {"rows": rows(1), "meta": {field: number}}  # noqa: E731
    error, _ = fails(paging, serve, ContractViolation)
    assert f"a page does not say how many there are; expected a number at meta.{field}" in str(error)


@pytest.mark.parametrize("kind", ["cursor", "link", "header"])
def test_a_mark_that_comes_twice_is_a_loop(fails, kind):
    fresh = itertools.count()

    def serve(path, query):
        turn = "2" if query.get("mark") == "1" else "1"
        where = turn if kind == "cursor" else f"{PLACE}?mark={turn}"
        link = {"Link": f"<{where}>; rel=next"} if kind == "header" else {}
        return said({"rows": rows(1, next(fresh)), "meta": {"next": where}}, **link)

    error, upstream = fails(declared(kind, 1), serve, ContractViolation)
    assert queries(upstream) == ["", "mark=1", "mark=2"]
    where = "in the header Link" if kind == "header" else "at meta.next"
    assert f"the pages repeat; expected {where} another mark on each page; got" in str(error)
    assert "again on page 3" in str(error)


@pytest.mark.parametrize("kind", ["cursor", "link"])
def test_a_mark_that_comes_twice_is_told_without_what_looks_like_a_key(fails, kind):
    fresh = itertools.count()
    mark = f"{PLACE}?api_key={SECRET}"
    serve = lambda path, query: {"rows": rows(1, next(fresh)), "meta": {"next": mark}}  # noqa: E731
    error, _ = fails(declared(kind, 1), serve, ContractViolation)
    assert "the pages repeat" in str(error) and SECRET not in told(error)


@pytest.mark.parametrize("kind", ["pages", "page", "offset"])
def test_an_upstream_that_always_sends_the_same_page_is_a_loop_and_no_data(fails, kind):
    serve = lambda path, query: {"rows": rows(2), "meta": {"pages": 3, "total": 6}}  # noqa: E731
    before = in_pages(kind, rows(2), 2)
    error, upstream = fails(declared(kind, 2, total="meta.total"), serve, ContractViolation, before)
    assert "the pages repeat" in str(error) and "page 2" in str(error)
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("mark", [["a"], {"a": 1}, True])
def test_a_mark_that_is_no_text_is_told(fails, mark):
    serve = lambda path, query: {"rows": rows(1), "meta": {"next": mark}}  # noqa: E731
    error, upstream = fails(declared("cursor", 1), serve, ContractViolation)
    assert "the mark of the next page is none; expected a text at meta.next" in str(error)
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("kind", ["pages", "page", "offset", "cursor", "link", "header"])
def test_more_pages_than_there_may_be_are_a_loop(fails, kind):
    before = in_pages(kind, rows(2), 1)
    error, upstream = fails(declared(kind, 1, max_pages=3), in_pages(kind, rows(4), 1), ContractViolation, before)
    assert "the pages do not end; expected at most 3 pages (request.paging.max_pages)" in str(error)
    assert len(upstream.seen) == 3


@pytest.mark.parametrize(("kind", "auth"), [("link", BY_HEADER), ("header", BY_QUERY)], ids=["link", "header"])
@pytest.mark.parametrize(
    "address",
    [
        "https://elsewhere.org/data?mark=1", "//elsewhere.org/data", "https://example.org.elsewhere.org/data",
        "https://example.org:8443/data", "https://example.org@elsewhere.org/data", "mailto:someone@example.com", "http://example.org:8080/data",
        "https://sub.example.org/data",
    ],
)  # fmt: skip
def test_a_next_page_on_another_host_is_refused_and_not_asked(fails, kind, address, auth):
    def serve(path, query):
        link = {"Link": f"<{address}>; rel=next"} if kind == "header" else {}
        return said({"rows": rows(1), "meta": {"next": address}}, **link)

    error, upstream = fails(declared(kind, 1), serve, UpstreamRefused, request={"auth": auth})
    assert "the next page lies on another host; expected example.org; got" in str(error)
    assert len(upstream.seen) == 1
    assert SECRET not in told(error)


@pytest.mark.parametrize("kind", ["link", "header"])
@pytest.mark.parametrize("address", ["https://[::1", "https://example.org:port/x", "https://exa mple.org:99999/"])
def test_a_next_page_that_is_no_address_is_told(fails, kind, address):
    def serve(path, query):
        link = {"Link": f"<{address}>; rel=next"} if kind == "header" else {}
        return said({"rows": rows(1), "meta": {"next": address}}, **link)

    error, upstream = fails(declared(kind, 1), serve)
    assert error.error_class in {"contract", "permanent"} and "next page" in str(error)
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("kind", ["link", "header"])
def test_a_key_that_the_upstream_repeats_in_its_link_is_sent_once(serving, kind):
    def serve(path, query):
        mark = int(query.get("mark", 0))
        address = f"{PLACE}?subscription={SECRET}&mark={mark + 1}" if mark < 2 else ""
        link = {"Link": f"<{address}>; rel=next"} if address and kind == "header" else {}
        return said({"rows": rows(1, mark), "meta": {"next": address}}, **link)

    upstream, bench = serving(serve)
    outcome = bench.refresh(paged(declared(kind, 1), request={"auth": BY_QUERY}))
    key = f"subscription={SECRET}"
    assert queries(upstream) == [key, f"mark=1&{key}", f"mark=2&{key}"]
    assert SECRET not in repr(outcome)
    files = b"".join(path.read_bytes() for path in bench.folder.rglob("*") if path.is_file())
    assert SECRET.encode() not in files


@pytest.mark.parametrize("kind", ["link", "header"])
@pytest.mark.parametrize("trouble", ["repeats", "elsewhere", "ends", "broken"])
def test_a_key_that_the_upstream_repeats_in_its_link_is_in_no_error(fails, kind, trouble):
    host = "https://elsewhere.org" if trouble == "elsewhere" else "https://example.org"
    address = f"{host}/data?subscription={SECRET}&mark=1" + ("&x=%" if trouble == "broken" else "")

    def serve(path, query):
        if trouble == "ends" and "mark" in query:
            return answer(f"no such page: subscription={SECRET}".encode(), 404)
        if trouble == "broken" and "mark" in query:
            return answer(b'{"rows": [')
        link = {"Link": f"<{address}>; rel=next"} if kind == "header" else {}
        return said({"rows": rows(1, len(query)), "meta": {"next": address}}, **link)

    error, _ = fails(declared(kind, 1), serve, request={"auth": BY_QUERY})
    assert SECRET not in told(error)
    while error := error.__cause__ or error.__context__:
        assert SECRET not in told(error)


@pytest.mark.parametrize(("first", "following"), [("https", "https"), ("http", "http")])
def test_a_link_without_encryption_does_not_take_the_key_out_of_it(tmp_path, first, following):
    # The stand-in hides the scheme, so look where the address is made.
    page = tmp_path / "page"
    page.write_text(json.dumps({"rows": rows(1), "meta": {"next": "http://example.org/data?mark=1"}}))
    turn = Pager(paged(declared("link", 1)), None).after(Payload(page, f"{first}://example.org/data", "0" * 64, 1))
    assert turn.address == f"{following}://example.org/data?mark=1"


def test_a_page_that_redirects_to_another_host_takes_no_header_along(serving):
    def serve(path, query):
        if "elsewhere.org" in path:
            return {"rows": rows(1, 1)}
        return redirect("https://elsewhere.org/data") if query else said({"rows": rows(1), "next": "?mark=1"})

    upstream, bench = serving(serve)
    spec = paged({"kind": "link", "next": "next"}, request={"auth": BY_HEADER})
    assert bench.refresh(spec).counts.added == 2
    assert [headers.get("X-Subscription") for _, _, headers, _ in upstream.seen] == [SECRET, SECRET, None]


@pytest.mark.parametrize("status", [404, 410])
def test_a_later_page_that_is_gone_is_tried_again_later(fails, status):
    def serve(path, query):
        return {"rows": rows(2, 5)} if query["page"] == "1" else answer(b"no", status)

    error, _ = fails({"kind": "page", "param": "page", "size": 2}, serve, UpstreamUnavailable)
    assert "page 2 is gone; expected a page after 1" in str(error) and f"HTTP {status}" in str(error)


def test_a_first_page_that_is_gone_is_not_there(fails):
    error, _ = fails(declared("page", 2), lambda path, query: answer(b"no", 404), UpstreamRefused)
    assert "is not there" in str(error)


def test_a_later_page_that_is_a_web_page_is_tried_again_later(fails):
    serve = lambda path, query: {"rows": rows(2, 5)} if query["page"] == "1" else answer(b"<html>sorry")  # noqa: E731
    assert "page 2 is gone" in str(fails(declared("page", 2), serve, UpstreamUnavailable)[0])


def test_an_error_object_on_a_later_page_is_what_the_upstream_refused_with(fails):
    def serve(path, query):
        if query["page"] == "3":
            return {"error": "no more than two pages for free"}
        return {"rows": rows(2, 2 * int(query["page"]))}

    error, upstream = fails(declared("page", 2), serve, UpstreamRefused)
    assert "no more than two pages for free" in str(error) and len(upstream.seen) == 3


@pytest.mark.parametrize("body", [b"", b'{"rows": [{"k": "a", "n"', b'{"rows": [{"k": "a"}, '])
def test_a_later_page_that_breaks_off_is_tried_again_later(fails, body):
    def serve(path, query):
        return {"rows": rows(2, 5)} if query["page"] == "1" else answer(body)

    fails(declared("page", 2), serve, UpstreamUnavailable)


def test_a_later_page_of_another_shape_is_no_end_of_the_pages(fails):
    serve = lambda path, query: {"rows": rows(2, 5)} if query["page"] == "1" else {"data": []}  # noqa: E731
    assert "not the declared shape" in str(fails(declared("page", 2), serve, ContractViolation)[0])


def test_the_largest_body_holds_for_all_pages_together(fails):
    serve = lambda path, query: {"rows": rows(2, 10 + 2 * int(query["page"]))}  # noqa: E731
    limit = 3 * len(json.dumps({"rows": rows(2, 12)}))
    error, upstream = fails(declared("page", 2), serve, UpstreamRefused, request={"max_bytes": f"{limit} B"})
    assert f"the answers are too large together; expected at most {limit} bytes" in str(error)
    assert len(upstream.seen) == 4
