"""Who is let in: tokens, hosts, and what a browser can be made to send; and that names do no harm on the page."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from refresh_pipelines.cli.main import main
from refresh_pipelines.pauses import open_pauses
from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.service.auth import Access, is_loopback
from refresh_pipelines.settings import SAMPLES, Settings, SettingsError
from refresh_pipelines_tests.api_bench import Api, error
from refresh_pipelines_tests.catalogues import MINI
from refresh_pipelines_tests.command_home import Home

LONG = timedelta(hours=1)
TOKEN = "planted-t0ken-of-the-api"
ADDRESSES = ("/", "/metrics", "/openapi.json", "/api/sources", "/api/scheduler/status", "/api/sources/fred_fx", "/nix")
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory, empty_history):
    """Return one home for all tests here: what is refused leaves no trace, which is what they are about."""
    with Sandbox(SAMPLES) as sandbox:
        yield Home(tmp_path_factory.mktemp("home"), empty_history, sandbox)


@pytest.fixture(scope="module")
def open_api(shared_home):
    with Api(shared_home, LONG) as api:
        yield api


@pytest.fixture(scope="module")
def api(shared_home):
    with Api(shared_home, LONG, REFRESH_API_TOKEN=TOKEN, REFRESH_API_HOSTS="data.example.org, [fd00::7]") as api:
        yield api


def access(**environ):
    return Access.of(Settings.load(environ), "127.0.0.1")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}, Bearer x",
        "Bearer \xff\xfe",
    ],
)
def test_without_the_token_nothing_is_told(api, wrong):
    headers = [] if wrong is None else [(b"Authorization", wrong.encode("latin-1"))]
    for path in ADDRESSES:
        answer = api.client.get(path, headers=headers)
        told = error(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.text
        assert told["problem"] == "the token is missing or wrong"
    said = [*headers, (b"Content-Type", b"application/json")]
    error(api.client.post("/api/sources/fred_fx/schedule/disable", headers=said), 401)
    assert open_pauses(api.settings.data_dir) == {}


def test_with_the_token_all_is_told(api):
    for path in ADDRESSES[:-1]:
        assert api.client.get(path, headers=RIGHT).status_code == 200
    assert api.client.get("/api/sources", headers={"Authorization": f"bearer  {TOKEN}"}).status_code == 200
    error(api.client.get("/nix", headers=RIGHT), 404)


@pytest.mark.parametrize("path", ["/api/sources?token=" + TOKEN, "/api/sources?access_token=" + TOKEN])
def test_a_token_in_the_address_is_none(api, path):
    error(api.get(path), 401)


@pytest.mark.parametrize("path", ["//api/sources", "/healthz/../api/sources", "/api/sources/", "/HEALTHZ", "/healthz/"])
def test_other_spellings_of_an_address_are_no_way_around(api, path):
    error(api.get(path), 401)


def test_health_is_told_without_the_token_and_why_only_with_it(api):
    assert api.get("/healthz").json() == {"version": 1, "ok": True, "problems": []}
    assert api.get("/readyz").json() == {"version": 1, "ok": False, "problems": []}
    [problem] = api.client.get("/readyz", headers=RIGHT).json()["problems"]
    assert problem.startswith("No daemon")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8087",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:8087@evil.example",
        "localhost, evil.example",
        "localhost:port",
        "localhost:8087:1",
        "",
        " ",
        "[::1].evil.example",
        "0.0.0.0",
        "127.1",
    ],
)
def test_a_host_that_is_not_allowed_is_refused_whatever_is_asked(open_api, host):
    for path in ("/", "/healthz", "/readyz", "/metrics", "/api/sources", "/nix"):
        error(open_api.client.get(path, headers={"Host": host}), 403)
    error(open_api.post("/api/sources/fred_fx/schedule/disable", Host=host), 403)
    assert open_pauses(open_api.settings.data_dir) == {}


def test_two_hosts_or_a_forwarded_one_do_not_count(open_api):
    two = [(b"host", b"localhost"), (b"host", b"evil.example")]
    with pytest.raises(Exception, match="not allowed"):
        access().check("GET", "/", two)
    with pytest.raises(Exception, match="not allowed"):
        access().check("GET", "/healthz", [])
    headers = {"Host": "evil.example", "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
    error(open_api.client.get("/api/sources", headers=headers), 403)


def test_names_of_loopback_and_those_of_the_setting_are_allowed(api):
    for host in ("localhost", "LOCALHOST:9", "127.0.0.1:8087", "[::1]:8087", "data.example.org", "[fd00::7]:8087"):
        assert api.client.get("/api/sources", headers={**RIGHT, "Host": host}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonp",
        "text/json",
    ],
)
@pytest.mark.parametrize("what", ["schedule/disable", "schedule/enable", "run"])
def test_what_a_form_of_another_page_can_send_changes_nothing(open_api, kind, what):
    headers = {} if kind is None else {"Content-Type": kind}
    error(open_api.client.post(f"/api/sources/fred_fx/{what}", headers=headers, content=b"{}"), 415)
    assert open_pauses(open_api.settings.data_dir) == {}
    assert open_api.instance.get_runs_count() == 0


def test_a_page_of_another_host_is_refused_and_asks_in_vain(open_api):
    for origin in ("http://evil.example", "null", "http://[", "file://", "http://localhost.evil.example", ""):
        error(open_api.post("/api/sources/fred_fx/schedule/disable", Origin=origin), 403)
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = open_api.client.options("/api/sources/fred_fx/run", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    own = open_api.post("/api/sources/fred_fx/schedule/disable", Origin="http://127.0.0.1:8087")
    assert own.json()["changed"] is True
    open_api.post("/api/sources/fred_fx/schedule/enable")


def test_a_get_changes_nothing(open_api):
    for what in ("schedule/enable", "schedule/disable", "run"):
        assert open_api.get(f"/api/sources/fred_fx/{what}").status_code in {404, 405}
    assert open_pauses(open_api.settings.data_dir) == {}


def test_long_and_endless_bodies_are_refused(open_api):
    path = "/api/sources/fred_fx/schedule/disable"
    error(open_api.post(path, {"reason": "x" * 70_000}), 413)
    for length in ("-1", "0x10", "1" * 30, "00000000000000065537"):
        headers = [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", length.encode()),
        ]
        with pytest.raises(Exception, match="too long"):
            access().check("POST", path, headers)
    error(open_api.client.post(path, headers={"Content-Type": "application/json"}, content=iter([b"{}"])), 411)


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_only_loopback_is_served_without_a_token(address, own):
    assert is_loopback(address) is own
    if own:
        Access.of(Settings.load({}), address)
        return
    with pytest.raises(SettingsError, match="REFRESH_API_TOKEN is not set"):
        Access.of(Settings.load({"REFRESH_API_TOKEN": " "}), address)
    assert Access.of(Settings.load({"REFRESH_API_TOKEN": TOKEN}), address).token == TOKEN


def test_the_command_does_not_start_where_others_could_reach_it(tmp_path):
    result = CliRunner().invoke(main, ["api", "--host", "0.0.0.0"], env={"REFRESH_DATA_DIR": str(tmp_path / "data")})
    assert (result.exit_code, "REFRESH_API_TOKEN is not set" in result.output) == (2, True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFRESH_API_TOKEN", "two words"),
        ("REFRESH_API_TOKEN", "ключ"),
        ("REFRESH_API_HOSTS", "http://a.example"),
        ("REFRESH_API_HOSTS", "a.example:80"),
        ("REFRESH_API_HOSTS", "*"),
        ("REFRESH_API_PORT", "0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name, value):
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.load({name: value})
    assert name != "REFRESH_API_TOKEN" or value not in str(caught.value)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


OURS = {"html", "head", "meta", "title", "style", "body", "h1", "p", "table", "thead", "tbody", "tr", "th", "td", "b"}


def test_hostile_names_are_text_and_the_page_loads_nothing(open_api):
    names = ["<script>alert(1)<", '"><img src=x onerror=alert(1)>', "'-->{{7*7}}", "a\nb\tc", "&lt;b&gt;", "\u202ex"]
    open_api.home.add({f"benin/{name}.yaml": MINI for name in names})
    open_api.board.forget()
    answer = open_api.get("/")
    tags = Tags(answer.text)
    assert tags.found <= OURS
    assert not {name for name in tags.attributes if name.startswith("on")} | tags.attributes & {"src", "href"}
    assert "&lt;script&gt;" in answer.text
    assert "://" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/]{43}='", answer.headers["Content-Security-Policy"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert {item["source"] for item in open_api.items("/api/sources")} >= set(names)
    assert open_api.get("/metrics").status_code == 200
