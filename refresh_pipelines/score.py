"""How reliable a source is, from 0 to 1: what its refreshes of the last ninety days add up to. Pure.

The formula is in docs/failure.md. Only what the upstream does counts: a refresh that ended `busy`, `interrupted`,
`internal`, `blocked` or `not_yet` is as good as none, by the rule of the breaker. So is a tick that nobody made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from refresh_pipelines.expected import rhythm_of
from refresh_pipelines.schedule import next_fires
from refresh_pipelines.score_parts import WINDOW, Item, Part, decay, part_of
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.tally import WHOLE, Refresh
from refresh_pipelines.units import format_duration
from refresh_pipelines.window import newest_periods

_DAY, _MOMENT = timedelta(days=1), timedelta(microseconds=1)
# A refresh that loads although the upstream has a field that it never had before is half a surprise.
_NEW_FIELD = 0.5
WEIGHTS = {"on time": 0.5, "recovery": 0.2, "plausibility": 0.15, "schema": 0.15}


@dataclass(frozen=True)
class Score:
    """A source's reliability at an instant, as the parts it is the weighted mean of."""

    at: datetime
    parts: tuple[Part, ...]

    @property
    def total(self) -> float | None:
        """From 0 to 1; None while nothing is known."""
        known = [(self.share(part), part.value) for part in self.parts if part.value is not None]
        return sum(share * value for share, value in known) if known else None

    def share(self, part: Part) -> float:
        """Return the weight of a part in the total: those without anything to judge by are left to the others."""
        if part.value is None:
            return 0.0
        return part.weight / sum(one.weight for one in self.parts if one.value is not None)


@dataclass(frozen=True)
class Ticks:
    """From when a source's ticks count, and when none were made.

    Attributes:
        since: since when it is due as it is now; None: since its first refresh.
        pauses: from when to when it was paused; None for a pause that lasts.
    """

    since: datetime | None = None
    pauses: Sequence[tuple[datetime, datetime | None]] = field(default=())

    def paused(self, at: datetime) -> bool:
        """Whether the source was paused at an instant."""
        return any(begun <= at and (ended is None or at < ended) for begun, ended in self.pauses)


def score_of(spec: SourceSpec, refreshes: Sequence[Refresh], ticks: Ticks, now: datetime) -> Score:
    """Return a source's score at `now`; its total is None where no refresh of the last ninety days says anything.

    Args:
        spec: the source.
        refreshes: as `refreshes_of` returns them.
        ticks: which of its ticks count.
        now: the time it is.
    """
    known = [one for one in refreshes if one.at > now - WINDOW]
    interval = _interval(spec, now)
    items: dict[str, list[Item]] = {name: [] for name in WEIGHTS}
    if known:
        items = {
            "on time": list(_on_time(spec, known, ticks, now, max(spec.breaker.probe_max, interval))),
            "recovery": list(_recovery(spec, known, now, interval)),
            "plausibility": list(_plausible(known, now)),
            "schema": list(_schema(known, now)),
        }
    return Score(now, tuple(part_of(name, weight, items[name]) for name, weight in WEIGHTS.items()))


def _interval(spec: SourceSpec, now: datetime) -> timedelta:
    """Return the longest pause between the next ticks; a day for a source that is not due at times."""
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return _DAY
    fires = next_fires(rhythm.cron, rhythm.zone, now, 8)
    return max(later - earlier for earlier, later in pairwise(fires))


def _on_time(
    spec: SourceSpec, known: Sequence[Refresh], ticks: Ticks, now: datetime, patience: timedelta
) -> Iterator[Item]:
    """Yield each due tick that says anything of the upstream: the share of its newest period that came in time."""
    rhythm = rhythm_of(spec)
    if rhythm is None:
        return
    begun = max(ticks.since or known[0].at, now - WINDOW)
    due = [*rhythm.between(begun - _MOMENT, now), rhythm.first_from(now + _MOMENT)]
    goods, bads = _Line(known, good=True), _Line(known, good=False)
    held = _Held(known, spec.breaker.failures, patience)
    for tick, following in pairwise(due):
        if ticks.paused(tick):
            continue
        deadline = tick + spec.freshness.checked if spec.freshness.checked else following
        period = _period(spec, tick)
        value = _share(goods.within(tick, deadline, period), bads.within(tick, following, period), period)
        if value is None and held.at(tick):
            value = 0.0
        if value is not None and (value == 1 or deadline <= now):
            yield Item(tick, value, decay(now - tick), _named(tick, value))


def _period(spec: SourceSpec, tick: datetime) -> str:
    """Return the newest period that a tick asks for; `WHOLE` where it asks for everything."""
    partitions = spec.partitions
    if partitions is None or partitions.time is None:
        return WHOLE
    return (newest_periods(partitions, tick) or [WHOLE])[-1]


