"""A process of its own for tests: refreshes once, with a way to die or a lack of something.

python -m refresh_pipelines_tests.refreshing_child FOLDER BASE TROUBLE [SOURCE PARTITION...]

With TROUBLE `crowd` each partition is refreshed in a process of its own, all at once.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

from refresh_pipelines.errors import RefreshError
from refresh_pipelines.refresh import refresh
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import window_of
from refresh_pipelines_tests.workbench import Bench, builtin, csv_spec, say

NOBODY = 65534
# After which stage no file may grow beyond 64 KB: the nearest to a full disk that needs no rights.
FULL = {"full-staging": "fetched", "full-warehouse": "staged"}


def main() -> None:
    folder, base, trouble, *rest = sys.argv[1:]
    bench = Bench(Path(folder), base, lock_timeout=60)
    if rest == ["snapshot"]:
        spec, keys = csv_spec(load={"mode": "snapshot", "history": True}), [None]
    else:
        spec, keys = (builtin(rest[0]), rest[1:]) if rest else (csv_spec(), [None])
    if trouble == "crowd":
        crowd(bench, spec, keys)
    else:
        one(bench, spec, keys[0], trouble, "child-run")


def crowd(bench: Bench, spec: SourceSpec, keys: list[str]) -> None:
    # Forked before anything is opened: ten interpreters would spend their time on imports.
    children = []
    for key in keys:
        child = os.fork()
        if child == 0:
            one(bench, spec, key, "crowd", f"{os.getpid():08}")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def one(bench: Bench, spec: SourceSpec, key: str | None, trouble: str, run_id: str) -> None:
    tools = replace(bench.tools(), progress=lambda stage: suffer(trouble, stage))
    if trouble == "readonly":
        bench.settings.data_dir.mkdir(mode=0o555)
        give_up_root()
    try:
        outcome = refresh(spec, window_of(spec, key), tools, run_id=run_id)
        say(outcome.outcome, outcome.counts.added, outcome.seconds.wait)
    except RefreshError as error:
        say(error.error_class, error)
    if trouble == "readonly":
        bench.settings.data_dir.chmod(0o755)


def suffer(trouble: str, stage: str) -> None:
    if stage == trouble:
        os.kill(os.getpid(), signal.SIGKILL)
    if stage == FULL.get(trouble):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
    if (trouble, stage) == ("pause", "merged"):
        say(stage)


def give_up_root() -> None:
    """Root may write anywhere; anybody else keeps their own rights, which the folder refuses."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


if __name__ == "__main__":
    main()
