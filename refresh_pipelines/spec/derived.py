"""What a source needs of other sources (`requires`), and how one is made from them (`derive`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refresh_pipelines.spec.base import Duration, Model
from refresh_pipelines.spec.reconcile import Reconcile


class Requires(Model):
    """One source that must have reported first. `max_lag` is lateness: time since the first tick it missed."""

    source: str = Field(
        pattern=r"^([a-z][a-z0-9_]{0,39}/)?[a-z][a-z0-9_]{0,39}$", description="its name, or group/name"
    )
    period: Literal["newest", "same", "any"] = Field(
        "newest",
        description="newest: its newest expected partition, with every static key; same: those that cover the same "
        "time; any: one success ever",
    )
    max_lag: Duration | None = Field(
        None,
        description="so long after the first tick it missed, what it has is still good enough; default: not at all",
    )
    blocking: bool = Field(
        True, description="false: later than that it is said and not waited for; never loaded, it is waited for anyway"
    )

    @model_validator(mode="after")
    def _no_lag_of_any(self) -> Requires:
        if self.period == "any" and self.max_lag is not None:
            raise ValueError("max_lag has no meaning with period: any (which asks only for one success ever)")
        return self

    @property
    def stem(self) -> str:
        """The required source's name without its group."""
        return self.source.rpartition("/")[2]


class Derive(Model):
    """A source that is made in the warehouse from what its required sources have loaded."""

    query: str | None = Field(None, min_length=1, description="one SELECT over the raw tables of the required sources")
    reconcile: Reconcile | None = Field(
        None, description="in place of query: one value from several of them, chosen by their priority"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Derive:
        if (self.query is None) == (self.reconcile is None):
            raise ValueError("derive needs exactly one of query and reconcile")
        return self
