"""Incidents: which failures are one trouble, and when a person is told of it. Pure.

An incident is one source and one error class, from its first failure until every partition that failed was
refreshed well. It is told once, reminded of, and its end is told once. Sources of one host that fail the same
way are told together. The board holds the incidents that are open; `incident_store` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from refresh_pipelines.incident import Condition, Event, Failure, Good, Incident, covers, incident_id
from refresh_pipelines.spec import SourceSpec

# So many sources of one host with the same trouble are told in one notice, and so long the first ones wait for others.
TOGETHER = 3
GROUPING = timedelta(minutes=5)
# Later ones join a notice that was told already: for ever if it is the host that is down, else so long after the last.
JOINING = timedelta(hours=1)
# What stood behind another incident is told when it still stands so long after it was last seen behind it: a verdict
# may be some looks older than the good refresh that has ended the other.
SETTLING = timedelta(minutes=2)
# Of a backfill that fails as a whole the newest partitions say enough.
MOST_PENDING = 500


class Board:
    """The incidents that are open, with all members of those that are told together.

    Attributes:
        changed: those to be kept, by id; None stands for one that was never told and is over.
        events: what is to be told, in order.
    """

    def __init__(self, incidents: Iterable[Incident]) -> None:
        self._all = {incident.id: incident for incident in incidents}
        self.changed: dict[str, Incident | None] = {}
        self.events: list[Event] = []

    def fail(self, failure: Failure, now: datetime) -> None:
        """Enter a failed run. Every run and source must be entered once."""
        at = failure.at or now
        old = self._open_one(failure.source, failure.error_class)
        mine = old or Incident(
            incident_id(failure.source, failure.error_class, failure.run_id),
            failure.source, failure.error_class, failure.rule, at, at, failure.message, failure.run_id,
        )  # fmt: skip
        keys = failure.partitions or ("",)
        mine = replace(
            mine,
            rule=failure.rule,
            count=mine.count + len(keys),
            failures=mine.failures + 1,
            pending=_newest({**mine.pending, **{key: max(at, mine.pending.get(key, at)) for key in keys}}),
            began_at=min(at, mine.began_at),
        )
        if at >= mine.last_at:
            shown = failure.shown or ", ".join(failure.partitions) or None
            mine = replace(mine, last_at=at, message=failure.message, run_id=failure.run_id, partition=shown)
        others = [one for one in self._of(failure.source) if one.id != mine.id and not one.standing]
        if mine.opened_at is None and mine.failures + sum(one.failures for one in others) >= failure.rule.after:
            hold = GROUPING if failure.rule.host else timedelta(0)
            mine = replace(mine, opened_at=now, hold_until=now + hold)
        self._put(mine)

    def good(self, spec: SourceSpec, goods: Collection[Good]) -> None:
        """Enter all good refreshes of a source since the first of its open incidents began, again and again."""
        for one in self._of(spec.source):
            since = [good for good in goods if good.at > one.began_at]
            pending = {
                key: at
                for key, at in one.pending.items()
                if not any(good.at > at and covers(spec, good.key, key) for good in since)
            }
            after = replace(one, rows=sum(good.rows for good in since), pending=pending)
            if one.standing or pending:
                self._put(after) if after != one else None
            else:
                last = max(since, key=lambda good: good.at)
                self._end(replace(after, run_id=last.run_id), last.at)

    def stand(
        self,
        conditions: Iterable[Condition],
        judged: Mapping[str, Collection[str]],
        now: datetime,
        *,
        silent: bool = False,
    ) -> None:
        """Enter all that holds now.

        Args:
            conditions: what holds.
            judged: of which sources it is known, by kind; what holds no more of these is over.
            now: the time it is.
            silent: nobody is told of what holds already.
        """
        found = {(one.source, one.kind): one for one in conditions}
        for old in self._open():
            if old.standing and old.source in judged.get(old.kind, ()) and (old.source, old.kind) not in found:
                self._end(old, now)
        for (source, kind), condition in found.items():
            old_one = self._open_one(source, kind)
            new = Incident(
                incident_id(source, kind, now.isoformat()), source, kind, condition.rule, now, now, "", "",
                count=1, failures=1, silent=silent, hold_until=now,
            )  # fmt: skip
            mine = replace(old_one or new, message=condition.message, partition=condition.partition)
            if any(one.opened_at for one in self._of(source) if not one.standing):
                mine = mine if mine.opened_at else replace(mine, hold_until=now + SETTLING)
            elif mine.opened_at is None and not mine.silent and now >= (mine.hold_until or now):
                mine = replace(mine, opened_at=now, last_at=now)
            if mine != old_one:
                self._put(mine)

    def settle(
        self,
        now: datetime,
        awake: Collection[str] = (),
        *,
        release: bool = False,
        heard: Callable[[str], bool] = bool,
    ) -> None:
        """Decide what is told now.

        Args:
            now: the time it is.
            awake: sources whose open incidents may be reminded of: not those that are paused.
            release: nobody waits for others of the host any more.
            heard: whether somebody listens to a route, by its name; `bool` has all of them heard. Where nobody does,
                incidents are kept, and told as soon as somebody does.
        """
        for one in [*self._all.values()]:
            if one.recovered_at and not one.told_at and not heard(one.rule.route):
                self._drop(one)
        self._tell(now, heard, release=release)
        for group in [one for one in self._open() if one.grouped]:
            members = self.members(group.id)
            if all(one.recovered_at for one in members):
                ended = max((one.recovered_at for one in members if one.recovered_at), default=now)
                self._end(replace(group, rows=sum(one.rows for one in members)), ended)
        for one in [*self._all.values()]:
            if one.recovered_at and one.group is None:
                self.events.append(Event(one, "recovered", 1, self.members(one.id)))
                del self._all[one.id]
        self._remind(now, awake, heard)

    def forget(self, one: Incident, now: datetime) -> None:
        """End an incident that is told with others, whatever became of it."""
        self._put(replace(one, recovered_at=now))

    def members(self, group: str) -> tuple[Incident, ...]:
        """Return the incidents that are told under another, oldest first."""
        return tuple(sorted((one for one in self._all.values() if one.group == group), key=lambda one: one.began_at))

    def _tell(self, now: datetime, heard: Callable[[str], bool], *, release: bool) -> None:
        waiting: dict[tuple[str, str, str], list[Incident]] = {}
        for one in self._all.values():
            if one.opened_at and not one.told_at and not one.silent and heard(one.rule.route):
                waiting.setdefault(_place(one), []).append(one)
        for place, group in waiting.items():
            told = next((one for one in self._open() if one.grouped and _place(one) == place), None)
            ready = [one for one in group if release or one.recovered_at or now >= (one.hold_until or now)]
            if told and (told.kind == "transient" or now - told.last_at <= JOINING):
                self._join(told, group, now)
            elif ready and len({one.source for one in (*group, *self._just_told(place, now))}) >= TOGETHER:
                self._open_group(place[2], group, now)
            else:
                for one in ready:
                    self._tell_one(one, now)

    def _just_told(self, place: tuple[str, str, str], now: datetime) -> list[Incident]:
        """Return those that were told by themselves a moment ago, because nobody waited for others."""
        told = [one for one in self._open() if one.told_at and one.group is None and not one.grouped]
        return [one for one in told if _place(one) == place and one.told_at and now - one.told_at <= GROUPING]

    def _tell_one(self, one: Incident, now: datetime) -> None:
        told = replace(one, told_at=now, remind_at=now + one.rule.remind)
        self._put(told)
        self.events.append(Event(replace(told, recovered_at=None), "opened", 1, self.members(one.id)))

    def _open_group(self, host: str, group: Sequence[Incident], now: datetime) -> None:
        first = min(group, key=lambda one: (one.began_at, one.id))
        rule = replace(first.rule, host=host, remind=min(one.rule.remind for one in group))
        whole = Incident(
            incident_id("group", host, first.id), "", first.kind, rule, first.began_at, now, first.message,
            first.run_id, opened_at=now, hold_until=now,
        )  # fmt: skip
        whole = self._join(whole, group, now)
        self._tell_one(whole, now)

    def _join(self, whole: Incident, group: Sequence[Incident], now: datetime) -> Incident:
        for one in group:
            self._put(replace(one, group=whole.id, told_at=now))
        count = len({one.source for one in self.members(whole.id)})
        whole = replace(whole, count=count, last_at=now)
        self._put(whole)
        return whole

    def _remind(self, now: datetime, awake: Collection[str], heard: Callable[[str], bool]) -> None:
        for one in self._open():
            due = one.told and one.group is None and one.remind_at and now >= one.remind_at
            if due and self._speaks(one, awake) and heard(one.rule.route):
                mine = replace(one, reminders=one.reminders + 1, remind_at=now + one.rule.remind)
                self._put(mine)
                self.events.append(Event(mine, "reminder", mine.reminders, self.members(one.id)))

    def _speaks(self, one: Incident, awake: Collection[str]) -> bool:
        """Whether a person is reminded of it; of several troubles of a source only of the newest."""
        if one.grouped:
            return any(member.source in awake for member in self.members(one.id) if not member.recovered_at)
        told = [other for other in self._of(one.source) if other.told]
        newest = max(told, key=lambda other: (not other.standing, other.last_at, other.id))
        return one.source in awake and newest.id == one.id

    def _open(self) -> list[Incident]:
        return [one for one in self._all.values() if one.recovered_at is None]

    def _of(self, source: str) -> Iterator[Incident]:
        return iter([one for one in self._open() if one.source == source])

    def _open_one(self, source: str, kind: str) -> Incident | None:
        return next((one for one in self._of(source) if one.kind == kind), None)

    def _end(self, one: Incident, at: datetime) -> None:
        """End an incident; one that nobody was or will be told of goes without a trace."""
        if one.silent or one.opened_at is None or (one.standing and one.told_at is None):
            self._drop(one)
        else:
            self._put(replace(one, recovered_at=at))

    def _drop(self, one: Incident) -> None:
        self._all.pop(one.id)
        self.changed[one.id] = None

    def _put(self, one: Incident) -> None:
        self._all[one.id] = self.changed[one.id] = one


def _place(one: Incident) -> tuple[str, str, str]:
    """Return what incidents must share to be told together. Being overdue is no trouble of one host."""
    alone = "" if one.grouped else one.id
    return one.rule.route, one.kind, "*" if one.kind == "overdue" else one.rule.host or alone


def _newest(pending: Mapping[str, datetime]) -> dict[str, datetime]:
    kept = sorted(pending, key=lambda key: (pending[key], key))[-MOST_PENDING:]
    return {key: pending[key] for key in kept}
