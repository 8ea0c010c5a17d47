"""What incidents are made of, as the instance has it: failed runs, good refreshes, and what holds now.

A run that fails tells so itself, last of all. What it cannot tell is its own death, or that it never began: such
runs are found here, by the event log and not by whoever was there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg

from refresh_pipelines.breaker import State
from refresh_pipelines.breaker import sentence as breaker_sentence
from refresh_pipelines.freshness import Verdict, sentence
from refresh_pipelines.incident import Condition, Failure, Good, Rule
from refresh_pipelines.incidents import TOGETHER
from refresh_pipelines.notices import route_for
from refresh_pipelines.orchestration.assets import host_of
from refresh_pipelines.orchestration.events import outcomes_of_run
from refresh_pipelines.orchestration.former import CARRIED, former_keys
from refresh_pipelines.orchestration.herds import member_ends
from refresh_pipelines.orchestration.internals import failed_checks, settled
from refresh_pipelines.orchestration.internals_newest import newest_materializations
from refresh_pipelines.orchestration.partitions import dynamic_keys
from refresh_pipelines.orchestration.report import COMPLETE, keeps_rest, key_of, outcome_from, plain
from refresh_pipelines.orchestration.tags import (
    EXPIRED,
    EXPIRING,
    MAX_RETRIES,
    RANGE_END,
    RANGE_START,
    SOURCE,
    TRIGGER,
    was_killed,
)
from refresh_pipelines.orchestration.waiting import STARTING, never_began
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.ranges import between
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.window import partition_keys

BATCH = 50
# So young, a cancelled run of a schedule may still be about to be marked as expired.
_MARKING = timedelta(seconds=20)
_GOOD = frozenset({"loaded", "unchanged", "empty"})
_WILL_RETRY = "dagster/will_retry"
# So long runs are looked at that Dagster may not launch once more after all.
_LATELY = timedelta(minutes=15)
_PAGE, _PAGES = 500, 10


class Rules:
    """How the trouble of each source of a catalogue is told."""

    def __init__(self, specs: Iterable[SourceSpec], settings: Settings) -> None:
        self.settings = settings
        self._asking: dict[str, set[str]] = {}
        for spec in specs:
            if spec.enabled and not spec.derived:
                self._asking.setdefault(host_of(spec), set()).add(spec.source)

    def of(self, spec: SourceSpec) -> Rule:
        """Return the rule of a source; it names the host if several sources of the catalogue ask it."""
        host = None if spec.derived else host_of(spec)
        alone = host is None or len(self._asking.get(host, ())) < TOGETHER
        route = route_for(spec, self.settings)
        return Rule(spec.alerts.after, spec.alerts.remind, route, None if alone else host)


@dataclass(frozen=True)
class Found:
    """Failures after a cursor, and where the next look begins."""

    failures: tuple[Failure, ...]
    cursor: int


def newest_place(instance: dg.DagsterInstance) -> int:
    """Return the cursor after what is already in the log: the first start raises no flood."""
    ids = [
        record.storage_id
        for kind in (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
        for record in instance.fetch_run_status_changes(kind, limit=1).records
    ]
    return max(ids, default=0)


def failures_after(
    instance: dg.DagsterInstance, cursor: int, specs: Sequence[SourceSpec], rules: Rules, now: datetime
) -> Found:
    """Return what runs that ended badly after a cursor did to their sources, in the order of their ends."""
    records: list[dg.EventLogRecord] = []
    full = []
    for kind in (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED):
        wanted = dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=cursor)
        page = instance.fetch_run_status_changes(wanted, limit=BATCH, ascending=True).records
        records += page
        full += [page[-1].storage_id] if len(page) == BATCH else []
    last = min(full, default=None)
    failures: list[Failure] = []
    for record in settled(instance, sorted(records, key=lambda one: one.storage_id)):
        if last is not None and record.storage_id > last:
            break  # of the other kind there may be more before it
        run = instance.get_run_record_by_id(record.run_id)
        if run and run.dagster_run.status is dg.DagsterRunStatus.CANCELED:
            if _may_be_marked(run.dagster_run, _at(record.timestamp), now):
                break
            failures += _expired(instance, run, specs, rules)
        elif run:
            failures += _failed(instance, run, specs, rules)
        cursor = record.storage_id
    return Found(tuple(failures), cursor)


def _may_be_marked(run: dg.DagsterRun, at: datetime, now: datetime) -> bool:
    return run.tags.get(TRIGGER) in EXPIRING and EXPIRED not in run.tags and now - at < _MARKING


def _expired(
    instance: dg.DagsterInstance, record: dg.RunRecord, specs: Sequence[SourceSpec], rules: Rules
) -> Iterator[Failure]:
    """Yield what it means that a run waited too long. One that a person has cancelled is nobody's trouble."""
    run = record.dagster_run
    for spec in _concerned(run, specs) if EXPIRED in run.tags else ():
        allowed = spec.schedule.expire if spec.schedule else timedelta(0)
        text = f"{spec.name}: a run was cancelled because it was still in the queue after schedule.expire ({allowed})."
        yield _broken_off(instance, record, spec, rules, "expired", text)


