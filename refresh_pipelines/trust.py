"""How far a source's validators are believed: learned from what came when they were not. Pure.

A kind of validator, ETag or Last-Modified, loses its trust when it said that nothing had changed and something had. It
wins it back by telling `RETURN_AFTER` changes in a row. One that changes with every answer is no lie and no use: it is
not sent while it does. What is remembered lies in the operational store (`trust_store`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from refresh_pipelines.validators import KINDS, NAMES, Kind, Validators, http_date, is_weak, same_etag

# So many changes in a row must have been told before a kind that lied is believed again.
RETURN_AFTER = 3
# So many new values for the same bytes, one after the other, and a kind is taken for the time or a dice.
RESTLESS_AFTER = 3


@dataclass(frozen=True)
class Standing:
    """What is known of one kind of validator of one source.

    Attributes:
        lied_at: since when it is distrusted, None while it is believed.
        why: what it did, as a clause.
        agreed: changes that it has told since then, one after the other.
        restless: new values for the same bytes, one after the other.
    """

    lied_at: datetime | None = None
    why: str = ""
    agreed: int = 0
    restless: int = 0

    @property
    def useless(self) -> bool:
        """Whether it has changed too often for nothing to be worth sending."""
        return self.restless >= RESTLESS_AFTER

    @property
    def believed(self) -> bool:
        """Whether "not modified" is believed where this kind was sent."""
        return self.lied_at is None


@dataclass(frozen=True)
class Memory:
    """What is known of a source's validators, and of one partition of it.

    Attributes:
        since: refreshes of the partition since its validators were examined last.
        examined_at: when that was, None if never.
    """

    standings: Mapping[Kind, Standing] = field(default_factory=dict)
    since: int = 0
    examined_at: datetime | None = None

    def of(self, kind: Kind) -> Standing:
        """Return what is known of one kind."""
        return self.standings.get(kind, Standing())


@dataclass(frozen=True)
class Asking:
    """How the next request is made.

    Attributes:
        sent: the validators that go with it; None asks unconditionally.
        examine: an answer "not modified" is not believed this time, and the body is asked for as well.
    """

    sent: Validators | None = None
    examine: bool = False


@dataclass(frozen=True)
class Seen:
    """What one accepted body says of the validators that came with the body before.

    Attributes:
        before: those of the body before; after: those of this one, None where it had none.
        bytes_differ: whether the two bodies do.
        rows_differ: whether the table was changed by it.
        denied: the upstream had answered "not modified" just before.
    """

    before: Validators
    after: Validators | None
    bytes_differ: bool
    rows_differ: bool
    denied: bool = False

    def differs(self, kind: Kind) -> bool:
        """Whether the body is another one, in the sense in which this kind promises that it is not."""
        return self.rows_differ if kind == "etag" and is_weak(self.before.etag or "") else self.bytes_differ

    def told(self, kind: Kind) -> bool | None:
        """Whether the kind calls the body another version; None where it says nothing."""
        if kind == "etag":
            old, new = self.before.etag, self.after.etag if self.after else None
            return not same_etag(old, new) if old and new else None
        if kind == "signal":
            before, after = self.before.signal, self.after and self.after.signal
            return before != after if before and after else None
        first, second = self._dates()
        return first != second if first and second else None

    def went_back(self, kind: Kind) -> bool:
        """Whether Last-Modified is older than before: many servers call what is not newer "not modified"."""
        first, second = self._dates()
        return kind == "last_modified" and first is not None and second is not None and second < first

    def _dates(self) -> tuple[datetime | None, datetime | None]:
        return http_date(self.before.last_modified), http_date(self.after.last_modified if self.after else None)


def asking(memory: Memory, known: Validators | None, every: int | timedelta, held: datetime, now: datetime) -> Asking:
    """Return how to ask for what is held.

    Args:
        memory: what has been learned.
        known: the validators of what is held.
        every: `request.verify_every`.
        held: since when it is held.
        now: the time it is.
    """
    if known is None or every == 1:
        return Asking()
    useless: list[Kind] = [kind for kind in KINDS if memory.of(kind).useless]
    examine = known.without(*useless)
    if examine and _due(memory, every, held, now):
        return Asking(examine, examine=True)
    liars: list[Kind] = [kind for kind in KINDS if not memory.of(kind).believed]
    return Asking(known.without(*useless, *liars))


def _due(memory: Memory, every: int | timedelta, held: datetime, now: datetime) -> bool:
    if isinstance(every, int):
        return memory.since + 1 >= every
    return now - (memory.examined_at or held) >= every


def after_silence(memory: Memory) -> Memory:
    """Return what is remembered after "not modified" was believed, or a distrusted validator was not asked."""
    return replace(memory, since=memory.since + 1)


def after_body(memory: Memory, seen: Seen, asked: Asking, now: datetime) -> Memory:
    """Return what is remembered after a body was accepted."""
    standings = {kind: _judged(memory.of(kind), kind, seen, asked, now) for kind in KINDS}
    whole = asked.examine or all(standing.believed for standing in memory.standings.values())
    if whole:
        return Memory(standings, 0, now)
    return replace(after_silence(memory), standings=standings)


def _judged(standing: Standing, kind: Kind, seen: Seen, asked: Asking, now: datetime) -> Standing:
    """Return what is known of a kind after one more body."""
    told, differs = seen.told(kind), seen.differs(kind)
    sent = bool(asked.sent and getattr(asked.sent, kind))
    lie = _lie(kind, seen, sent)
    if lie:
        return Standing(standing.lied_at or now, lie, 0, 0)
    if told is None:
        return standing
    if not differs:
        return replace(standing, restless=standing.restless + 1 if told and not seen.bytes_differ else 0)
    if standing.believed or not (sent and asked.examine):
        return replace(standing, restless=0)
    agreed = standing.agreed + 1
    return Standing() if agreed >= RETURN_AFTER else replace(standing, agreed=agreed, restless=0)


def _lie(kind: Kind, seen: Seen, sent: bool) -> str:
    """Return what a kind did that was not true, as a clause; empty if nothing."""
    if not seen.differs(kind):
        return ""
    if seen.told(kind) is False:
        return "stayed the same while the content changed"
    if seen.went_back(kind):
        return "went back in time while the content changed"
    if sent and seen.denied:
        return "was answered with 304 although the content had changed"
    return ""


def sentences(before: Memory, after: Memory) -> Iterable[tuple[Kind, str, str]]:
    """Yield what has changed: the kind, "distrusted", "trusted" or "restless", and a sentence for people."""
    for kind in KINDS:
        old, new, name = before.of(kind), after.of(kind), NAMES[kind]
        if new.lied_at and not old.lied_at:
            yield kind, "distrusted", f"the upstream's {name} {new.why}: it is not believed any more"
        elif old.lied_at and not new.lied_at:
            yield kind, "trusted", f"the upstream's {name} has told {RETURN_AFTER} changes in a row: believed again"
        elif new.useless and not old.useless:
            text = "changes although the bytes do not, so that it saves nothing: it is not sent"
            yield kind, "restless", f"the upstream's {name} {text}"


def state_in_words(memory: Memory) -> str:
    """Say how far the validators are believed, empty where nothing speaks against them."""
    words = []
    for kind in KINDS:
        one, name = memory.of(kind), NAMES[kind]
        if one.lied_at:
            words.append(f"{name} distrusted since {one.lied_at:%Y-%m-%d %H:%M} UTC (it {one.why})")
        elif one.useless:
            words.append(f"{name} not sent (it changes although the bytes do not)")
    return "; ".join(words)
