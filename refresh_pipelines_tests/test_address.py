"""Which addresses are ours alone, what is masked in texts, and what errors and outcomes say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refresh_pipelines.address import guard, is_private, rebase, unrebase
from refresh_pipelines.errors import ContractViolation, UpstreamRefused, WrongPeriod
from refresh_pipelines.outcome import GOOD_EXIT, SUCCESS, Counts, Outcome, Seconds, failed
from refresh_pipelines.redact import MASK, redact
from refresh_pipelines_tests.workbench import spec_of


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.0.1", "0x7f000001", "0x7f.0.0.1", "0x7F.1", "0177.0.0.1", "2130706433", "0",
        "0.0.0.0",
        "10.0.0.8", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
        "::1", "[::1]", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe", "localhost", "LOCALHOST", "localhost.", "a.localhost", "localhost.localdomain",
        "printer.local",
        "ip6-localhost", "metadata", "metadata.google.internal", "vault.internal", "\u2460\u2461\u2466.0.0.1",
        "127\u30020\u30020\u30021",
    ],
)  # fmt: skip
def test_addresses_of_our_own_networks_are_private_however_they_are_written(host):
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.org", "0xproject.com", "0x.org", "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "127.0.0.1.example.org",
        "localhost.example.org", "internal.example.org", "163.com", "1password.com", "api.0x", "bücher.example",
        "123.example",
    ],
)  # fmt: skip
def test_names_and_public_addresses_are_not_private(host):
    assert not is_private(host)


@given(st.ip_addresses())
def test_every_literal_address_is_decided(address):
    assert is_private(str(address)) == (not address.is_global or address.is_multicast)


def refused(url, allow=False, **environ):
    try:
        guard(url, allow, environ)
    except UpstreamRefused as error:
        return str(error)
    return None


def test_private_hosts_are_refused_unless_that_is_allowed():
    assert "10.0.0.8 lies inside a private network" in refused("https://u:p@10.0.0.8:8443/x?key=1")
    assert refused("https://10.0.0.8/x", allow=True) is None
    assert refused("https://example.org/x") is None


@pytest.mark.parametrize(
    "url", ["ftp://example.org/k?key=1", "file:///etc/passwd", "example.org", "http://[bad?key=1", "https://", ""]
)
def test_what_is_no_web_address_is_refused_without_repeating_it(url):
    text = refused(url, allow=True)
    assert "no web address" in text and "key" not in text and "passwd" not in text


@pytest.mark.parametrize(
    ("environ", "checked"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, False), ({"https_proxy": "http://p:1"}, False),
        ({"ALL_PROXY": "http://p:1"}, False),
        ({"HTTP_PROXY": "http://p:1"}, True), ({"HTTPS_PROXY": ""}, True),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.8"}, True),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, True),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org"}, False),
    ],
)  # fmt: skip
def test_where_a_proxy_is_asked_the_proxy_decides(environ, checked):
    assert (refused("https://10.0.0.8/", **environ) is not None) is checked


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://example.org/a?b=1#c", "http://s:1/example.org/a?b=1"), ("https://example.org", "http://s:1/example.org/"),
        ("http://example.org:81/a", "http://s:1/example.org:81/a"),
    ],
)  # fmt: skip
def test_a_stand_in_serves_host_and_path(url, asked):
    assert rebase(url, "http://s:1") == asked
    assert rebase(url, None) == url


def test_only_addresses_of_the_stand_in_are_turned_back():
    assert unrebase("http://s:1/example.org/a", "http://s:1") == "https://example.org/a"
    assert unrebase("http://s:10/example.org/a", "http://s:1") == "http://s:10/example.org/a"
    assert unrebase("/a", "http://s:1") == unrebase("/a", None) == "/a"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/?api_key=abc&x=1", "https://h/?api_key=***&x=1"), ("https://h/?x=1&KEY=abc", "https://h/?x=1&KEY=***"),
        ("my_api_key=abc end", "my_api_key=*** end"), ("https://u:p@h/", "https://***@h/"),
        ('{"api_key":"abc","x":1}', '{"api_key":"***","x":1}'),
        ("{'access_token': 'abc'}", "{'access_token': \"***\"}"),
        ("Authorization: Bearer abc, x", "Authorization: ***, x"), ("X-API-Key: abc", "X-API-Key: ***"),
        ('{"token": "cut off', '{"token": "***"'),
    ],
)  # fmt: skip
def test_what_stands_behind_a_name_of_a_secret_is_masked(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "The value for variable api_key is not registered.",
        "monkey=1",
        "merge_key: [a]",
        "partition key 2026",
        '{"key": "a"}',
        "",
    ],
)
def test_words_that_only_look_like_secrets_stay(text):
    assert redact(text) == text


@given(
    st.text(st.characters(codec="utf-8"), min_size=4, max_size=20).filter(
        lambda s: MASK not in s and s not in "https://h/?q=&x="
    )
)
def test_a_known_secret_is_masked_plain_quoted_and_in_an_address(secret):
    import requests  # noqa: PLC0415

    url = requests.Request("GET", "https://h/", params={"q": secret, "x": ""}).prepare().url
    encoded = url.removeprefix("https://h/?q=").removesuffix("&x=")
    for text in (secret, repr(secret), encoded, f"a {secret} b"):
        assert MASK in redact(text, [secret])
        assert secret not in redact(text, [secret]).replace(MASK, "")


def test_no_secret_masks_nothing():
    assert redact("text", ["", "longer"]) == "text"


def test_an_error_says_where_what_was_expected_what_came_and_what_to_do():
    error = ContractViolation("it is wrong", expected="this", came="that.", todo="Do it.")
    assert str(error) == "it is wrong; expected this; got that. Do it."
    assert str(error.at("g/s", "2026-01-01")) == "g/s[2026-01-01]: it is wrong; expected this; got that. Do it."
    assert error.at("other", None).source == "g/s"
    assert str(ContractViolation("it is wrong").at("g/s", None)) == "g/s: it is wrong."
    assert WrongPeriod("x", earlier=True).error_class == "contract"


def test_a_failure_becomes_an_outcome_with_its_counts():
    error = ContractViolation("it is wrong")
    error.fetched, error.rejected = 7, 2
    item = failed(spec_of(), "p", error).item()
    assert list(item) == [
        "source", "group", "partition", "outcome", "error_class", "message", "fetched", "added", "updated", "unchanged",
        "deleted", "rejected", "duplicates", "filtered", "bytes", "bytes_saved", "sha256", "seconds", "run_id",
        "started_at", "trigger", "quarantine",
    ]  # fmt: skip
    assert (item["outcome"], item["error_class"], item["fetched"], item["rejected"]) == ("failed", "contract", 7, 2)
    assert item["message"] == "benin/mini[p]: it is wrong."


def test_counts_balance_when_every_fetched_row_has_one_fate():
    assert Counts(
        fetched=15, added=1, updated=2, unchanged=3, rejected=4, duplicates=5, deleted=9, filtered=9
    ).balanced()
    assert not Counts(fetched=1).balanced()
    assert Seconds(1, 2, 3, 4).total == 10


@pytest.mark.parametrize(
    ("kind", "success", "good"),
    [
        ("loaded", True, True), ("unchanged", True, True), ("empty", True, True), ("partial", True, False),
        ("not_yet", False, True), ("blocked", False, True), ("quarantined", False, False), ("failed", False, False),
    ],
)  # fmt: skip
def test_each_outcome_is_or_is_not_a_success_and_a_good_exit(kind, success, good):
    assert (Outcome("s", "g", None, kind).success, kind in SUCCESS, kind in GOOD_EXIT) == (success, success, good)