class _Line:
    """Refreshes by the time at which something went well in them, or failed."""

    def __init__(self, known: Sequence[Refresh], *, good: bool) -> None:
        placed = [(at, one) for one in known if (at := one.ok_at if good else one.bad_at)]
        placed.sort(key=lambda pair: pair[0])
        self.times, self.runs = [at for at, _ in placed], [one for _, one in placed]
        self.which = 0 if good else 1

    def within(self, tick: datetime, until: datetime, period: str) -> list[Refresh]:
        """Return those from a tick until an instant, without that, in which it was so of a partition of the period."""
        found = self.runs[bisect_left(self.times, tick) : bisect_left(self.times, until)]
        return [one for one in found if one.of(period)[self.which]]


def _share(came: Sequence[Refresh], failed: Sequence[Refresh], period: str) -> float | None:
    """Return which share of a period came: by the best run, and by later tries, which take only what had failed."""
    if not came and not failed:
        return None
    size = max(sum(one.of(period)) for one in (*came, *failed))
    best = max((one.of(period)[0] for one in came if not one.later), default=0)
    return min(1.0, (best + sum(one.of(period)[0] for one in came if one.later)) / size)


class _Held:
    """Whether a source's breaker was open at an instant, from its runs alone.

    Long after the last try nobody was looking, for somebody would have probed: that is not the upstream's fault.
    """

    def __init__(self, known: Sequence[Refresh], failures: int, patience: timedelta) -> None:
        self.known, self.failures, self.patience = known, failures, patience
        self.times = [one.at for one in known]
        self.rows: list[int] = []
        for one in known:
            self.rows.append(0 if one.success else (self.rows[-1] if self.rows else 0) + 1)

    def at(self, tick: datetime) -> bool:
        """Whether so many runs had failed in a row before a tick, the last of them not long ago."""
        place = bisect_right(self.times, tick) - 1
        return place >= 0 and self.rows[place] >= self.failures and tick - self.times[place] <= self.patience


def _recovery(spec: SourceSpec, known: Sequence[Refresh], now: datetime, interval: timedelta) -> Iterator[Item]:
    """Yield each stretch of time between two successes, weighted by its length; the last one goes on until now."""
    limit = spec.freshness.checked or interval
    patience = max(spec.breaker.probe_max, interval)
    begun, tries = known[0].at, list[datetime]()
    if not any(one.success for one in known):
        yield Item(known[0].at, 0.0, 1.0, f"no success since {known[0].at:%Y-%m-%d %H:%M}")
        return
    for one in known:
        if one.success:
            if one.at > begun:
                yield _stretch(begun, one.at, tries, limit, patience, now, over=True)
            begun, tries = one.at, []
        else:
            tries.append(one.at)
    yield _stretch(begun, now, tries, limit, patience, now, over=False)


def _stretch(
    begun: datetime,
    ended: datetime,
    tries: Sequence[datetime],
    limit: timedelta,
    patience: timedelta,
    now: datetime,
    *,
    over: bool,
) -> Item:
    """Return a stretch with its value: 1 where nothing failed, 0 where it took as long as the limit to recover.

    A silence counts for as long as `patience` at most: then nobody was asking.
    """
    moments = [*tries, ended] if tries else []
    gaps = [min(later - earlier, patience) for earlier, later in pairwise(moments)]
    took = sum(gaps, timedelta(0))
    weight = decay(now - ended) - decay(now - begun)
    if not tries:
        return Item(ended, 1.0, weight)
    until = f"to {ended:%Y-%m-%d %H:%M}" if over else "and still"
    text = f"{tries[0]:%Y-%m-%d %H:%M} {until} ({format_duration(_rounded(took))})"
    return Item(tries[0], max(0.0, 1 - took / limit), weight, text)


def _rounded(took: timedelta) -> timedelta:
    return timedelta(minutes=max(1, round(took / timedelta(minutes=1))))


def _plausible(known: Sequence[Refresh], now: datetime) -> Iterator[Item]:
    """Yield how much of what each refresh read was believed."""
    for one in known:
        judged = one.ok + one.quarantined
        if judged:
            value = one.fit / (1_000_000 * judged)
            refused = (
                f"{one.quarantined} quarantined" if one.quarantined else f"{100 * (1 - value):.2g} % of rows refused"
            )
            yield Item(one.at, value, decay(now - one.at), _named(one.at, value, refused))


def _schema(known: Sequence[Refresh], now: datetime) -> Iterator[Item]:
    """Yield whether each refresh found the columns that are declared, and no new ones beside them."""
    seen: frozenset[str] | None = None
    for one in known:
        new = one.fields - seen if one.fields is not None and seen is not None else frozenset()
        if one.fields is not None:
            seen = one.fields | (seen or frozenset())
        judged = one.ok + one.contract
        if judged:
            value = one.ok * (_NEW_FIELD if new else 1) / judged
            found = "contract" if one.contract else f"new: {', '.join(sorted(new)[:3])}"
            yield Item(one.at, value, decay(now - one.at), _named(one.at, value, found))


def _named(at: datetime, value: float, what: str = "") -> str:
    """Return what lowered a part, and when; nothing for what did not."""
    return f"{at:%Y-%m-%d %H:%M} {what}".rstrip() if value < 1 else ""
