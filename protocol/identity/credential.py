"""Credentials: who somebody is, and what they may do (FORMAT.md, section 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Final

from kveil.protocol.identity import cbor
from kveil.protocol.identity.errors import Malformed
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys
from kveil.protocol.identity.signing import MAX_REALM

SKEW_SECONDS: Final = 120
MAX_SECONDS: Final = 7 * 24 * 60 * 60  # a credential that nobody renews ends by itself
MAX_GRANTS: Final = 32
MAX_PATTERNS: Final = 64
MAX_TOPIC: Final = 249  # Kafka's own limit of a topic's name

_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}")


class Role(IntEnum):
    """What a grant lets somebody do. 4 is reserved. Never changed, never reused."""

    PRODUCE = 1
    CONSUME = 2
    KEEPER = 3


class History(IntEnum):
    """From when on a consumer can open. Never changed, never reused."""

    NONE = 0
    FROM_JOIN = 1
    ALL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role for topics. Raises Malformed for what a grant can't say."""

    role: Role
    patterns: tuple[str, ...]
    history: History = History.NONE

    def __post_init__(self) -> None:
        if not 0 < len(self.patterns) <= MAX_PATTERNS:
            raise Malformed(f"a grant has 1 to {MAX_PATTERNS} patterns")
        for pattern in self.patterns:
            cbor.as_text(pattern, "pattern of a grant", most=MAX_TOPIC)
        if self.history is not History.NONE and self.role is not Role.CONSUME:
            raise Malformed("history is for consumers")

    def covers(self, topic: str) -> bool:
        return any(fnmatchcase(topic, pattern) for pattern in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A credential's fields. Raises Malformed for what a credential can't say."""

    realm: str
    name: str
    serial: int
    not_before: int
    expires: int
    keys: PublicKeys
    grants: tuple[Grant, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Malformed("a name has 1 to 64 of a-z 0-9 . _ -")
        if not 0 < self.expires - self.not_before <= MAX_SECONDS + SKEW_SECONDS:
            raise Malformed("a credential is for seven days at most")
        if len(self.grants) > MAX_GRANTS:
            raise Malformed(f"more than {MAX_GRANTS} grants")

    @property
    def subject(self) -> bytes:
        return self.keys.id

    def covers_time(self, seconds: int) -> bool:
        """Whether its time has come then and isn't over, by clocks that may be apart."""
        return self.not_before - SKEW_SECONDS <= seconds <= self.expires + SKEW_SECONDS

    def may(self, role: Role, topic: str) -> bool:
        return any(grant.role is role and grant.covers(topic) for grant in self.grants)

    def history_of(self, topic: str) -> History | None:
        """The widest that it may read the topic with; None if it may not."""
        return max(
            (grant.history for grant in self.grants if grant.role is Role.CONSUME and grant.covers(topic)), default=None
        )

    def to_map(self) -> dict[int, object]:
        """As it is signed."""
        grants = [[int(grant.role), list(grant.patterns), int(grant.history)] for grant in self.grants]
        return {
            1: self.realm,
            2: self.subject,
            3: self.name,
            4: self.serial,
            5: self.not_before,
            6: self.expires,
            7: self.keys.to_map(),
            8: grants,
        }

    @classmethod
    def from_map(cls, value: object) -> Credential:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, "credential", range(1, 9))
        made = cls(
            realm=fields.text(1, most=MAX_REALM),
            name=fields.text(3, most=64),
            serial=fields.uint(4, least=1),
            not_before=fields.uint(5),
            expires=fields.uint(6),
            keys=PublicKeys.from_map(fields.value(7), fields.where(7)),
            grants=tuple(_read_grant(row) for row in fields.rows(8, 3, most=MAX_GRANTS)),
        )
        if fields.octets(2, ID_LENGTH) != made.subject:
            raise Malformed("credential: the keys are not the subject's")
        return made


def _read_grant(row: list[object]) -> Grant:
    patterns = cbor.as_list(row[1], "patterns of a grant", most=MAX_PATTERNS)
    return Grant(
        role=Role(cbor.as_uint(row[0], "role of a grant", least=1, most=len(Role))),
        patterns=tuple(cbor.as_text(pattern, "pattern of a grant", most=MAX_TOPIC) for pattern in patterns),
        history=History(cbor.as_uint(row[2], "history of a grant", most=History.ALL)),
    )