def _failed(
    instance: dg.DagsterInstance, record: dg.RunRecord, specs: Sequence[SourceSpec], rules: Rules
) -> Iterator[Failure]:
    """Yield what a failed run did to each of its sources, by their own events and not by the run's status."""
    run = record.dagster_run
    if run.tags.get(_WILL_RETRY) == "true":
        return  # Dagster launches a crashed run once more; that one tells.
    finished = {entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)}
    for spec in _concerned(run, specs):
        if key_of(spec).to_python_identifier() in finished:
            continue
        outcomes = outcomes_of_run(instance, spec, run.run_id)
        bad = [outcome for outcome in outcomes if outcome.outcome in ("failed", "quarantined")]
        if bad and was_killed(run.run_id, run.tags):
            why = bad[-1]
            yield _broken_off(instance, record, spec, rules, why.error_class or "interrupted", why.message or "")
        elif bad:
            bad = not_cancelled(bad)
            if not bad:
                continue
            ended = _at(record.end_time) if record.end_time else None
            yield Failure.of(spec.source, run.run_id, bad, ended, rules.of(spec))
        elif any(outcome.outcome == "blocked" for outcome in outcomes):
            continue
        elif record.start_time is None:
            text = f"{spec.name}: the run never started; its process could not be launched."
            yield _broken_off(instance, record, spec, rules, "not_started", text)
        else:
            text = f"{spec.name}: the run broke off; its process was killed or could not start."
            yield _broken_off(instance, record, spec, rules, "interrupted", text)


def failures_of(instance: dg.DagsterInstance, run_id: str, specs: Sequence[SourceSpec], rules: Rules) -> list[Failure]:
    """Return what a run that ended badly did to its sources; nothing for one that was cancelled."""
    record = instance.get_run_record_by_id(run_id)
    failed = record is not None and record.dagster_run.status is dg.DagsterRunStatus.FAILURE
    return list(_failed(instance, record, specs, rules)) if record and failed else []


def not_cancelled(bad: Sequence[Outcome]) -> list[Outcome]:
    """Return the failures without those of a run that was asked to stop, which is nobody's trouble."""
    return [outcome for outcome in bad if outcome.error_class != "interrupted"]


def never_started(
    instance: dg.DagsterInstance, specs: Sequence[SourceSpec], rules: Rules, now: datetime
) -> Iterator[Failure]:
    """Yield what it means that runs were launched long ago and are not running."""
    statuses = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
    filters = dg.RunsFilter(statuses=statuses, created_before=now - STARTING)
    records = instance.get_run_records(filters, limit=BATCH, ascending=True)
    for record in (one for one in records if never_began(instance, one, now)):
        for spec in _concerned(record.dagster_run, specs):
            since = f"{record.create_timestamp:%Y-%m-%d %H:%M} UTC"
            text = f"{spec.name}: the run was created at {since} and has not started. Cancel it."
            yield _broken_off(instance, record, spec, rules, "not_started", text)


def not_retried(
    instance: dg.DagsterInstance,
    specs: Sequence[SourceSpec],
    rules: Rules,
    known: Callable[[str, str], bool],
    now: datetime,
) -> Iterator[Failure]:
    """Yield the runs that broke off and were to be launched once more, for which Dagster has then given that up.

    It does where no code server is there just then. `known` is asked by run and source.
    """
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], tags={_WILL_RETRY: "false"}, updated_after=now - _LATELY
    )
    for record in instance.get_run_records(filters, limit=BATCH):
        run = record.dagster_run
        meant = run.tags.get(MAX_RETRIES) != "0"
        if meant and not all(known(run.run_id, spec.source) for spec in _concerned(run, specs)):
            yield from _failed(instance, record, specs, rules)


