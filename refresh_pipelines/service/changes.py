"""What the API changes: the switch of a schedule, as `refresh pause` and `resume` do, and runs that are queued."""

from __future__ import annotations

from refresh_pipelines.credentials import missing_key
from refresh_pipelines.orchestration.asked import keys_due, keys_known, queue_run, under_way
from refresh_pipelines.orchestration.pause import pause, resume
from refresh_pipelines.problems import did_you_mean
from refresh_pipelines.service.answers import Refused
from refresh_pipelines.service.board import Board, View
from refresh_pipelines.service.models import QueuedRun, RunBody
from refresh_pipelines.spec import SourceSpec

# Who paused, in the log of pauses.
BY = "api"


def switch(board: Board, spec: SourceSpec, *, on: bool, reason: str = "") -> bool:
    """Enable or disable a source's schedule; return whether it was not so already.

    Raises:
        Refused: the source is disabled in its YAML, or nothing requests its runs.
        InternalError: the instance or the log of pauses cannot be written.
    """
    _require_enabled(spec)
    if spec.schedule is None and not spec.derived:
        raise Refused(409, f"{spec.name} has no schedule", todo="Give it one in its YAML.")
    now, settings, instance = board.clock(), board.settings, board.instance
    with board.changing:
        if on:
            changed = resume(instance, settings, [spec], now=now)
        else:
            changed = pause(instance, settings, [spec], now=now, reason=reason, by=BY)
    board.forget()
    return bool(changed)


def ask_for_run(board: Board, view: View, spec: SourceSpec, body: RunBody) -> QueuedRun:
    """Queue a run of a source's due partitions, or of one that is named.

    Raises:
        Refused: the source cannot run now, has no such partition, or such a run is under way.
        InternalError: the instance cannot be written.
    """
    _require_enabled(spec)
    variable = missing_key(spec, board.settings)
    if variable:
        raise Refused(409, f"{spec.name} is blocked: {variable} is not set", todo=f"Set {variable} and start again.")
    with board.changing:
        keys = _keys(board, spec, body.partition)
        running = under_way(board.instance, board.settings, spec, keys, board.clock())
        if running:
            raise Refused(
                409,
                f"run {running} of {spec.name} is queued or under way",
                todo="Wait for it, or cancel it in Dagster.",
            )
        run_id = queue_run(board.instance, board.settings, view.catalogue, spec, keys, force=body.force)
    board.forget()
    return QueuedRun(run_id=run_id, source=spec.source, group=spec.group, partitions=keys)


def _require_enabled(spec: SourceSpec) -> None:
    if not spec.enabled:
        raise Refused(409, f"{spec.name} is disabled in its YAML", todo="Set `enabled: true` there.")


def _keys(board: Board, spec: SourceSpec, wanted: str | None) -> list[str]:
    now = board.clock()
    if wanted is not None:
        known = keys_known(board.instance, spec, now)
        if wanted in known:
            return [wanted]
        hint = did_you_mean(wanted, known[-40:]) or (f"from {known[0]} to {known[-1]}" if known else "it has none")
        raise Refused(404, f"{spec.name} has no partition {wanted!r}", todo=f"{hint[:1].upper()}{hint[1:]}")
    if spec.partitions is None:
        return []
    if spec.request.drop:
        todo = f"Name a day as `partition`; the sensor {spec.source}_files finds new files by itself."
        raise Refused(409, f"which files of {spec.name} are new is not known here", todo=todo)
    due = keys_due(board.instance, spec, now)
    if not due:
        raise Refused(409, f"{spec.name} has no partition yet", todo="The first one has to end, or be added, before.")
    return due
