"""What a node has to tell people at once (FORMAT.md, sections 5, 6 and 8)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class AlarmKind(StrEnum):
    """Their names, for logs, metrics and audit."""

    ROLLBACK = "rollback"
    FORK = "fork"
    FREEZE = "freeze"
    WITHHELD = "withheld"
    EQUIVOCATION = "equivocation"
    TICKET_REUSED = "ticket-reused"
    HIDING_KEY = "hiding-key"


class Alarm(NamedTuple):
    """An alarm. `about` is the id of whom it is about, or of the ticket; empty for the realm."""

    kind: AlarmKind
    about: bytes
    detail: str
