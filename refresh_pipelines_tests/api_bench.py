"""The API in process, over the instance and catalogue of a `home`."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

from starlette.testclient import TestClient

from refresh_pipelines.clock import utc_now
from refresh_pipelines.orchestration.instance import open_instance
from refresh_pipelines.service.api import create_app
from refresh_pipelines.service.auth import Access
from refresh_pipelines.service.board import Board
from refresh_pipelines.settings import Settings

JSON = {"Content-Type": "application/json"}


class Api:
    """A client that is told what a person's tool would be told.

    Args:
        keep: how long the board shows what it has gathered.
    """

    def __init__(self, home, keep=timedelta(0), **environ):
        self.home, self.keep, self.environ = home, keep, environ
        self.now = None

    def __enter__(self):
        self._stack = ExitStack()
        self._stack.enter_context(self.home.entered())
        self.settings = Settings.load({**self.home.environ, **self.environ}, self.home.folder)
        self.instance = self._stack.enter_context(open_instance(self.settings))
        self.board = Board(self.settings, self.instance, lambda: self.now or utc_now(), self.keep)
        self.app = create_app(self.board, Access.of(self.settings, self.settings.api_bind))
        client = TestClient(self.app, base_url="http://127.0.0.1:8087", raise_server_exceptions=False)
        self.client = self._stack.enter_context(client)
        return self

    def __exit__(self, *_):
        self._stack.close()

    def get(self, path, **headers):
        return self.client.get(path, headers=named(headers))

    def items(self, path):
        return self.get(path).json()["items"]

    def post(self, path, body=None, **headers):
        content = {} if body is None else {"json": body}
        return self.client.post(path, headers={**JSON, **named(headers)}, **content)


def named(headers):
    """Return headers whose names were written as Python has names."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def error(answer, status):
    """Return the parts of an answer that must be a refusal with this status."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["version"], body["ok"], set(body)) == (1, False, {"version", "ok", "error"})
    assert set(body["error"]) == {"problem", "expected", "came", "todo"}
    assert "Traceback" not in answer.text
    return body["error"]
