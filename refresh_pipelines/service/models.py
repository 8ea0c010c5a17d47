"""What the API answers and takes. Each answer is `{"version": 1, "ok": …, …}`, as `--json` of the commands."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Instant = Annotated[str, Field(description="ISO 8601 with its offset", json_schema_extra={"format": "date-time"})]


class SourceItem(BaseModel):
    """One source, with the fields of `refresh status --json`; null: not known, or nothing to say."""

    source: str
    group: str
    tenant: str | None
    enabled: bool
    paused: bool | None
    last_success_at: Instant | None
    last_changed_at: Instant | None
    last_published_at: Instant | None
    last_outcome: str | None
    last_run_id: str | None
    next_run_at: Instant | None
    last_scheduled_run_at: Instant | None
    overdue: bool | None
    breaker: str | None
    consecutive_failures: int | None
    score: float | None
    incident: str | None
    quarantine: str | None = Field(description="the payload that waits for a person: `refresh quarantine show ID`")
    stale_yaml: Instant | None
    breaker_since: Instant | None
    next_probe_at: Instant | None
    bytes_transferred: int | None = Field(description="by its last 100 refreshes")
    bytes_saved: int | None = Field(description="need not be transferred in them: the upstream said so")

    @property
    def name(self) -> str:
        """`<group>/<source>`."""
        return f"{self.group}/{self.source}"


class Job(BaseModel):
    """What requests a source's runs by itself: its schedule, or a sensor."""

    name: str | None = Field(description="of the schedule or sensor in Dagster")
    source: str
    group: str
    kind: Literal["schedule", "sensor", "none"]
    enabled: bool = Field(
        description="whether it requests runs: not disabled in its YAML, not paused, not switched off"
    )
    paused: bool
    frequency: str | None
    cron_expression: str | None
    timezone: str | None
    next_run_time: Instant | None


class Schedule(Job):
    """The same with what comes next."""

    upcoming_runs: list[Instant] = Field(description="the next five; none while it is not enabled")


class Answer(BaseModel):
    """What every answer begins with."""

    version: Literal[1] = 1
    ok: bool = True


class Page(Answer):
    """A part of a list.

    `ok` is about all sources and not about those of the part.
    """

    total: int
    limit: int
    offset: int
    next_offset: int | None = Field(description="where the next part begins, null at the end")


class SourcePage(Page):
    """A part of the sources; `ok` is false where `refresh status` would end with 1."""

    items: list[SourceItem]


class JobPage(Page):
    """A part of the schedules and sensors; `ok` is as in SourcePage."""

    items: list[Job]


class OneSource(Answer):
    """One source; `ok` is about it alone."""

    state: str = Field(description="the word of `refresh status`")
    item: SourceItem


class OneSchedule(Answer):
    """One schedule."""

    item: Schedule


class ChangedSchedule(OneSchedule):
    """A schedule after somebody has switched it."""

    changed: bool = Field(description="false: it was so already")


class SchedulerStatus(Answer):
    """How the scheduler is doing; `ok` and `running` are about the daemon."""

    running: bool
    message: str = Field(description="what a person should know of it, empty while all is well")
    heartbeat: Instant | None
    schedules_enabled: bool = Field(description="REFRESH_SCHEDULES_ENABLED")
    schedules: dict[str, int] = Field(
        description="sources by what their schedule does: enabled, paused, disabled, broken"
    )
    sources: dict[str, int] = Field(description="sources by the word of `refresh status`")
    queue_length: int
    runs_in_progress: int
    next_run_time: Instant | None


class QueuedRun(BaseModel):
    """A run that waits for the daemon."""

    run_id: str
    source: str
    group: str
    partitions: list[str]
    trigger: Literal["manual"] = "manual"
    status: Literal["queued"] = "queued"


class OneRun(Answer):
    """A run that was asked for; `message` says when no daemon is there to launch it."""

    item: QueuedRun
    message: str = ""


class Health(Answer):
    """Whether the process answers, and whether it can do its work."""

    problems: list[str] = []


class Fault(BaseModel):
    """What is wrong, in the parts of the messages of `refresh`."""

    problem: str
    expected: str = ""
    came: str = ""
    todo: str = ""


class Refusal(Answer):
    """Every answer from 400 on."""

    ok: bool = False
    error: Fault


class PauseBody(BaseModel):
    """Why a schedule is disabled."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500, description="`refresh gaps` and the log of pauses show it")


class RunBody(BaseModel):
    """What to refresh."""

    model_config = ConfigDict(extra="forbid")

    partition: str | None = Field(None, max_length=200, description="one partition; without it those that are due")
    force: bool = Field(False, description="ask and read anew even if nothing seems to have changed")
