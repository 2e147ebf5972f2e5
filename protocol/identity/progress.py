"""How far batches go, and how their transactions ended. Every process has these, so they need nothing else."""

from __future__ import annotations

from typing import NamedTuple


class Mark(NamedTuple):
    """How many batches stand under a key in one lane of one partition."""

    kid: bytes
    partition: int
    lane: int
    batches: int


class Progress(NamedTuple):
    """How far one lane is under a key: how many batches all replicas have, and how many were sealed."""

    kid: bytes
    partition: int
    lane: int
    acknowledged: int
    sealed: int


class TransactionEnd(NamedTuple):
    """Batches of a lane whose transactions were committed, or aborted."""

    kid: bytes
    partition: int
    lane: int
    first: int
    last: int
    committed: bool
