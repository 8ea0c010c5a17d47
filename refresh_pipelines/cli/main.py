"""The command group. It knows every command by name and imports one only when it is called.

Help is listed from the table here, so that `refresh --help` is as quick as the rest.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

import click

from refresh_pipelines.errors import RefreshError

# Objects that may be new before cycles are looked for; 700 by default. Half a million that stay are made by importing
# Dagster, and looking through them again and again is a seventh of the time of `refresh run` (seen: 3.0 and 2.6
# CPU-seconds).
_YOUNG = 100_000


class Lazy(NamedTuple):
    """Where a command is, below `refresh_pipelines.`, and its line in the help."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Lazy] = {
    "new": Lazy("cli.new", "new", "Begin a source: look at an address or a file and write its YAML."),
    "check": Lazy("cli.check", "check", "Check every source file and print all problems."),
    "schema": Lazy("cli.schema", "schema", "Print the JSON Schema of a source file, for editors."),
    "list": Lazy("cli.list", "list_sources", "List the sources: table, partitions, schedule, missing keys."),
    "parse": Lazy("cli.parse", "parse", "Read stored payloads as a source would, without loading them."),
    "preview": Lazy("cli.preview", "preview_source", "Show what a refresh would do to the table, and do nothing."),
    "run": Lazy("cli.run", "run", "Refresh sources now and say what each refresh did."),
    "status": Lazy("cli.status", "status", "Show which sources are fresh, late or failing."),
    "history": Lazy("cli.history", "history", "Show past refreshes and what they did."),
    "plan": Lazy("cli.plan", "plan", "Show when each source fires next, and what catch-up would do now."),
    "gaps": Lazy("cli.gaps", "gaps", "List due ticks without a run or a reason, and what is missing; --fill runs it."),
    "pause": Lazy("cli.pause", "pause", "Stop schedules until they are resumed, without touching YAML."),
    "resume": Lazy("cli.pause", "resume", "Start paused schedules again."),
    "reset": Lazy("cli.reset", "reset", "Close the breaker of sources that failed several times in a row."),
    "quarantine": Lazy("cli.quarantine", "quarantine", "Payloads that wait for a person: list, show, accept, reject."),
    "alerts": Lazy("cli.alerts", "alerts", "Try the webhooks; list open incidents, notices, and what waits and why."),
    "retire": Lazy("cli.retire", "retire", "Remove what a deleted source has left, or forget rows to load them anew."),
    "copy": Lazy("cli.copy", "copy", "Copy the warehouse to another place: DuckDB to PostgreSQL, or back."),
    "backup": Lazy("cli.backup", "backup", "Write warehouse, history and incidents to one file, while all goes on."),
    "restore": Lazy("cli.backup", "restore", "Put a backup back."),
    "replay": Lazy("cli.replay", "replay", "Load accepted payloads again from the archive, or rebuild the table."),
    "sql": Lazy("cli.sql", "sql", "Ask the warehouse a question in SQL, read only; --as-of asks about the past."),
    "start": Lazy("cli.start", "start", "Start UI, daemon and code server in the background."),
    "stop": Lazy("cli.start", "stop", "Stop them, and let runs end before."),
    "restart": Lazy("cli.start", "restart", "Stop and start, with the settings as they are now."),
    "logs": Lazy("cli.logs", "logs", "Show what these processes print; -f follows."),
    "doctor": Lazy("cli.doctor", "doctor", "Look for the known traps and say how to mend them."),
    "api": Lazy("cli.api", "api", "Serve the API, /metrics and the status page."),
    "sandbox": Lazy("cli.sandbox", "sandbox", "Serve the bundled samples in place of the real hosts."),
}


class LazyGroup(click.Group):
    """A group whose commands are the table's."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table: what a newcomer needs first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        gc.set_threshold(_YOUNG)
        command = getattr(import_module(f"refresh_pipelines.{lazy.module}"), lazy.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"refresh_pipelines.{lazy.module}:{lazy.attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; what it could not do for the machine's sake is one message and exit code 1."""
        try:
            return super().invoke(ctx)
        except RefreshError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            text = _of_a_server(error)
            if text is None:
                raise
            raise click.ClickException(text) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


def _of_a_server(error: Exception) -> str | None:
    """Return in one sentence that the server of Dagster's history went during a command; None for all else."""
    server = sys.modules.get("refresh_pipelines.orchestration.server")
    if server is None or not isinstance(error, server.history_errors()) or isinstance(error, OSError | sqlite3.Error):
        return None
    from refresh_pipelines.orchestration.trouble import trouble_of  # noqa: PLC0415 - with all that Dagster loads
    from refresh_pipelines.settings import Settings  # noqa: PLC0415

    settings = Settings.load()
    return (
        str(trouble_of(error, settings, "Dagster's history", "The command broke off.")) if settings.instance else None
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep public data fresh: one YAML file per source, one table each.

    Start with `refresh list` to see the sources, `refresh check` after editing one, and
    `refresh run SOURCE` to load it. Sources lie in the catalogue folders (REFRESH_CATALOG).
    """
