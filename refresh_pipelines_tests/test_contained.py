"""What containers need beside the processes: a stop that lets runs end, and whether a process answers."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from refresh_pipelines.clock import utc_now
from refresh_pipelines.heartbeat import status_file
from refresh_pipelines.service.health import trouble
from refresh_pipelines.service.processes import code_socket, processes, run_folder
from refresh_pipelines.settings import Settings, SettingsError
from refresh_pipelines_tests.served import free_port

# Serves until it is asked to stop, and says so.
SERVER = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
GENTLE = """
import sys
from refresh_pipelines.errors import InternalError
from refresh_pipelines.service.gentle import serve
def drain():
    print("drained", flush=True)
    if sys.argv[2] == "fails":
        raise InternalError("history is away")
sys.exit(serve([sys.executable, "-c", sys.argv[1]], drain))
"""


def settings_of(folder, **environ):
    return Settings.load(environ, root=folder)


@pytest.mark.parametrize("drain", ["works", "fails"])
def test_asked_to_stop_it_lets_runs_end_and_then_ends_the_server(drain):
    words = [sys.executable, "-c", GENTLE, SERVER, drain]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        said, wrong = process.communicate(timeout=30)
    assert (said, process.returncode) == ("drained\n", 7)
    assert ("history is away" in wrong) == (drain == "fails")


def test_a_server_that_ends_by_itself_is_not_waited_for():
    done = subprocess.run(
        [sys.executable, "-c", GENTLE, "raise SystemExit(3)", "works"], capture_output=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == (b"", 3)


@contextmanager
def code_server(settings, status):
    run_folder(settings).mkdir(parents=True)
    server, servicer = grpc.server(ThreadPoolExecutor(1)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("DagsterApi", status)
    server.add_insecure_port(f"unix:{code_socket(settings)}")
    server.start()
    yield
    server.stop(0).wait()


def test_the_code_server_is_asked_by_grpc(tmp_path):
    settings = settings_of(tmp_path)
    assert "code.sock does not answer" in trouble("code", settings)
    with code_server(settings, health_pb2.HealthCheckResponse.SERVING):
        assert trouble("code", settings) == ""


def test_a_code_server_that_is_not_ready_is_not_well(tmp_path):
    with code_server(settings_of(tmp_path), health_pb2.HealthCheckResponse.NOT_SERVING):
        assert "does not serve" in trouble("code", settings_of(tmp_path))


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/server_info", "/healthz") else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("name", "setting"), [("webserver", "REFRESH_UI_PORT"), ("api", "REFRESH_API_PORT")])
def test_what_listens_is_asked_by_http(tmp_path, name, setting):
    nobody = free_port()
    assert f"port {nobody} does not answer" in trouble(name, settings_of(tmp_path, **{setting: str(nobody)}))
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert trouble(name, settings_of(tmp_path, **{setting: str(server.server_port)})) == ""
        server.shutdown()


@pytest.mark.parametrize(
    ("age", "said"), [(None, "no daemon has looked yet"), (170, ""), (200, "No daemon has looked")]
)
def test_the_daemon_is_known_by_its_sign_of_life(tmp_path, age, said):
    settings = settings_of(tmp_path)
    if age is not None:
        at = utc_now() - timedelta(seconds=age)
        status_file(settings.data_dir).parent.mkdir()
        status_file(settings.data_dir).write_text(f'{{"heartbeat": "{at.isoformat()}"}}')
    found = trouble("daemon", settings)
    assert found.startswith(said) and bool(found) == bool(said)


def test_what_cannot_be_asked_is_a_wrong_name(tmp_path):
    with pytest.raises(ValueError, match="expected one of code, webserver, api, daemon; got 'watch'"):
        trouble("watch", settings_of(tmp_path))


def test_the_ui_listens_elsewhere_only_where_it_is_told_to(tmp_path):
    def words(name, **environ):
        return next(one.words for one in processes(settings_of(tmp_path, **environ)) if one.name == name)

    assert words("webserver")[2:6] == ("-h", "127.0.0.1", "-p", "3000")
    assert words("webserver", REFRESH_UI_BIND="0.0.0.0")[2:4] == ("-h", "0.0.0.0")
    assert words("watch")[-2:] == ("3000", "127.0.0.1")
    assert words("watch", REFRESH_UI_HOST="webserver")[-2:] == ("3000", "webserver")
    with pytest.raises(SettingsError, match=r"REFRESH_UI_BIND='10\.0\.0\.1': expected"):
        words("webserver", REFRESH_UI_BIND="10.0.0.1")
