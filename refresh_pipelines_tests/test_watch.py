"""The catalogue watcher: what it takes for a change, when it asks for a reload, and what it says."""

from __future__ import annotations

import json
import os
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from refresh_pipelines.cli.watch import Webserver
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines.watch import BUSY, IDLE, Healer, NotReloaded, Watcher
from refresh_pipelines_tests.catalogues import MINI, write
from refresh_pipelines_tests.served import free_port

LIVE = "catalogue: the change is live"


class Watched:
    """A watcher over a catalogue folder, with the answers that the next reloads get."""

    def __init__(self, root, files):
        self.root, self.catalog = root, root / "catalog"
        self.write(files)
        self.reloads, self.said, self.answers = 0, [], []
        self.watcher = Watcher(self._settings, self._reload, self.said.append)

    def _settings(self):
        return Settings.load({"REFRESH_CATALOG": "catalog"}, self.root)

    def _reload(self):
        self.reloads += 1
        return self.answers.pop(0) if self.answers else None

    def write(self, files):
        write(self.catalog, files)

    def steps(self, count):
        return [self.watcher.step() for _ in range(count)]


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path, {"benin/a.yaml": MINI})


def test_nothing_happens_while_nothing_changes(watched):
    assert watched.steps(3) == [IDLE] * 3
    assert (watched.reloads, watched.said) == (0, [])


@pytest.mark.parametrize(
    "name", ["benin/b.yaml", "new/b.yaml", "benin/group.yaml", "defaults.yaml", "benin/deep/b.yaml"]
)
def test_a_new_file_is_live_after_it_stood_still_for_a_look(watched, name):
    watched.write({name: MINI})
    assert watched.steps(1) == [BUSY]
    assert watched.reloads == 0
    assert watched.steps(2) == [IDLE, IDLE]
    assert (watched.reloads, watched.said[-1]) == (1, LIVE)


def test_a_file_that_is_still_being_written_is_waited_for(watched):
    for end in range(1, 5):
        watched.write({"benin/b.yaml": MINI[: 20 * end]})
        assert watched.steps(1) == [BUSY]
    watched.write({"benin/b.yaml": MINI})
    watched.steps(3)
    assert (watched.reloads, watched.said) == (1, [LIVE])


def test_a_deleted_file_and_a_deleted_folder_are_changes(watched):
    watched.write({"benin/b.yaml": MINI})
    watched.steps(2)
    (watched.catalog / "benin/b.yaml").unlink()
    watched.steps(2)
    shutil.rmtree(watched.catalog)
    watched.steps(2)
    assert watched.reloads == 3
    assert "there is no such catalogue folder" in watched.said[-2]
    watched.write({"benin/a.yaml": MINI})
    watched.steps(2)
    assert (watched.reloads, watched.said[-1]) == (4, LIVE)


def test_a_renamed_folder_is_a_change(watched):
    (watched.catalog / "benin").rename(watched.catalog / "togo")
    watched.steps(2)
    assert watched.reloads == 1


def test_an_edit_that_keeps_size_and_time_of_another_file_is_seen(watched):
    path = watched.catalog / "benin/a.yaml"
    stat = path.stat()
    other = write(watched.root, {"other.yaml": MINI.replace("a test", "b test")}) / "other.yaml"
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(path)
    watched.steps(2)
    assert watched.reloads == 1


def test_a_file_that_is_only_touched_is_no_change(watched):
    (watched.catalog / "benin/a.yaml").touch()
    watched.steps(3)
    assert watched.reloads == 0


def test_what_is_no_source_file_is_not_watched(watched):
    watched.write({"benin/notes.txt": "x", "benin/.a.yaml.swp": "x", ".git/a.yaml": "x", "benin/.b.yaml": "x"})
    assert watched.steps(2) == [IDLE, IDLE]


def test_a_link_that_leads_nowhere_is_passed_over(watched):
    (watched.catalog / "benin/gone.yaml").symlink_to(watched.root / "nowhere.yaml")
    (watched.catalog / "benin/b.yaml").write_text(MINI)
    watched.steps(2)
    assert watched.reloads == 1


def test_every_problem_is_said_where_it_stands_and_the_rest_goes_live(watched):
    watched.write({"benin/a.yaml": MINI + "ownr: me\n", "benin/b.yaml": MINI})
    watched.steps(2)
    problem, live = watched.said
    assert problem.startswith(f"catalogue: {watched.catalog}/benin/a.yaml:9:1: unknown key ownr (did you mean owner?)")
    assert (live, watched.reloads) == (LIVE, 1)


def test_a_change_of_the_env_file_is_a_change_of_the_sources(watched):
    (watched.root / ".env").write_text("FRED_API_KEY=x\n")
    watched.steps(2)
    assert watched.reloads == 1


