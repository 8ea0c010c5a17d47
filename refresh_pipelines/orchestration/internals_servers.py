"""More of `internals`: Dagster's code servers. Watched by a test of their own.

Called when the definitions are loaded, so it imports nothing of Dagster that is not there already.
"""

from __future__ import annotations

import sys
from typing import Any

from refresh_pipelines.orchestration.server import history_errors
from refresh_pipelines.redact import redact

SERVER = "dagster._grpc.server"


def outlive_outages() -> None:
    """Have the server that this process is look after its runs also when Dagster's history was away; else do nothing.

    A thread of the server looks for runs whose process has died, and ends the server when it is told to and no run is
    left. It asks the history for each dead run, and the first question that fails ends the thread for good: later
    deaths go unseen, and the server never ends, which after each reload or restart of the code server leaves one more.
    """
    module: Any = sys.modules.get(SERVER)
    if module is None or hasattr(module.DagsterApiServer, "refresh_check"):
        return
    check = module.DagsterApiServer._check_for_orphaned_runs

    def patiently(server: Any) -> None:
        try:
            check(server)
        except history_errors() as error:
            said = redact(" ".join(str(error).split()))[:300]
            server._logger.warning(f"Runs whose process has died could not be looked after; trying again: {said}")

    module.DagsterApiServer.refresh_check = check
    module.DagsterApiServer._check_for_orphaned_runs = patiently
