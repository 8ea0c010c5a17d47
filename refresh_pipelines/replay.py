"""The table from the archive: accepted payloads loaded again, one by one or all of them from the beginning.

    load states and journal → which payloads → read each → one transaction

Nobody is asked for anything. What is read is read by the YAML as it is now.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from refresh_pipelines.accepted import first_state, remembered, with_validators
from refresh_pipelines.archive.journal import Chain, Journal, Load, chains, in_order
from refresh_pipelines.archive.keep import open_entry
from refresh_pipelines.archive.moved import follow_name
from refresh_pipelines.archive.pieces import pieces
from refresh_pipelines.archive.store import Store
from refresh_pipelines.credentials import unspoken
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.errors import InternalError
from refresh_pipelines.outcome import Counts, Outcome
from refresh_pipelines.parse import Notes
from refresh_pipelines.plausible import DEFAULTS
from refresh_pipelines.reading import read_again
from refresh_pipelines.refresh import Tools, refresh
from refresh_pipelines.scratch import scratch
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.stage import Staged
from refresh_pipelines.warehouse import Commit, LoadState, Merged, Warehouse
from refresh_pipelines.warehouse.store import SqlWarehouse
from refresh_pipelines.weigh import weigh
from refresh_pipelines.window import UnknownPartition, Window, window_of

TRIGGER = "replay"
_NAMED = 5


@dataclass(frozen=True)
class Past:
    """What the archive and the load states say was accepted of a source.

    Attributes:
        chains: by partition, "" without partitions.
        loads: the accepted ones of all partitions, in the order of their commits.
        gone: partitions without the payload they were accepted with.
        older: partitions of which only earlier payloads are gone.
        strange: partitions that the YAML does not have.
    """

    states: Mapping[str, LoadState]
    chains: Mapping[str, Chain]
    loads: Sequence[Load]
    gone: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def partitions(self) -> list[str]:
        """The partitions that can be loaded again, in the order of their newest load."""
        newest = {chain.partition: chain.newest for chain in self.chains.values()}
        found = {key: load for key, load in newest.items() if load and key not in (*self.gone, *self.strange)}
        return sorted(found, key=lambda key: (found[key].at, key))


def past_of(spec: SourceSpec, settings: Settings, warehouse: Warehouse) -> Past:
    """Return what was accepted of a source, and what of it is left. Raises WarehouseBusy."""
    follow_name(spec, settings)
    states, _ = warehouse.states(spec.source)
    store = Store(settings.data_dir, spec.source)
    loads = Journal(store).read()
    found = chains(loads, states)
    there = {"", *store.ids()}
    gone = [key for key, chain in found.items() if not chain.newest or chain.newest.payload not in there]
    older = [
        key
        for key, chain in found.items()
        if key not in gone and not (chain.whole and all(load.payload in there for load in chain.loads))
    ]
    strange = [key for key in found if not _known(spec, key)]
    return Past(states, found, in_order(loads, found.values()), tuple(gone), tuple(older), tuple(strange))


def _known(spec: SourceSpec, key: str) -> bool:
    try:
        window_of(spec, key or None)
    except UnknownPartition:
        return False
    return bool(key) == (spec.partitions is not None)


def require_kept(spec: SourceSpec, past: Past, partitions: Sequence[str] | None, *, lossy: bool = False) -> None:
    """Say what is missing before anything is touched.

    Args:
        past: see `past_of`.
        partitions: those that are to be loaded again; None: all, from the beginning.
        lossy: earlier payloads may be missing.

    Raises:
        InternalError: the source is derived, or payloads are not in the archive.
    """
    if spec.derived:
        raise InternalError(
            f"{spec.name} is made from other sources, so no payload of it was kept",
            todo=f"Nothing was changed. Make it anew with `refresh run {spec.source} --force`.",
        )
    wanted = list(past.chains) if partitions is None else partitions
    lost = [key for key in wanted if key in past.gone or key not in past.chains]
    if lost or not past.chains:
        raise InternalError(
            f"the archive has not the accepted payload of {_listed(spec, lost)}",
            expected=f"one for each of the {len(wanted)} partitions" if len(wanted) > 1 else "one",
            came=f"{len(wanted) - len(lost)}; they were loaded before there was an archive, or the folder was emptied",
            todo=f"Nothing was changed. Fetch them with `refresh run {spec.source} --force`"
            f"{' --partition …' if spec.partitions else ''}, which keeps what comes.",
        )
    strange = [key for key in wanted if key in past.strange]
    if strange:
        raise InternalError(
            f"{spec.name} has no partition {_listed(spec, strange)} any more",
            expected="the partitions that were loaded",
            todo="Nothing was changed. Restore `partitions` in the YAML, or forget what was loaded with "
            f"`refresh retire {spec.source} --reload` and then `refresh run {spec.source} --missing`.",
        )
    if partitions is None and past.older and not lossy:
        raise InternalError(
            f"the archive has not all payloads of {_listed(spec, past.older)}",
            expected="every payload since the first load, which archive.keep and archive.max_bytes did not allow",
            came=f"gaps before the accepted one in {len(past.older)} of {len(past.chains)} partitions",
            todo="Nothing was changed. With --lossy it is made from what is left: rows that only the missing payloads "
            "held are lost, and others look as if they had come later.",
        )


def _listed(spec: SourceSpec, keys: Sequence[str]) -> str:
    names = [key for key in keys[:_NAMED] if key] or [spec.name]
    return ", ".join(names) + (f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else "")


def replay(spec: SourceSpec, window: Window, tools: Tools, *, run_id: str, trigger: str = TRIGGER) -> Outcome:
    """Load the accepted payload of one partition again, by the YAML as it is now.

    Rows that differ are updated now and by this run, as a refresh would that got the same payload.

    Raises:
        RefreshError: as `require_kept` and `refresh`; the table is as it was.
    """
    past = past_of(spec, tools.settings, tools.warehouse)
    key = window.partition or ""
    require_kept(spec, past, [key])
    stored = past.chains[key].newest
    if stored and stored.spec_hash != spec.spec_hash and _a_piece(spec, window, stored):
        raise InternalError(
            "the accepted payload holds only what was new when it came",
            expected="one with all rows, because the YAML has changed since",
            todo=f"Nothing was changed. `refresh replay {spec.source} --rebuild` reads every payload by the new YAML.",
        )
    return refresh(spec, window, tools, run_id=run_id, trigger=trigger, force=True, stored=stored)


def _a_piece(spec: SourceSpec, window: Window, load: Load) -> bool:
    """Whether a payload was not the whole of its partition: dropped files, or what followed the newest row."""
    return spec.request.drop is not None or load.origin.start != window.start


@dataclass
class _Prepared:
    """A load that is read and waits for the transaction."""

    load: Load
    window: Window
    answer: Delivery
    staged: Staged
    notes: Notes


@dataclass
class _Rebuild:
    """What is known of one rebuild."""

    spec: SourceSpec
    tools: Tools
    folder: Path
    prepared: list[_Prepared | Load] = field(default_factory=list)

    def read(self, loads: Sequence[Load]) -> None:
        """Read every payload, before anything is locked."""
        ranges: dict[tuple[str, str], tuple[Delivery, dict[str, Staged], Notes]] = {}
        for number, load in enumerate(loads):
            if load.kind == "same":
                self.prepared.append(load)
                continue
            folder = self.folder / str(number)
            folder.mkdir()
            window = window_of(self.spec, load.partition or None)
            if load.origin.keys:
                place = (load.payload, load.run_id)
                if place not in ranges:
                    ranges[place] = self._range(load, folder)
                answer, staged, notes = ranges[place]
                self.prepared.append(_Prepared(load, window, answer, staged[load.partition], notes))
            else:
                read = read_again(self.spec, window, load, self.tools.settings, folder)
                self.prepared.append(_Prepared(load, *read))
            for part in folder.glob("kept-*"):
                part.unlink()  # once its rows are read

    def _range(self, load: Load, folder: Path) -> tuple[Delivery, dict[str, Staged], Notes]:
        answer, notes = open_entry(self.spec, self.tools.settings, load.payload, folder, load.origin), Notes()
        return answer, pieces(self.spec, answer, load, folder, notes), notes

    def commits(self, states: dict[str, LoadState]) -> Iterator[Commit]:
        """Yield the commits as they were made, with the load states as they are meanwhile."""
        for one in self.prepared:
            if isinstance(one, Load):
                self._said_the_same(one, states)
            else:
                yield self._commit(one, states)

    def _commit(self, one: _Prepared, states: Mapping[str, LoadState]) -> Commit:
        spec, load, answer = self.spec, one.load, one.answer
        state = first_state(spec, one.window, load.run_id, one.staged, states.get(load.partition), load.at)
        state = replace(
            with_validators(spec, one.notes, state, answer), raw_sha256=remembered(answer), bytes=answer.bytes,
            payload=load.payload,
        )  # fmt: skip
        missing = bool(answer.missing) or load.missing
        known = {key: known.profiles for key, known in states.items()}
        weight = weigh(spec, one.window, one.staged, known, load.at, size=answer.bytes, missing=missing)
        if weight and weight.limits:
            weight = replace(weight, limits=weight.limits.without(*DEFAULTS))  # it was accepted
        return Commit(
            spec, one.window.partition, one.staged, state, self.tools.progress, answer.files,
            complete=not missing, weight=weight, again=True,
        )  # fmt: skip

    def _said_the_same(self, load: Load, states: dict[str, LoadState]) -> None:
        """Remember of a partition what its refresh remembered when other bytes said the same."""
        state, said = states.get(load.partition), load.origin
        if state is None or load.spec_hash != self.spec.spec_hash:
            return  # by another YAML they may not say the same
        states[load.partition] = replace(
            state, run_id=load.run_id, outcome="unchanged" if load.outcome == "unchanged" else state.outcome,
            counts=Counts(**load.counts), raw_sha256=said.sha256, bytes=said.bytes, url=said.url, etag=said.etag,
            last_modified=said.last_modified, published_at=load.published_at,
        )  # fmt: skip


def rebuild(
    spec: SourceSpec, tools: Tools, *, run_id: str, trigger: str = TRIGGER, lossy: bool = False
) -> list[Outcome]:
    """Make rows and load states of a source anew from all payloads that were accepted, oldest first.

    Rows get the times and run ids that they had. Everything is read first; then rows and states are removed and
    made anew in one transaction, so that nobody sees half of it and a kill leaves everything as it was.

    Returns:
        For each partition what its loads came to together.

    Raises:
        RefreshError: as `require_kept`, and as `refresh` for a payload that cannot be read by this YAML; WarehouseBusy
            also if the source was refreshed meanwhile. Nothing has changed.
    """
    started = tools.clock()
    if not isinstance(tools.warehouse, SqlWarehouse):
        raise TypeError("a warehouse that cannot be rebuilt")
    past = past_of(spec, tools.settings, tools.warehouse)
    require_kept(spec, past, None, lossy=lossy)
    there = {"", *Store(tools.settings.data_dir, spec.source).ids()}
    where = scratch(tools.settings.data_dir, run_id, spec.source, "rebuild", started)
    with unspoken(spec, tools.settings), where as folder:
        making = _Rebuild(spec, tools, folder)
        making.read([load for load in past.loads if load.payload in there])
        tools.progress("staged")
        merged, wait = tools.warehouse.rebuild(spec, past.states, making.commits)
        shutil.rmtree(folder, ignore_errors=True)
    tools.progress("committed")
    outcomes = [_outcome(spec, key, own, run_id, trigger) for key, own in _by_partition(merged).items()]
    for outcome in outcomes:
        outcome.started_at = started.isoformat(timespec="seconds")
    if outcomes:
        outcomes[0].seconds.wait = wait
    return outcomes


def _by_partition(merged: Sequence[Merged]) -> dict[str, list[Merged]]:
    out: dict[str, list[Merged]] = {}
    for one in merged:
        out.setdefault(one.state.partition, []).append(one)
    return out


def _outcome(spec: SourceSpec, key: str, merged: Sequence[Merged], run_id: str, trigger: str) -> Outcome:
    last = merged[-1]
    total = {one.name: sum(getattr(done.state.counts, one.name) for done in merged) for one in fields(Counts)}
    outcome = Outcome(spec.source, spec.group, key or None, "loaded", Counts(**total), run_id=run_id, trigger=trigger)
    outcome.data_version, outcome.changed_at = last.state.data_version, last.state.changed_at
    outcome.published_at, outcome.sha256, outcome.bytes = (
        last.state.published_at, last.state.raw_sha256, last.state.bytes,
    )  # fmt: skip
    outcome.partition_rows, outcome.table_rows = last.partition_rows, last.table_rows
    outcome.notes.append(f"rebuilt from {len(merged)} payloads of the archive")
    return outcome
