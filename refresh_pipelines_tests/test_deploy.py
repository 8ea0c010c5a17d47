"""The files for containers and proxies, as far as can be said without Docker and nginx: what they name is there."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache

import pytest
import yaml

from refresh_pipelines.service.processes import CODE, UI_BIND, UI_HOST, launch_words, processes
from refresh_pipelines.settings import Settings
from refresh_pipelines.units import parse_duration
from refresh_pipelines_tests.command_home import ROOT

COMPOSE, NGINX = ROOT / "deploy/compose", ROOT / "deploy/nginx"
PAGE = (ROOT / "docs/deploy.md").read_text()
NAMES = [process.name for process in processes(Settings.load({}, root=ROOT))]
OTHERS = {"postgres", "proxy", "oauth2-proxy"}


@cache
def compose():
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


def service(name):
    return compose()["services"][name]


def environment(name):
    return service(name).get("environment", {})


def mounts(name):
    """Return where each volume or file of a service comes from, by where it is mounted."""
    given = (mount.replace("${LOGIN:-basic}", "LOGIN") for mount in service(name).get("volumes", ()))
    return {parts[1]: parts[0] for parts in (mount.split(":") for mount in given)}


def variables(text):
    """Return what Compose fills in, without what is escaped."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


def test_there_is_one_container_for_each_process_that_is_no_stand_in():
    assert set(compose()["services"]) == {*NAMES, *OTHERS}


@pytest.mark.parametrize("name", NAMES)
def test_a_container_starts_the_process_as_the_supervisor_does(name):
    _, *words = launch_words(name)
    wanted = ["-m", "refresh_pipelines.service.gentle"] if name == CODE else words
    assert service(name)["command"] == ["python", *wanted]


@pytest.mark.parametrize("name", [*NAMES, *sorted(OTHERS)])
def test_a_container_has_few_rights_and_is_started_again(name):
    said = service(name)
    assert said["cap_drop"] == ["ALL"] and said["security_opt"] == ["no-new-privileges:true"]
    assert said["read_only"] is True and said["restart"] == "unless-stopped"
    assert "privileged" not in said and "network_mode" not in said and "pid" not in said
    # PostgreSQL's own entry point changes to its user; our image has one.
    assert name == "postgres" or name in NAMES or re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["user"])
    assert "healthcheck" in said or name == "watch"


def test_only_the_proxy_can_be_reached_and_only_it_and_the_api_know_the_token():
    assert [name for name in compose()["services"] if "ports" in service(name)] == ["proxy"]
    assert [name for name in compose()["services"] if "REFRESH_API_TOKEN" in environment(name)] == ["api", "proxy"]
    inside = {name for name, network in compose()["networks"].items() if network.get("internal")}
    assert inside == {"database", "front"}
    # The UI has no login, the database one for all.
    assert set(service("webserver")["networks"]) <= inside and set(service("postgres")["networks"]) == {"database"}
    near = {name for name in compose()["services"] if "front" in service(name)["networks"]}
    assert near == {"webserver", "api", "watch", "proxy", "oauth2-proxy"}


def test_images_are_pinned():
    images = [service(name)["image"] for name in compose()["services"]]
    images += re.findall(r"^FROM (\S+)", (COMPOSE / "Dockerfile").read_text(), re.M)
    for image in images:
        assert re.search(r":v?\d+\.\d+", image) and "latest" not in image, image
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert {service(name)["image"] for name in NAMES} == {f"refresh_pipelines:{version}"}


def test_every_variable_is_one_of_ours_or_asked_for():
    ours = set(re.findall(r"^# (\w+)=", (ROOT / ".env.example").read_text(), re.M))
    assert UI_BIND in PAGE and UI_HOST in PAGE
    asked = set(re.findall(r"^(\w+)=", (COMPOSE / "env.example").read_text(), re.M))
    text = (COMPOSE / "compose.yaml").read_text()
    assert variables(text) == asked
    for name in NAMES:
        assert {key for key in environment(name) if key not in ours} == set(), name
    assert set(re.findall(r"^# (\w+)=", (COMPOSE / "refresh.env.example").read_text(), re.M)) <= ours
    filled = variables((COMPOSE / "nginx.conf.template").read_text())
    assert filled == {"PUBLIC_NAME", "REFRESH_API_TOKEN"} <= set(environment("proxy"))
    assert environment("proxy")["NGINX_ENVSUBST_FILTER"].replace("$$", "$") == f"^({'|'.join(sorted(filled))})$"
    assert re.search(r"\bDATABASE_PASSWORD\b", (COMPOSE / "databases.sh").read_text())


def test_history_and_warehouse_are_the_databases_that_are_made():
    made = set(re.findall(r"CREATE DATABASE (\w+) OWNER (\w+)", (COMPOSE / "databases.sh").read_text()))
    wanted = {
        key: f"postgresql://{user}:${{DATABASE_PASSWORD:?see env.example}}@postgres:5432/{name}"
        for key, (name, user) in zip(("REFRESH_INSTANCE", "REFRESH_WAREHOUSE"), sorted(made), strict=True)
    }
    for name in NAMES:
        assert {key: environment(name)[key] for key in wanted} == wanted


