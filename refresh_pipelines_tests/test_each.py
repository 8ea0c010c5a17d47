"""One refresh as several requests, one for each value: all or nothing, or the rest where a source wants that."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from refresh_pipelines.errors import ContractViolation, RefreshError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.outcome import Counts
from refresh_pipelines_tests.pages import FORM, PLACE, declared, in_pages, queries, reply, rows, said
from refresh_pipelines_tests.upstream import Upstream, answer
from refresh_pipelines_tests.workbench import Bench, csv_spec, rows_of, spec_of

COLUMNS = {"series": {"type": "text", "from": "{series}"}, "k": {"type": "text"}, "n": {"type": "int"}}
GOOD = {"a": rows(2), "b": rows(2), "c": rows(1)}


@pytest.fixture
def answers():
    """What each value is answered: rows, or bytes on the wire."""
    return dict(GOOD)


@pytest.fixture
def upstream(answers):
    def serve(path, query):
        given = answers[query["series"]]
        return given if isinstance(given, bytes) else {"rows": given}

    with Upstream(reply(serve)) as upstream:
        yield upstream


@pytest.fixture
def bench(tmp_path, upstream):
    return Bench(tmp_path, upstream.base)


def each(on_error="fail", values=("a", "b", "c"), **changes):
    request = {"url": PLACE, "params": {"series": "{series}"}, **changes.pop("request", {})}
    request["each"] = {"series": list(values), "on_error": on_error}
    declared = {"request": request, "format": FORM, "columns": COLUMNS, "merge_key": ["series", "k"]}
    return spec_of(**{**declared, **changes})


def loaded(bench):
    return [row[:3] for row in bench.rows("mini")]


def triples(by_value):
    return [(value, row["k"], row["n"]) for value, listed in sorted(by_value.items()) for row in listed]


def test_each_value_is_asked_for_once_and_names_its_rows(bench, upstream):
    outcome = bench.refresh(each())
    assert (outcome.outcome, outcome.counts) == ("loaded", Counts(fetched=5, added=5))
    assert queries(upstream) == ["series=a", "series=b", "series=c"]
    assert loaded(bench) == triples(GOOD)
    assert bench.stages == ["fetched", "archived", "staged", "merged", "committed"]


def test_values_that_are_all_as_before_are_not_read_again(bench, answers):
    first = bench.refresh(each())
    again = bench.refresh(each())
    assert (again.outcome, again.counts, again.sha256) == ("unchanged", Counts(fetched=5, unchanged=5), first.sha256)
    assert bench.stages[5:] == ["fetched"]
    answers["b"] = [*rows(1), {"k": "k001", "n": 7}]
    assert bench.refresh(each()).counts == Counts(fetched=5, updated=1, unchanged=4)


def test_two_values_that_swap_their_answers_are_not_as_before(bench, answers):
    answers["b"] = rows(2, 5)
    bench.refresh(each())
    answers["a"], answers["b"] = answers["b"], answers["a"]
    assert bench.refresh(each()).counts.added == 4


def test_a_page_that_moves_to_another_value_is_not_as_before(tmp_path):
    pages = {"a": ["x", "y"], "b": ["z"]}

    def serve(path, query):
        mark = int(query.get("mark", 0))
        more = mark + 1 < len(pages[path[-1]])
        link = {"Link": f"<?mark={mark + 1}>; rel=next"} if more else {}
        return said({"rows": [{"k": pages[path[-1]][mark], "n": 1}]}, **link)

    with Upstream(reply(serve)) as upstream:
        bench = Bench(tmp_path, upstream.base)
        spec = each(values="ab", request={"url": PLACE + "/{series}", "params": {}, "paging": {"kind": "link"}})
        bench.refresh(spec)
        pages.update(a=["x"], b=["y", "z"])
        assert bench.refresh(spec).counts == Counts(fetched=3, added=1, unchanged=2)


@pytest.mark.parametrize("name", ["token", "key", "api_key"])
def test_values_under_a_name_that_looks_like_a_credential_are_not_taken_for_one_another(tmp_path, name):
    with Upstream(reply(lambda path, query: {"rows": rows(1, int(query[name]))})) as upstream:
        request = {"url": PLACE, "params": {name: "{series}"}}
        outcome = Bench(tmp_path, upstream.base).refresh(each(values=["0", "1", "2"], request=request, merge_key=["k"]))
    assert outcome.counts == Counts(fetched=3, added=3)


def test_values_may_stand_in_a_header_or_in_the_address(tmp_path):
    def serve(handler):
        handler.wfile.write(said({"rows": [{"k": handler.path + str(handler.headers["X-Series"]), "n": 1}]}))

    with Upstream(serve) as upstream:
        bench = Bench(tmp_path, upstream.base)
        bench.refresh(each(values=["a", "b"], request={"params": {}, "headers": {"X-Series": "is-{series}"}}))
        bench.refresh(each(values=["c"], request={"params": {}, "url": PLACE + "/{series}.json"}))
    assert [row[1] for row in loaded(bench)] == [
        "/example.org/datais-a", "/example.org/datais-b", "/example.org/data/c.jsonNone",
    ]  # fmt: skip


def test_fields_of_a_json_body_are_filled_and_the_rest_of_it_stays(tmp_path):
    def serve(handler):
        asked = json.loads(handler.server.upstream.seen[-1][3])
        handler.wfile.write(said({"rows": [{"k": asked["id"], "n": asked["limit"]}]}))

    body = {"id": "{series}/{group}", "limit": 7, "deep": {"as": "{it}"}, "list": ["{is}"]}
    with Upstream(serve) as upstream:
        bench = Bench(tmp_path, upstream.base)
        spec = each(request={"method": "POST", "params": {}, "body": body}, params={"group": "x"}, merge_key=["k"])
        assert bench.refresh(spec).counts.added == 3
        bodies = [(method, headers["Content-Type"], json.loads(sent)) for method, _, headers, sent in upstream.seen]
    assert bodies == [("POST", "application/json", {**body, "id": f"{value}/x"}) for value in "abc"]
    assert loaded(bench) == [(value, f"{value}/x", 7) for value in "abc"]


def test_a_body_of_text_is_sent_as_it_is(tmp_path):
    with Upstream(reply(lambda path, query: {"rows": rows(1)})) as upstream:
        spec = each(request={"method": "POST", "body": "{ rows(series: $s) { k } }"}, values=["a"])
        Bench(tmp_path, upstream.base).refresh(spec)
    assert upstream.seen[0][3] == b"{ rows(series: $s) { k } }"


def test_the_rate_holds_between_the_values(bench, upstream):
    bench.settings = replace(bench.settings, sandbox=False)  # which is asked as fast as it answers
    bench.refresh(each(request={"rate": "1/h"}))
    assert queries(upstream) == ["series=a", "series=b", "series=c"]
    assert len(bench.slept) == 2 and all(3000 < seconds <= 3600 for seconds in bench.slept)


def test_values_and_partitions_are_both_known(bench, upstream, answers):
    columns = {"site": {"type": "text", "from": "{site}"}, **COLUMNS}
    spec = each(
        request={"params": {"series": "{series}", "site": "{site}"}},
        partitions={"static": {"site": ["x", "y"]}}, columns=columns, merge_key=["site", "series", "k"],
    )  # fmt: skip
    assert bench.refresh(spec, "x").counts.added == bench.refresh(spec, "y").counts.added == 5
    assert queries(upstream)[2:4] == ["series=c&site=x", "series=a&site=y"]
    statement = "SELECT site, series, count(*) FROM raw.mini GROUP BY ALL ORDER BY ALL"
    assert rows_of(bench.warehouse, statement) == [(s, v, len(GOOD[v])) for s in "xy" for v in "abc"]


@pytest.mark.parametrize("kind", ["pages", "page", "offset", "cursor", "link", "header"])
def test_each_value_has_its_own_pages(tmp_path, kind):
    every = {"a": rows(5), "b": rows(0), "c": rows(2)}

    def serve(path, query):
        return in_pages(kind, every[path[-1]], 2)(path, query)

    with Upstream(reply(lambda path, query: same_place(serve(path, query), path))) as upstream:
        bench = Bench(tmp_path, upstream.base)
        paging = declared(kind, 2, total="meta.total")
        spec = each(request={"url": PLACE + "/{series}", "params": {}, "paging": paging})
        assert bench.refresh(spec).counts == Counts(fetched=7, added=7)
        assert loaded(bench) == triples(every)
        assert bench.refresh(spec).outcome == "unchanged"


def same_place(given, path):
    """Let links lead back to the address they came from."""
    body = given.partition(b"\r\n\r\n")[2].replace(b"/data?", b"/data/" + path[-1:].encode() + b"?")
    link = given.partition(b"Link: ")[2].partition(b"\r\n")[0].replace(b"/data?", b"/data/" + path[-1:].encode() + b"?")
    return answer(body, headers={"Link": link.decode()} if link else {})


# A value fails.

FAULTS = {
    "gone": (answer(b"no", 404), "permanent"),
    "down": (answer(b"", 503), "transient"),
    "page": (answer(b"<html>sorry"), "permanent"),
    "refused": (answer(b'{"error": "no such series"}', 400), "permanent"),
    "said no": (answer(b'{"error": "no such series"}'), "permanent"),
    "cut": (answer(b'{"rows": [{"k": "a", '), "transient"),
    "empty": (answer(b""), "transient"),
    "shape": (answer(b'{"data": []}'), "contract"),
    "field": (answer(b'{"rows": [{"k": "a", "number": 1}]}'), "contract"),
    "value": (answer(b'{"rows": [{"k": "a", "n": "many"}]}'), "contract"),
    "twice": (answer(b'{"rows": [{"k": "a", "n": 1}, {"k": "a", "n": 2}]}'), "contract"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_value_that_fails_loads_nothing_and_is_named(bench, upstream, answers, fault):
    bench.refresh(each())
    before = bench.rows("mini"), bench.warehouse.states("mini")[0]
    answers.update(a=rows(3), b=FAULTS[fault][0])
    with pytest.raises(RefreshError) as caught:
        bench.refresh(each())
    assert caught.value.error_class == FAULTS[fault][1]
    words = {"value": "got series=b row 1: n='many'", "twice": "got (b, a) 2 times"}.get(fault, "mini: series=b: ")
    assert words in str(caught.value)
    assert (bench.rows("mini"), bench.warehouse.states("mini")[0]) == before


def test_after_a_value_that_could_not_be_fetched_no_other_is_asked_for(bench, upstream, answers):
    answers["b"] = answer(b"no", 404)
    with pytest.raises(UpstreamRefused):
        bench.refresh(each())
    assert queries(upstream) == ["series=a", "series=b"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_rest_is_kept_and_the_failed_values_rows_stay(bench, answers, fault):
    bench.refresh(each("keep_rest"))
    answers.update(a=rows(3), b=FAULTS[fault][0])
    outcome = bench.refresh(each("keep_rest"))
    assert (outcome.outcome, outcome.success, outcome.error_class) == ("partial", True, FAULTS[fault][1])
    assert outcome.counts == Counts(fetched=4, added=1, unchanged=3)
    assert outcome.message.startswith("1 of the requests failed (b); the first: benin/mini: series=b: ")
    assert outcome.message.count("series=b: ") == 1
    assert loaded(bench) == triples({**GOOD, "a": rows(3)})


def test_several_values_that_fail_are_all_named_and_the_first_is_told(bench, answers):
    answers.update(a=answer(b"no", 404), c=answer(b"", 503))
    outcome = bench.refresh(each("keep_rest"))
    assert (outcome.outcome, outcome.error_class, outcome.counts) == (
        "partial",
        "permanent",
        Counts(fetched=2, added=2),
    )
    assert outcome.message.startswith("2 of the requests failed (a, c); the first: benin/mini: series=a: ")
    assert "HTTP 404" in outcome.message
    assert loaded(bench) == triples({"b": GOOD["b"]})


def test_a_value_that_fails_again_is_partial_again_and_the_whole_is_loaded_later(bench, answers):
    answers["c"] = answer(b"no", 404)
    seen = [bench.refresh(each("keep_rest")) for _ in range(2)]
    assert [(outcome.outcome, outcome.counts.added) for outcome in seen] == [("partial", 4), ("partial", 0)]
    assert seen[1].counts == Counts(fetched=4, unchanged=4)
    answers["c"] = GOOD["c"]
    whole = bench.refresh(each("keep_rest"))
    assert (whole.outcome, whole.counts) == ("loaded", Counts(fetched=5, added=1, unchanged=4))
    assert (whole.message, whole.error_class) == (None, None)
    assert bench.refresh(each("keep_rest")).outcome == "unchanged"


def test_a_value_that_fails_after_a_whole_load_is_partial_and_not_unchanged(bench, answers):
    bench.refresh(each("keep_rest"))
    answers["c"] = FAULTS["said no"][0]
    assert [bench.refresh(each("keep_rest")).outcome for _ in range(3)] == ["partial"] * 3
    answers["c"] = GOOD["c"]
    assert bench.refresh(each("keep_rest")).outcome == "unchanged"
    assert loaded(bench) == triples(GOOD)


def test_one_value_left_of_two_is_still_partial(bench, answers):
    answers["b"] = FAULTS["shape"][0]
    spec = each("keep_rest", "ab")
    assert [bench.refresh(spec).outcome for _ in range(2)] == ["partial", "partial"]
    answers["b"] = GOOD["b"]
    assert bench.refresh(spec).counts.added == 2


# One of each class: the kinds of failure are told apart by the tests above.
@pytest.mark.parametrize("fault", ["gone", "down", "value"])
def test_when_every_value_fails_so_does_the_refresh(bench, answers, fault):
    bench.refresh(each("keep_rest"))
    before = bench.rows("mini"), bench.warehouse.states("mini")[0]
    answers.update(dict.fromkeys("abc", FAULTS[fault][0]))
    with pytest.raises(RefreshError, match="series=a: ") as caught:
        bench.refresh(each("keep_rest"))
    assert caught.value.error_class == FAULTS[fault][1]
    assert (bench.rows("mini"), bench.warehouse.states("mini")[0]) == before


def test_values_that_each_are_right_and_together_are_not_load_nothing(bench, answers):
    answers["b"] = [{"k": "k000", "n": 9}]
    for on_error in ("fail", "keep_rest"):
        with pytest.raises(ContractViolation, match="a merge key stands for several rows"):
            bench.refresh(each(on_error, merge_key=["k"]))
    assert not bench.file.exists()


def test_a_later_page_that_fails_takes_its_whole_value_with_it(tmp_path):
    every = {"a": rows(3), "b": rows(3)}

    def serve(path, query):
        if query["series"] == "b" and query["page"] == "2":
            return answer(b"no", 404)
        return in_pages("page", every[query["series"]], 2)(path, query)

    with Upstream(reply(serve)) as upstream:
        bench = Bench(tmp_path, upstream.base)
        outcome = bench.refresh(each("keep_rest", "ab", request={"paging": declared("page", 2)}))
    assert (outcome.outcome, outcome.error_class, outcome.counts.added) == ("partial", "transient", 3)
    assert "series=b: page 2 is gone" in outcome.message
    assert loaded(bench) == triples({"a": every["a"]})


def test_a_value_whose_pages_are_too_large_leaves_room_for_the_others(tmp_path):
    every = {"a": rows(1), "b": rows(40), "c": rows(1)}
    with Upstream(reply(lambda path, query: in_pages("page", every[query["series"]], 4)(path, query))) as upstream:
        bench = Bench(tmp_path, upstream.base)
        spec = each("keep_rest", request={"paging": declared("page", 4), "max_bytes": "800 B"})
        outcome = bench.refresh(spec)
    assert (outcome.outcome, outcome.counts.added) == ("partial", 2)
    assert "(b); the first: benin/mini: series=b: the answers are too large together" in outcome.message


def test_the_second_address_is_tried_for_each_value_by_itself(tmp_path):
    def serve(path, query):
        return {"rows": rows(1)} if path.endswith("new" if query["series"] == "a" else "old") else answer(b"", 404)

    with Upstream(reply(serve)) as upstream:
        bench = Bench(tmp_path, upstream.base)
        spec = each(values=["a", "b"], request={"url": None, "urls": [PLACE + "/new", PLACE + "/old"]})
        assert bench.refresh(spec).counts.added == 2
    assert [path.partition("?")[0][-3:] for _, path, _, _ in upstream.seen] == ["new", "new", "old"]


def test_a_key_that_is_not_set_is_asked_for_and_no_value_is(tmp_path, upstream):
    bench = Bench(tmp_path, upstream.base)
    bench.settings = replace(bench.settings, sandbox=False)
    with pytest.raises(UpstreamRefused, match="DATA_KEY is not set"):
        bench.refresh(each("keep_rest", request={"auth": {"env": "DATA_KEY", "query": "subscription"}}))
    assert upstream.seen == []


def test_a_single_value_is_asked_for_without_validators_too(tmp_path):
    with Upstream(reply(lambda path, query: said({"rows": rows(1)}, ETag='"x"'))) as upstream:
        bench = Bench(tmp_path, upstream.base)
        assert [bench.refresh(each(values=["a"])).outcome for _ in range(2)] == ["loaded", "unchanged"]


def test_values_of_a_csv_are_separate_files_with_a_header_each(tmp_path):
    columns = {**COLUMNS, "k": {"type": "text"}}
    with Upstream(reply(lambda path, query: answer(b"k,n\nx,1\n"))) as upstream:
        spec = csv_spec(
            request={"url": PLACE + "/{series}.csv", "each": {"series": ["a", "b"]}}, columns=columns,
            merge_key=["series", "k"],
        )  # fmt: skip
        bench = Bench(tmp_path, upstream.base)
        assert bench.refresh(spec).counts.added == 2
    assert loaded(bench) == [("a", "x", 1), ("b", "x", 1)]


def test_an_upstream_that_is_down_for_one_value_is_tried_quickly_for_that_value_alone(bench, upstream, answers):
    answers["b"] = answer(b"", 503)
    with pytest.raises(UpstreamUnavailable):
        bench.refresh(each())
    assert queries(upstream) == ["series=a", "series=b", "series=b", "series=b"]
    assert len(bench.slept) == 2
