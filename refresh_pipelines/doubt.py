"""One refresh's dealings with validators: what is sent, whether "not modified" is believed, and what that taught.

The operational store may be locked, damaged or gone: then the refresh asks unconditionally, which is never wrong.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from refresh_pipelines import log
from refresh_pipelines.delivery import Delivery
from refresh_pipelines.outcome import Outcome
from refresh_pipelines.payload import NotModified
from refresh_pipelines.spec import SourceSpec
from refresh_pipelines.trust import (
    Asking,
    Memory,
    Seen,
    after_body,
    after_silence,
    asking,
    sentences,
    state_in_words,
)
from refresh_pipelines.trust_store import learn, recall
from refresh_pipelines.validators import NAMES, Validators
from refresh_pipelines.warehouse import LoadState

Deliver = Callable[[Validators | None], Delivery | NotModified]
_UNUSABLE = (OSError, sqlite3.Error)


def is_conditional(spec: SourceSpec) -> bool:
    """Whether a source can be asked conditionally: a refresh of it is one request."""
    request = spec.request
    return not (spec.derived or request.drop or request.each or request.paging)


@dataclass
class Doubt:
    """What one refresh of one partition knows of its validators.

    Attributes:
        held: the load state of what the table holds, under whatever YAML; None if it was never loaded.
        asked: how the request was made.
        denied: the upstream answered "not modified", and was asked again for the body.
    """

    spec: SourceSpec
    partition: str
    data_dir: Path
    held: LoadState | None
    now: datetime
    asked: Asking = field(default_factory=Asking)
    denied: bool = False

    @property
    def published_at(self) -> datetime | None:
        """When the upstream said that it had published what is held."""
        return self.held.published_at if self.held else None

    def deliver(self, ask: Deliver, known: LoadState | None) -> Delivery | NotModified:
        """Ask the upstream, and once more for the body where "not modified" is to be verified.

        Args:
            known: what the request may be conditional on; None where all is to be read anew.
        """
        if known is None or not is_conditional(self.spec):
            return ask(None)
        self.asked = self._asking(known)
        answer = ask(self.asked.sent)
        if isinstance(answer, NotModified) and answer.signal and self.asked.sent:
            self.asked = replace(self.asked, sent=self.asked.sent.without("etag", "last_modified"))
        if isinstance(answer, NotModified) and self.asked.examine:
            self.denied, answer = True, ask(None)
        return answer

    def _asking(self, known: LoadState) -> Asking:
        try:
            memory = recall(self.data_dir, self.spec.source, self.partition)
        except _UNUSABLE:
            return Asking()
        validators = Validators(known.url, known.etag, known.last_modified, known.signal).without()
        return asking(memory, validators, self.spec.request.verify_every, known.committed_at, self.now)

    def not_modified(self, outcome: Outcome) -> None:
        """Note that "not modified" was believed, and what it saved."""
        if self.held is None:
            return
        outcome.bytes_saved = self.held.bytes
        memory = self._learn(after_silence)
        sent = ", ".join(NAMES[kind] for kind in NAMES if self.asked.sent and getattr(self.asked.sent, kind))
        count = f"; {memory.since} believed since it was verified" if memory else ""
        outcome.validators = f"{self._answer} believed ({sent}){count}"

    def accepted(self, outcome: Outcome, answer: Delivery) -> None:
        """Note what a body that was accepted says of the validators of the one before."""
        held = self.held
        if held is None or not is_conditional(self.spec) or not held.raw_sha256 or held.url != answer.url:
            return
        before = Validators(held.url, held.etag, held.last_modified, held.signal).without()
        if before is None:
            return
        counts = outcome.counts
        seen = Seen(
            before,
            answer.validators,
            bytes_differ=held.raw_sha256 != answer.sha256,
            rows_differ=bool(counts.added or counts.updated or counts.deleted),
            denied=self.denied,
        )
        memory = self._learn(lambda memory: after_body(memory, seen, self.asked, self.now), outcome)
        verified = f"{self._answer} verified: the body is the same" if self.denied and not seen.bytes_differ else ""
        outcome.validators = "; ".join(filter(None, (verified, state_in_words(memory) if memory else "")))

    @property
    def _answer(self) -> str:
        return "not modified" if self.asked.sent and self.asked.sent.signal else "304"

    def _learn(self, lesson: Callable[[Memory], Memory], outcome: Outcome | None = None) -> Memory | None:
        try:
            before, after = learn(self.data_dir, self.spec.source, self.partition, lesson)
        except _UNUSABLE as error:
            logging.getLogger(__name__).warning("what validators taught is lost: %s", error)
            return None
        for kind, event, text in sentences(before, after):
            if event == "distrusted":
                log.event("validators.distrusted", text, validator=kind)
            elif event == "trusted":
                log.event("validators.trusted", text, validator=kind)
            else:
                log.event("validators.restless", text, validator=kind)
            if outcome:
                outcome.notes.append(text)
        return after