def test_every_volume_network_secret_and_file_is_declared_and_used():
    found = compose()
    used = {"volumes": set(), "networks": set(), "secrets": set()}
    for name, said in found["services"].items():
        used["networks"] |= set(said["networks"])
        used["secrets"] |= set(said.get("secrets", ()))
        for source in mounts(name).values():
            if not source.startswith("."):
                used["volumes"].add(source)
            elif not source.startswith(("./secrets/", "./catalog")):
                for login in ("basic", "oauth2"):
                    assert (COMPOSE / source.replace("LOGIN", login)).is_file(), source
        assert set(said.get("depends_on", ())) <= set(found["services"])
    assert used == {kind: set(found[kind]) for kind in used}
    assert all(value["file"].startswith("./secrets/") for value in found["secrets"].values())
    ignored = set((ROOT / ".gitignore").read_text().split())
    assert {".env", *(f"/deploy/compose/{name}" for name in ("secrets/", "refresh.env", "oauth2-proxy.env"))} <= ignored


@pytest.mark.parametrize("name", NAMES)
def test_all_processes_share_the_data_folder_and_those_that_read_sources_the_catalogue(name):
    assert mounts(name)["/app/data"] == "data"
    assert ("/app/catalog" in mounts(name)) == (name in ("code", "watch", "api"))
    assert ("/app/drops" in mounts(name)) == (name == "code")
    assert service(name)["init"] is True, "a first process is deaf to SIGTERM unless it listens"


def test_what_is_asked_is_healthy_first_and_stops_last_with_time_for_its_runs():
    # Compose stops what depends on a service before it.
    for name in ("webserver", "daemon", "api"):
        assert service(name)["depends_on"] == {"code": {"condition": "service_healthy"}}
    assert service("code")["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert service("proxy")["depends_on"] == {name: {"condition": "service_healthy"} for name in ("webserver", "api")}
    timeout = parse_duration(environment("code")["REFRESH_STOP_TIMEOUT"])
    assert parse_duration(service("code")["stop_grace_period"]) >= timeout + timedelta(seconds=90)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"watch"}))
def test_our_own_check_asks_each_process(name):
    test = service(name)["healthcheck"]["test"]
    assert test == ["CMD", "python", "-m", "refresh_pipelines.service.health", name]


def test_the_image_holds_the_program_alone_and_does_not_run_as_root():
    text = (COMPOSE / "Dockerfile").read_text()
    last = text.split("\nFROM ")[-1]
    user = re.findall(r"^USER (\S+)$", last, re.M)
    assert user == ["10001:10001"] and "USER" not in last.split(f"USER {user[0]}")[1]
    assert not re.search(r"^(ADD|VOLUME|EXPOSE)\b|--privileged|sudo|curl |apt-get", text, re.M)
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for word in line.split()[:-1]}
    assert all((ROOT / word).exists() for word in copied)
    ignore = (COMPOSE / "Dockerfile.dockerignore").read_text().split("\n")
    assert ignore[1] == "*" and {line[1:] for line in ignore if line.startswith("!")} == copied


def test_the_proxy_serves_nothing_without_a_login_but_what_asks_for_its_own():
    text = (NGINX / "refresh/server.conf").read_text()
    assert text.startswith("# ") and "\ninclude refresh/login.conf;" in text
    places = dict(re.findall(r"^location ([^{]+) \{\n(.*?)^\}", text, re.M | re.S))
    open_ones = {place for place, body in places.items() if "auth_basic off;" in body}
    assert open_ones == {r"~ ^/(api/|metrics$|openapi\.json$)", "~ ^/(healthz|readyz)$"}
    assert all(("auth_request off;" in body) == (place in open_ones) for place, body in places.items())
    # A location with one header of its own loses all that are set for the server.
    assert all("add_header" not in body for body in places.values())
    for place, body in places.items():
        if "proxy_set_header" in body:
            assert {"Authorization", "Cookie", "Host"} <= set(re.findall(r"proxy_set_header (\S+)", body)), place
    assert "$http_upgrade" in places["= /graphql"] and "$refresh_connection" in places["= /graphql"]
    assert "limit_except GET" in places["= /status"]


@pytest.mark.parametrize("site", [NGINX / "refresh.conf", COMPOSE / "nginx.conf.template"])
def test_files_of_nginx_are_balanced_and_name_what_is_there(site):
    files = [site, *(NGINX / "refresh").iterdir()]
    everything = "\n".join(re.sub(r"#.*", "", path.read_text()) for path in files)
    quoted = re.sub(r'"[^"]*"', '""', re.sub(r"\$\{\w+\}", "x", everything))
    assert quoted.count("{") == quoted.count("}")
    for line in quoted.split("\n"):
        assert not line.strip() or line.rstrip()[-1] in "{};", line
    for name in re.findall(r"^\s*include (\S+);", everything, re.M):
        assert name == "refresh/login.conf" or (NGINX / name).is_file()
    made = re.findall(r"^(?:map .+?|auth_request_set) \$(refresh_\w+) ", everything, re.M)
    assert set(re.findall(r"\$(refresh_\w+)", everything)) == set(made)


def test_oauth2_proxy_is_configured_where_nginx_asks_and_holds_no_secret():
    text = (NGINX / "oauth2-proxy.cfg").read_text()
    said = dict(re.findall(r"^(\w+) = (.+)$", text, re.M))
    assert f"default {said['http_address']};" in (NGINX / "refresh.conf").read_text()
    assert not re.search(r"^(client_|cookie_)secret|^client_id", text, re.M)
    assert said["cookie_secure"] == said["cookie_httponly"] == said["reverse_proxy"] == "true"
