"""What the instance knows of a source's partitions before a command chooses among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from refresh_pipelines.orchestration.events import last_data_version, succeeded
from refresh_pipelines.orchestration.partitions import dynamic_keys, dynamic_name
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.spec.timing import unsafe_key

if TYPE_CHECKING:  # the engine is loaded when a refresh begins
    from refresh_pipelines.warehouse import Warehouse


@dataclass(frozen=True)
class Past:
    """Keys of a dynamic dimension, and the partitions with a success ("" for a source without partitions)."""

    dynamic: Sequence[str]
    succeeded: Collection[str]


def past_of(instance: dg.DagsterInstance, spec: SourceSpec, warehouse: Warehouse, named: Sequence[str] = ()) -> Past:
    """Return a source's past; keys that are `named` join its dynamic dimension, if it has one.

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
        new = [key for key in named if key not in set(dynamic_keys(instance, spec))]
        if new:
            instance.add_dynamic_partitions(dynamic_name(spec), new)
    return Past(dynamic_keys(instance, spec), held.keys() & succeeded(instance, spec))
