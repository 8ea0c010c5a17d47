"""Whether a payload is like those that were accepted before. Pure: numbers in, reasons out.

Each demand compares one number with a limit. The limit is the share the YAML says, or ours; a change
that was accepted once is never a surprise again, so every demand is widened to the largest that is
remembered. What too few accepted payloads or too few rows can say nothing about is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from refresh_pipelines.errors import ContractViolation
from refresh_pipelines.profile import Profile
from refresh_pipelines.spec import Expect, SourceSpec

# Shares of less are a matter of single rows.
LEAST_ROWS, LEAST_MOVED = 20, 10
LEAST_BYTES = 10_000
LEAST_HOLES = 3
# Of fewer accepted payloads nobody knows yet how they usually change.
SETTLED = 3
# So many say how much rows usually fall, and then less than the fixed share is a surprise.
LEARNED = 8
YOUNG = 0.40
TIGHTEST = 0.05
# Without a share in the YAML.
DEFAULTS = {
    "change": 0.25,
    "bytes": 0.60,
    "shrink": 0.10,
    "updated": 0.50,
    "deleted": 0.10,
    "nulls": 0.30,
    "holes": 0.05,
}
_GROWTH = {"change": 1.0, "bytes": 9.0}
# A new period has no past of its own: how much larger it may be than each of so many before it.
NEIGHBOURS, TIMES_LARGER = 5, 10
LEAST_FLAT, SETTLED_FLAT = 100, 5
# Rows of a payload in which a column may lose all its values, and empty values per thousand that it had at most before.
LEAST_EMPTIED, HARDLY = 5, 100


@dataclass(frozen=True)
class Limits:
    """What the YAML says of each demand: a share, None for "off", and nothing for "as usual"."""

    written: tuple[tuple[str, float | None], ...] = ()

    @classmethod
    def of(cls, expect: Expect) -> Limits:
        """Read them from `expect`."""
        texts = {name: getattr(expect, name) for name in DEFAULTS}
        return cls(
            tuple(
                (name, None if text == "off" else int(text.rstrip("%")) / 100) for name, text in texts.items() if text
            )
        )

    def without(self, *demands: str) -> Limits:
        """Return them with some demands switched off."""
        return Limits((*self.written, *((demand, None) for demand in demands)))

    def explicit(self, demand: str) -> bool:
        """Whether the YAML has the key."""
        return demand in dict(self.written)

    def share(self, demand: str) -> float | None:
        """Return the share of a demand; None: it is switched off."""
        return dict(self.written).get(demand, DEFAULTS[demand])


@dataclass(frozen=True)
class Reason:
    """One surprise.

    Attributes:
        demand: the key of `expect` that it goes by.
        text: a sentence without a full stop.
        was, now: the number of the accepted payloads, and of this one.
        limit: what would have passed.
    """

    demand: str
    text: str
    was: str
    now: str
    limit: str


class Implausible(ContractViolation):
    """The payload is unlike those accepted before; its transaction is rolled back, and `refresh` has it wait."""

    def __init__(self, problem: str, reasons: Sequence[Reason], counts: Mapping[str, int], rows_before: int) -> None:
        super().__init__(problem, came="; ".join(reason.text for reason in reasons))
        self.reasons, self.counts, self.rows_before = tuple(reasons), dict(counts), rows_before


@dataclass(frozen=True)
class Past:
    """What is known of earlier payloads.

    Attributes:
        own: those of the same partition, oldest first.
        others: the newest of each of the periods before it.
        may_grow: the period was not over when the last one came, so that more rows are in order.
        over: the period is over now, so that fewer rows than in others are none that come later.
    """

    own: tuple[Profile, ...] = ()
    others: tuple[Profile, ...] = ()
    may_grow: bool = False
    over: bool = True


def judged(spec: SourceSpec) -> bool:
    """Whether payloads of a source can be a surprise: what is dropped or made from other tables is as it is given."""
    return not spec.derived and spec.request.drop is None


def surprises(now: Profile, past: Past, limits: Limits) -> list[Reason]:
    """Return why a payload is a surprise; nothing for one that is not."""
    judges = (_rows, _new_period, _bytes, _deleted, _shrink, _holes, _updated, _nulls, _flat)
    return [reason for judge in judges for reason in judge(now, past, limits)]


def _rows(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    whole = [one for one in past.own if one.whole]
    if now.whole and whole:
        numbers = [one.rows for one in whole]
        yield from _moved("change", "rows", now.rows, numbers, LEAST_ROWS, limits, may_grow=past.may_grow)


def _bytes(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    sizes = [one.bytes for one in past.own if one.whole and one.bytes]
    if now.whole and now.bytes and sizes:
        yield from _moved("bytes", "bytes", now.bytes, sizes, LEAST_BYTES, limits, may_grow=past.may_grow)


def _moved(
    demand: str, what: str, now: int, before: Sequence[int], least: int, limits: Limits, *, may_grow: bool
) -> Iterator[Reason]:
    """Compare a size with the last one, and the change with those that were accepted."""
    share, last = limits.share(demand), before[-1]
    if share is None or last < least or abs(now - last) < LEAST_MOVED or now == last:
        return
    young = len(before) < SETTLED and not limits.explicit(demand)
    falls = [1 - later / earlier for earlier, later in pairwise(before) if earlier > later]
    growths = [later / earlier - 1 for earlier, later in pairwise(before) if later > earlier > 0]
    change = abs(now - last) / last
    if now < last:
        limit = max(_fall_limit(demand, share, falls, len(before), limits), YOUNG if young else 0, *falls)
        word = "fewer"
    else:
        if may_grow or young:
            return
        limit = max(share if limits.explicit(demand) else _GROWTH[demand], *growths, 0)
        word = "more"
    if change > limit:
        yield Reason(
            demand, f"{percent(change)} {word} {what} than in the last accepted payload", f"{last:,}", f"{now:,}",
            f"{percent(limit)} {word}",
        )  # fmt: skip


def _fall_limit(demand: str, share: float, falls: Sequence[float], known: int, limits: Limits) -> float:
    """Return how much may be gone: of a source that was watched long enough less than the fixed share."""
    if limits.explicit(demand) or known < LEARNED:
        return share
    return min(share, max(TIGHTEST, 3 * max(falls, default=0)))


def _new_period(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    """Compare the first payload of a period with those of the periods before."""
    share, sizes = limits.share("change"), [one.rows for one in past.others if one.whole]
    if past.own or share is None or not now.whole or len(sizes) < NEIGHBOURS:
        return
    low, high = min(sizes), max(sizes)
    if now.rows > TIMES_LARGER * max(high, LEAST_ROWS):
        yield Reason(
            "change", "far more rows than any of the periods before", f"{low:,} to {high:,}", f"{now.rows:,}",
            f"{TIMES_LARGER} times as many",
        )  # fmt: skip
    too_few = limits.explicit("change") and past.over and low >= LEAST_ROWS and low - now.rows >= LEAST_MOVED
    if too_few and now.rows < low * (1 - share):
        yield Reason(
            "change", "fewer rows than each of the periods before", f"{low:,} to {high:,}", f"{now.rows:,}",
            f"{percent(share)} fewer than the least of them",
        )  # fmt: skip


def _deleted(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    known = [one.deleted / one.before for one in past.own if one.before]
    young = len(past.own) < SETTLED and not limits.explicit("deleted")
    yield from _part(
        "deleted", "rows of the table would be deleted", now.deleted, now.before, known, limits,
        enough=bool(past.own), least=YOUNG if young else 0,
    )  # fmt: skip


def _shrink(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    """Judge keys that are gone anew: those that the last payloads lacked already have left in peace."""
    if not past.own or now.deleted:
        return
    before = [0, *(max(one.lost for one in past.own[: n + 1]) for n in range(len(past.own)))]
    known = [
        max(0, one.lost - earlier) / one.before for one, earlier in zip(past.own, before, strict=False) if one.before
    ]
    yield from _part(
        "shrink", "rows of the table are gone from the payload", max(0, now.lost - before[-1]), now.before, known,
        limits, enough=len(past.own) >= SETTLED or limits.explicit("shrink"),
    )  # fmt: skip


def _updated(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    known = [one.updated / one.known for one in past.own if one.known]
    yield from _part(
        "updated", "known rows have other values", now.updated, now.known, known, limits,
        enough=len(past.own) >= SETTLED or (limits.explicit("updated") and bool(past.own)),
    )  # fmt: skip


def _part(
    demand: str, what: str, number: int, of: int, known: Sequence[float], limits: Limits, *, enough: bool,
    least: float = 0,
) -> Iterator[Reason]:  # fmt: skip
    share = limits.share(demand)
    if share is None or not enough or of < LEAST_ROWS or number < LEAST_MOVED:
        return
    limit = max(share, least, *known, 0)
    if number / of > limit:
        text = f"{percent(number / of)} of the {what}"
        yield Reason(demand, text, f"{of:,} rows", f"{number:,}", percent(limit))


def _holes(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    """Judge instants that former payloads had filled; `shrink` counts rows, this one counts days or hours."""
    share = limits.share("holes")
    enough = len(past.own) >= SETTLED or (limits.explicit("holes") and bool(past.own))
    new = now.holes - max((one.holes for one in past.own), default=0)
    if share is None or not enough or new < LEAST_HOLES or now.rows < LEAST_ROWS:
        return
    limit = share * now.instants
    if new > limit:
        yield Reason(
            "holes", f"{new:,} dates or times inside the payload are missing that the table has",
            f"{now.holes - new:,}", f"{now.holes:,}", f"{percent(share)} of {now.instants:,}",
        )  # fmt: skip


def _nulls(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    share, known = limits.share("nulls"), (*past.others, *past.own)
    enough = len(known) >= SETTLED or (limits.explicit("nulls") and bool(known))
    if share is None or not known:
        return
    # A column of this very partition that has lost every value needs neither many rows nor a long past to be seen.
    countable = bool(past.own) and min(now.rows, *(one.rows for one in known)) >= LEAST_EMPTIED
    for column, part in now.nulls.items():
        before = max(one.nulls.get(column, 0) for one in known)
        emptied = countable and part == 1000 and before <= HARDLY
        if emptied or (enough and now.rows >= LEAST_ROWS and (part - before) / 1000 > share):
            yield Reason(
                "nulls", f"column {column} is empty in {percent(part / 1000)} of the rows",
                f"at most {percent(before / 1000)}", percent(part / 1000), f"{percent(share)} more than that",
            )  # fmt: skip


def _flat(now: Profile, past: Past, limits: Limits) -> Iterator[Reason]:
    """Judge number columns that have become one value: zeros for what the upstream could not read."""
    known = (*past.others, *past.own)
    if limits.share("nulls") is None or len(known) < SETTLED_FLAT or now.rows < LEAST_FLAT:
        return
    for column, value in now.flat.items():
        if all(column not in one.flat for one in known):
            yield Reason(
                "nulls", f"column {column} has one value in all {now.rows:,} rows", "different values", value,
                "more than one value",
            )  # fmt: skip


def percent(share: float) -> str:
    """Return a share as people write it."""
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"
