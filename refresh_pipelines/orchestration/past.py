"""What the instance knows of a source's partitions before a command chooses among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines.clock import utc_now
from refresh_pipelines.drop.listing import MissingCredential
from refresh_pipelines.drop.look import by_day, look_at
from refresh_pipelines.errors import RefreshError
from refresh_pipelines.orchestration.events import last_data_version, succeeded
from refresh_pipelines.orchestration.partitions import dynamic_keys, dynamic_name
from refresh_pipelines.outcome import Outcome, failed
from refresh_pipelines.settings import Settings
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.spec.timing import unsafe_key
from refresh_pipelines.window import window_of

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.warehouse import Warehouse


@dataclass(frozen=True)
class Past:
    """What is known before a choice.

    Attributes:
        dynamic: keys of a dynamic dimension.
        succeeded: the partitions with a success ("" for a source without partitions).
        arrived: of a drop, the days with files that no run has dealt with; None for another source.
        remark: what a look at the drop has to say of the rest.
        trouble: why the drop could not be looked at.
    """

    dynamic: Sequence[str]
    succeeded: Collection[str]
    arrived: Sequence[str] | None = None
    remark: str = ""
    trouble: RefreshError | None = None

    def instead(self, spec: SourceSpec, keys: Sequence[str]) -> Outcome | None:
        """Return what is said in place of a run over `keys` of a drop: there are none, or it cannot be looked at."""
        if self.trouble is not None:
            outcome = failed(spec, None, self.trouble)
            outcome.outcome = "blocked" if isinstance(self.trouble, MissingCredential) else "failed"
            return outcome
        if self.arrived is None or keys:
            return None
        return Outcome(spec.source, spec.group, None, "not_yet", message=self.remark)


def past_of(
    instance: dg.DagsterInstance,
    spec: SourceSpec,
    warehouse: Warehouse,
    settings: Settings,
    named: Sequence[str] = (),
) -> Past:
    """Return a source's past; keys that are `named` join its dynamic dimension, if it has one.

    Of a source with a drop the folder is looked into, and the days on which files arrived join as well.

    A success whose rows the warehouse no longer knows (`refresh retire --reload`, a new warehouse)
    is none.

    Raises:
        ValueError: a named key cannot be a partition's.
        RefreshError: the warehouse cannot be read.
    """
    held, _ = warehouse.states(spec.source, spec.raw_table)
    if spec.partitions is None:
        return Past((), {""} & held.keys() if last_data_version(instance, spec, None) else set())
    if spec.partitions.dynamic:
        for key in named:
            if problem := unsafe_key(key):
                raise ValueError(f"{spec.name}: {problem}")
            window_of(spec, key)
    look = _look(spec, settings)
    add_keys(instance, spec, [*named, *(look.arrived or ())])
    return replace(look, dynamic=dynamic_keys(instance, spec), succeeded=held.keys() & succeeded(instance, spec))


def add_keys(instance: dg.DagsterInstance, spec: SourceSpec, keys: Sequence[str]) -> None:
    """Have these keys in the dynamic dimension of a source; nothing for one without."""
    if spec.partitions is None or not spec.partitions.dynamic:
        return
    known = set(dynamic_keys(instance, spec))
    new = [key for key in dict.fromkeys(keys) if key not in known]
    if new:
        instance.add_dynamic_partitions(dynamic_name(spec), new)


def _look(spec: SourceSpec, settings: Settings) -> Past:
    """Look at a source's drop, if it has one; trouble with it is that source's own."""
    if spec.request.drop is None:
        return Past((), ())
    try:
        look = look_at(spec, settings, utc_now())
    except RefreshError as error:
        return Past((), (), (), trouble=error)
    return Past((), (), list(by_day(look.pending(spec.spec_hash))), f"{spec.name}: {look.sentence()}")