def incomplete(
    instance: dg.DagsterInstance, specs: Sequence[SourceSpec], rules: Rules, known: Callable[[str, str], bool]
) -> Iterator[Failure]:
    """Yield the failed checks `complete` whose runs could not tell; `known` is asked by run and source."""
    sources = {key_of(spec): spec for spec in specs if keeps_rest(spec)}
    for key, run_id in failed_checks(instance, list(sources), COMPLETE).items():
        spec = sources[key]
        if not known(run_id, spec.source):
            outcomes = outcomes_of_run(instance, spec, run_id)
            partial = [outcome for outcome in outcomes if outcome.outcome == "partial"]
            if partial:
                yield Failure.of(spec.source, run_id, partial, None, rules.of(spec))


def newest_goods(instance: dg.DagsterInstance, specs: Sequence[SourceSpec]) -> dict[str, int]:
    """Return the place in the log of the newest materialization of each source that has one, in one question."""
    sources = {key: spec.source for spec in specs for key in (key_of(spec), *former_keys(spec))}
    out: dict[str, int] = {}
    for key, place in newest_materializations(instance, sources).items():
        if place is not None:
            out[sources[key]] = max(place, out.get(sources[key], place))
    return out


def goods_since(instance: dg.DagsterInstance, spec: SourceSpec, since: datetime) -> list[Good]:
    """Return the good refreshes of a source after an instant, of very many the newest; partial ones are not good."""
    found: list[Good] = []
    for key in (key_of(spec), *former_keys(spec)):
        cursor: str | None = None
        for _ in range(_PAGES):
            wanted = dg.AssetRecordsFilter(key, after_timestamp=since.timestamp())
            page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
            found += [good for record in page.records if (good := _good(spec, record))]
            if not page.has_more:
                break
            cursor = page.cursor
    return found


def standing(
    specs: Sequence[SourceSpec], verdicts: Mapping[str, Verdict], breakers: Mapping[str, State], rules: Rules
) -> Iterator[Condition]:
    """Yield what holds now: sources that are overdue, and breakers that are open."""
    for spec in specs:
        verdict, state = verdicts.get(spec.source), breakers.get(spec.source)
        if verdict and verdict.late:
            more = len(verdict.late) - 1 + verdict.more
            text = sentence(spec, verdict.late[0]) + (f", and {more} more" if more else "")
            yield Condition(spec.source, "overdue", f"{text}.", rules.of(spec), verdict.late[0].key)
        if state and state.holds:
            text = f"{spec.name}: {breaker_sentence(spec.source, state)}."
            yield Condition(spec.source, "breaker", text, rules.of(spec))


def _good(spec: SourceSpec, record: dg.EventLogRecord) -> Good | None:
    event = record.asset_materialization
    if event is None or CARRIED in event.metadata:
        return None
    outcome = outcome_from(spec.group, spec.source, event.partition, record.run_id, plain(event.metadata))
    rows = outcome.counts.added + outcome.counts.updated
    return Good(event.partition, _at(record.timestamp), rows, record.run_id) if outcome.outcome in _GOOD else None


def _concerned(run: dg.DagsterRun, specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    chosen = run.asset_selection or ()
    return [spec for spec in specs if key_of(spec) in chosen or run.tags.get(SOURCE) == spec.source]


def _broken_off(
    instance: dg.DagsterInstance, record: dg.RunRecord, spec: SourceSpec, rules: Rules, kind: str, text: str
) -> Failure:
    """Return what a run without a word leaves; whatever was refreshed since it was to begin makes up for it."""
    run = record.dagster_run
    began = _at(record.start_time) if record.start_time else record.create_timestamp
    single = run.tags.get("dagster/partition")
    ends = [run.tags[name] for name in (RANGE_START, RANGE_END) if name in run.tags]
    ends = ends or member_ends(run.tags, spec.source)
    keys = (single,) if single else tuple(ends)
    if len(ends) == 2 and not single:
        try:
            keys = tuple(between(spec, partition_keys(spec, began, dynamic_keys(instance, spec)), *ends))
        except ValueError:
            keys = tuple(ends)  # partitions that the source has no more
    shown = "" if single else "…".join(ends)
    return Failure(spec.source, run.run_id, keys, kind, text, began.astimezone(timezone.utc), rules.of(spec), shown)


def _at(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, timezone.utc)
