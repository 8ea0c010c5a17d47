"""Proxies and certificate authorities, from the environment and from .env, for fetches and for the webhook."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from refresh_pipelines.errors import InternalError, UpstreamRefused, UpstreamUnavailable
from refresh_pipelines.notices import Failure, Notices
from refresh_pipelines.proxy import proxy_for, proxy_secrets, route_of
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.going_out import HOST, Proxy, make_authority, tls_host
from refresh_pipelines_tests.served import free_port
from refresh_pipelines_tests.upstream import fetch
from refresh_pipelines_tests.workbench import csv_spec

BODY = b"day,value\n2026-01-01,1\n"
SECURE, PLAIN = (csv_spec(request={"url": f"{scheme}://{HOST}/data.csv"}) for scheme in ("https", "http"))
PASSWORD = "planted%40pass%2Fword"
HOOK = "https://hooks.example.org/services/pathsecret"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def host(authority):
    with tls_host(authority) as port:
        yield port


@pytest.fixture
def proxy(host):
    with Proxy(host).serving() as proxy:
        yield proxy


def body_of(payload):
    return payload.path.read_bytes()


def test_a_secure_request_goes_through_a_tunnel_of_the_proxy(proxy, authority, tmp_path):
    payload = fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url, REQUESTS_CA_BUNDLE=str(authority.ca))
    assert (body_of(payload), payload.url) == (BODY, f"https://{HOST}/data.csv")
    assert proxy.seen == [("CONNECT", f"{HOST}:443", "")]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_plain_request_is_handed_to_the_proxy(proxy, tmp_path, name):
    assert body_of(fetch(PLAIN, None, tmp_path, **{name: proxy.url})) == BODY
    assert proxy.seen == [("GET", f"http://{HOST}/data.csv", "")]


def test_user_and_password_of_the_proxy_are_sent_to_it(proxy, authority, tmp_path):
    proxy.user = "me:planted@pass/word"
    named = proxy.url_of(f"me:{PASSWORD}")
    fetch(SECURE, None, tmp_path, HTTPS_PROXY=named, REQUESTS_CA_BUNDLE=str(authority.ca))
    fetch(PLAIN, None, tmp_path, HTTP_PROXY=named.removeprefix("http://"))
    assert {user for _, _, user in proxy.seen} == {proxy.user}


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_own_authority_is_believed_whichever_variable_names_it(proxy, authority, tmp_path, name):
    payload = fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url, **{name: str(authority.ca)})
    assert body_of(payload) == BODY


def test_a_host_of_an_unknown_authority_is_refused_and_the_variable_is_named(proxy, tmp_path):
    with pytest.raises(UpstreamRefused, match=r"certificate of .* name your own CA in REQUESTS_CA_BUNDLE"):
        fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url)


def test_an_authority_that_has_not_signed_the_host_is_named(proxy, tmp_path, tmp_path_factory):
    other = make_authority(tmp_path_factory.mktemp("other"))
    with pytest.raises(UpstreamRefused, match="add its CA to the file of CURL_CA_BUNDLE"):
        fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url, CURL_CA_BUNDLE=str(other.ca))


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(("text", "said"), [(None, "there is no such file"), ("no certificate", "")])
def test_a_file_of_certificates_that_cannot_be_read_is_named_with_its_variable(proxy, tmp_path, name, text, said):
    file = tmp_path / "corporate.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InternalError) as caught:
        fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url, **{name: str(file)})
    assert str(caught.value).startswith(f"{name} names no certificates that can be read; expected a PEM file")
    assert f"got {file}: {said}" in str(caught.value)
    assert proxy.seen == []


def test_a_file_of_certificates_does_not_matter_to_a_plain_request(proxy, tmp_path):
    assert fetch(PLAIN, None, tmp_path, HTTP_PROXY=proxy.url, REQUESTS_CA_BUNDLE="/nowhere").bytes == len(BODY)


@pytest.mark.parametrize("spec", [SECURE, PLAIN])
def test_a_proxy_that_is_down_is_named_and_its_password_is_not(spec, tmp_path):
    port = free_port()
    proxies = {f"{kind}_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{port}" for kind in ("HTTP", "HTTPS")}
    with pytest.raises(UpstreamUnavailable) as caught:
        fetch(spec, None, tmp_path, **proxies)
    text = str(caught.value)
    name = "HTTPS_PROXY" if spec is SECURE else "HTTP_PROXY"
    assert text.startswith(f"the proxy of {name} (127.0.0.1:{port}) did not answer, so nobody asked {spec.request.url}")
    assert f"Check {name}" in text
    assert "NO_PROXY" in text
    assert "planted" not in text


@pytest.mark.parametrize("spec", [SECURE, PLAIN])
def test_a_proxy_that_wants_a_password_says_so_at_once(proxy, spec, tmp_path):
    proxy.user = "me:right"
    with pytest.raises(UpstreamRefused) as caught:
        fetch(spec, None, tmp_path, HTTP_PROXY=proxy.url_of("me:wr0ngsecret"), HTTPS_PROXY=proxy.url)
    assert "wants a user and a password" in str(caught.value)
    assert "wr0ngsecret" not in str(caught.value)
    assert len(proxy.seen) == 1


@pytest.mark.parametrize(("status", "kind"), [(403, UpstreamRefused), (502, UpstreamUnavailable)])
def test_a_tunnel_the_proxy_refuses_is_the_proxys_doing(proxy, tmp_path, status, kind):
    proxy.refuse = status
    with pytest.raises(kind, match=rf"the proxy of HTTPS_PROXY .*{status}"):
        fetch(SECURE, None, tmp_path, HTTPS_PROXY=proxy.url)


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "ftp://x"])
def test_a_proxy_of_another_kind_is_refused_naming_the_variable(tmp_path, value):
    with pytest.raises(InternalError, match="Correct ALL_PROXY"):
        fetch(SECURE, None, tmp_path, ALL_PROXY=value)


@pytest.mark.parametrize(
    ("url", "excepted", "asked"),
    [
        ("https://data.example.org/x", "", True),
        ("https://data.example.org/x", "example.com, other.org", True),
        ("https://data.example.org/x", "example.org", False),
        ("https://data.example.org/x", ".example.org", False),
        ("https://data.example.org/x", "data.example.org:443", False),
        ("https://data.example.org:8443/x", "data.example.org:443", True),
        ("https://data.example.org/x", "*", False),
        ("http://10.1.2.3/x", "10.0.0.0/8", False),
        ("http://11.1.2.3/x", "10.0.0.0/8, localhost", True),
        ("http://[::1]:80/x", "::1/128", False),
    ],
)
def test_no_proxy_lists_hosts_domains_ports_and_networks(url, excepted, asked):
    environ = {"ALL_PROXY": "http://p:1", "NO_PROXY": excepted}
    assert (proxy_for(url, environ) is not None) == asked


def test_an_empty_variable_is_as_good_as_none():
    assert route_of("https://x.org", {"HTTPS_PROXY": "", "REQUESTS_CA_BUNDLE": ""}).verify is True
    assert proxy_for("https://x.org", {"https_proxy": "", "HTTPS_PROXY": "p:1"}).variable == "HTTPS_PROXY"


def test_passwords_of_proxies_are_known_to_the_redactor():
    environ = {"https_proxy": f"http://me:{PASSWORD}@p:1", "ALL_PROXY": "me:0ther@p", "HTTP_PROXY": "http://p:1"}
    assert proxy_secrets(environ) == [PASSWORD, "planted@pass/word", "0ther"]
    assert redact("socks5h://me:0ther@p:1 and http://:x@p") == "socks5h://***@p:1 and http://***@p"


def notices(folder, **environ):
    found = Notices(Settings.load({"REFRESH_WEBHOOK_URL": HOOK, **environ}, root=folder), lambda: NOW)
    found.report(Failure("fred_fx", "run", (), "transient", "it broke"))
    return found


NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def test_the_webhook_goes_through_the_proxy_and_believes_the_authority(proxy, authority, tmp_path):
    waiting = notices(tmp_path, HTTPS_PROXY=proxy.url, SSL_CERT_FILE=str(authority.ca))
    assert waiting.deliver() == []
    assert (waiting.waiting(), proxy.seen) == (0, [("CONNECT", "hooks.example.org:443", "")])


def test_the_webhooks_proxy_is_named_when_it_is_down(tmp_path):
    port = free_port()
    [problem] = notices(tmp_path, HTTPS_PROXY=f"http://me:{PASSWORD}@127.0.0.1:{port}").deliver()
    assert problem == f"the proxy of HTTPS_PROXY (127.0.0.1:{port}) did not let the webhook be reached: ProxyError"


def test_the_webhook_names_a_file_of_certificates_that_is_not_there(proxy, tmp_path):
    waiting = notices(tmp_path, HTTPS_PROXY=proxy.url, REQUESTS_CA_BUNDLE="/nowhere.pem")
    [problem] = waiting.deliver()
    assert problem.startswith("the webhook was not asked: REQUESTS_CA_BUNDLE names no certificates")
    assert "pathsecret" not in problem
    assert waiting.waiting() == 1


def test_what_stands_in_the_env_file_counts_and_its_password_is_written_nowhere(home, proxy, authority):
    proxy.user = "me:planted@pass/word"
    home.environ["REFRESH_UPSTREAM"] = "live"
    home.add({"benin/far.yaml": MINI.replace("example.org", HOST) + "retry: {attempts: 1}\n"})
    lines = {"HTTPS_PROXY": proxy.url_of(f"me:{PASSWORD}"), "REQUESTS_CA_BUNDLE": authority.ca}
    (home.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    done = home.refresh("run", "far")
    assert done.exit_code == 0, done.output
    proxy.refuse = 403
    failed = home.refresh("run", "far", "--force")
    assert failed.exit_code == 1
    assert "the proxy of HTTPS_PROXY" in failed.output
    (home.folder / ".env").unlink()
    written = [path for path in home.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if b"planted" in path.read_bytes().replace(b"planted5ecret", b"")]
    assert "planted" not in done.output + failed.output


def test_the_bundled_sandbox_is_asked_without_a_proxy(home):
    home.environ |= {"REFRESH_UPSTREAM": "sandbox", "HTTP_PROXY": f"http://127.0.0.1:{free_port()}"}
    assert home.refresh("run", "bsee_ogora").exit_code == 0