def test_settings_that_are_wrong_are_said_and_not_loaded(watched):
    (watched.root / ".env").write_text("REFRESH_LOCK_TIMEOUT=soon\n")
    watched.steps(3)
    assert watched.reloads == 0
    assert watched.said[-1].startswith("catalogue: not reloaded, REFRESH_LOCK_TIMEOUT='soon'")
    (watched.root / ".env").write_text("REFRESH_LOCK_TIMEOUT=5m\n")
    watched.steps(2)
    assert watched.reloads == 1


def test_settings_that_are_wrong_from_the_start_are_an_error(tmp_path):
    with pytest.raises(SettingsError):
        Watcher(lambda: Settings.load({"REFRESH_LOCK_TIMEOUT": "soon"}, tmp_path), lambda: None, print)


def test_a_reload_that_nobody_answers_is_asked_for_again_and_said_once(watched):
    watched.answers = [NotReloaded("nobody answers", again=True)] * 3
    watched.write({"benin/b.yaml": MINI})
    assert watched.steps(5) == [BUSY, BUSY, BUSY, BUSY, IDLE]
    assert watched.reloads == 4
    assert watched.said == ["catalogue: not reloaded, nobody answers; trying again", LIVE]


def test_a_reload_that_was_refused_waits_for_the_next_change(watched):
    watched.answers = [NotReloaded("Dagster says no", again=False)]
    watched.write({"benin/b.yaml": MINI})
    watched.steps(4)
    assert (watched.reloads, watched.said) == (1, ["catalogue: not reloaded, Dagster says no"])
    watched.write({"benin/c.yaml": MINI})
    watched.steps(2)
    assert (watched.reloads, watched.said[-1]) == (2, LIVE)


@pytest.fixture
def answering():
    """Serve GraphQL on loopback; `answers` is what comes, `asked` what was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(server.answer).encode()
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answer, server.status = [], {}, 200
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def reloaded(typename, **fields):
    return {"data": {"reloadRepositoryLocation": {"__typename": typename, **fields}}}


def test_a_location_that_loads_is_reloaded(answering):
    loaded = {"__typename": "RepositoryLocation"}
    answering.answer = reloaded("WorkspaceLocationEntry", locationOrLoadError=loaded)
    assert Webserver(answering.server_port).reload() is None
    assert answering.asked[0]["variables"] == {"name": "refresh_pipelines"}


@pytest.mark.parametrize(
    ("answer", "reason", "again"),
    [
        (
            reloaded("WorkspaceLocationEntry", locationOrLoadError={"__typename": "PythonError", "message": "boom\n"}),
            "Dagster says: boom", False,
        ),
        (reloaded("RepositoryLocationNotFound", message="not there"), "Dagster says: not there", True),
        (reloaded("PythonError", message="inner"), "Dagster says: inner", False),
        ({"errors": ["no such field"]}, "Dagster says: ['no such field']", False),
        ({}, "Dagster says: it gave no reason", False),
    ],
)  # fmt: skip
def test_what_the_webserver_refuses_has_a_reason(answering, answer, reason, again):
    answering.answer = answer
    assert Webserver(answering.server_port).reload() == NotReloaded(reason, again)


def test_a_webserver_that_is_not_there_or_ill_is_asked_again(answering):
    answering.status = 500
    assert Webserver(answering.server_port).reload().again
    refused = Webserver(free_port()).reload()
    assert refused.again
    assert "the Dagster UI does not answer on http://127.0.0.1:" in refused.reason


def test_what_the_webserver_says_of_definitions_that_are_not_live(answering):
    server = Webserver(answering.server_port)
    for loaded, said in (
        ({"__typename": "PythonError", "message": "no\n history"}, "no history"),
        ({"__typename": "RepositoryLocation"}, ""),
        (None, ""),
    ):
        answering.answer = {"data": {"workspaceLocationEntryOrError": {"locationOrLoadError": loaded}}}
        assert server.broken() == said
    answering.answer = {"errors": ["no such field"]}
    assert server.broken() == Webserver(free_port()).broken() == ""


def test_definitions_that_could_not_be_loaded_are_loaded_anew_ever_more_seldom():
    found, answers, said = ["", "away", "away", "away", ""], [NotReloaded("no", again=False)] * 2 + [None], []
    looks = []

    def broken():
        looks.append(now)
        return found.pop(0)

    healer = Healer(broken, lambda: answers.pop(0), said.append)
    for now in range(0, 220, 2):
        healer.step(now)
    assert looks == [0, 30, 90, 210]
    assert [line.split(":")[0] for line in said] == [
        "the definitions cannot be loaded, next try in 60 s",
        "the definitions cannot be loaded, next try in 120 s",
        "the definitions could not be loaded and were loaded anew",
    ]
