"""A root folder for commands that need Dagster: dagster.yaml, empty history, own catalogue, sandbox as upstream."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from click.testing import CliRunner

from refresh_pipelines.cli.main import main
from refresh_pipelines_tests import cheap_history
from refresh_pipelines_tests.catalogues import copy_two_sources, write

ROOT = Path(__file__).resolve().parent.parent


class Home:
    """Runs commands in `folder` as if a person had changed into it."""

    def __init__(self, folder, history, sandbox):
        self.folder, self.sandbox = folder, sandbox
        shutil.copy(ROOT / "dagster.yaml", folder)
        shutil.copytree(history, folder / "data/dagster")
        copy_two_sources(folder / "catalog")
        fred = folder / "catalog/commodities/fred_fx.yaml"
        fred.write_text(fred.read_text().replace("  rate: 2/s\n", ""))  # nobody waits in a test
        self.environ = {"REFRESH_CATALOG": "catalog", "REFRESH_UPSTREAM": sandbox.base, "FRED_API_KEY": "planted5ecret"}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the folder, and back again whatever a command changes."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            yield
        finally:
            cheap_history.let_go()  # as a command does when it ends
            os.chdir(before)

    def refresh(self, *args):
        # The runner puts back the variables that it was given, whatever the command makes of them.
        with self.entered():
            return CliRunner().invoke(main, args, env={"DAGSTER_HOME": None, **self.environ})

    def items(self, *args):
        """Return the items that the command prints for programs."""
        result = self.refresh(*args, "--json")
        document = json.loads(result.stdout)
        assert {"version", "ok", "items"} <= set(document)
        assert document["version"] == 1
        assert document["ok"] == (result.exit_code == 0)
        return document["items"]

    def add(self, files):
        write(self.folder / "catalog", files)

    def runs(self):
        """Return all runs, oldest first."""
        with self.entered(), dg.DagsterInstance.from_config(str(self.folder)) as instance:
            return list(reversed(instance.get_runs()))
