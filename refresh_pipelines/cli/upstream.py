"""The sandbox a command brings along when nobody serves one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from refresh_pipelines.sandbox import Sandbox
from refresh_pipelines.settings import Settings

_PORT = "REFRESH_SANDBOX_PORT"


@contextmanager
def sandbox_if_needed(settings: Settings) -> Iterator[Settings]:
    """Yield settings whose upstream answers.

    With REFRESH_UPSTREAM=sandbox a sandbox already served on its port is used (`make up`,
    `refresh sandbox`); otherwise one is served on a free port for as long as the command runs.
    """
    if not settings.sandbox or is_served(settings):
        yield settings
        return
    before = os.environ.get(_PORT)
    with Sandbox(settings.samples) as sandbox:
        # Runs read their settings anew from the environment.
        os.environ[_PORT] = sandbox.base.rsplit(":", 1)[1]
        try:
            yield Settings.load(root=settings.root)
        finally:
            del os.environ[_PORT]
            if before is not None:
                os.environ[_PORT] = before


def is_served(settings: Settings) -> bool:
    """Whether a sandbox, and no other program, answers at the upstream of the settings."""
    session = requests.Session()
    session.trust_env = False  # it is on this machine, where no proxy has to take us
    try:
        response = session.head(f"{settings.upstream}/", timeout=2)
    except requests.RequestException:
        return False
    return response.headers.get("Server", "").startswith("refresh-sandbox")
