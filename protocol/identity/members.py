"""Who is known, who is live, and who may what (FORMAT.md, sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.credential import Credential, History, Role
from kveil.protocol.identity.identity import PublicKeys


class Standing(StrEnum):
    """Whether somebody's credential counts, and if not why."""

    LIVE = "live"
    UNKNOWN = "no credential of it is known"
    NOT_LISTED = "the newest checkpoint doesn't list its credential"
    NOT_YET = "its credential isn't valid yet"
    EXPIRED = "its credential has expired"


class Listed(NamedTuple):
    """A credential that the newest checkpoint lists."""

    credential: Credential
    hash: bytes


class Recipient(NamedTuple):
    """Who gets a topic's keys. `history` is None for those who don't consume: keepers."""

    keys: PublicKeys
    history: History | None


class Members:
    """Credentials that the authority signed, all of them: old announcements name old ones."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Credential] = {}
        self._keys: dict[bytes, PublicKeys] = {}
        self._live: dict[bytes, Listed] = {}
        self._producers: frozenset[bytes] = frozenset()
        # By topic, ascending by id: who gets its keys while the time of the credential is.
        self._readers: dict[str, tuple[tuple[Credential, Recipient], ...]] = {}
        self._live_of: tuple[Checkpoint | None, int] = (None, 0)

    def add(self, credential: Credential, digest: bytes) -> bool:
        """A verified one. Whether its subject is new."""
        new = credential.subject not in self._keys
        self._keys.setdefault(credential.subject, credential.keys)
        self._by_hash[digest] = credential
        return new

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._by_hash

    def credential(self, digest: bytes) -> Credential | None:
        return self._by_hash.get(digest)

    def is_of(self, digest: bytes, subject: bytes) -> bool:
        """Whether this is the hash of a credential of somebody's, live or not."""
        credential = self._by_hash.get(digest)
        return credential is not None and credential.subject == subject

    def keys_of(self, subject: bytes) -> PublicKeys | None:
        return self._keys.get(subject)

    def same(self, subject: bytes) -> bytes:
        """The very same bytes object for the same subject: a thousand lists of recipients then hold it once."""
        keys = self._keys.get(subject)
        return subject if keys is None else keys.id

    def live(self, checkpoint: Checkpoint | None) -> Mapping[bytes, Listed]:
        """By subject, those that are listed and have the demanded KEM; of two of one subject the later serial."""
        if self._live_of != (checkpoint, len(self._by_hash)):
            self._live_of = checkpoint, len(self._by_hash)
            self._live, self._producers, self._readers = {}, frozenset(), {}
            if checkpoint is not None:
                self._find_live(checkpoint)
        return self._live

    def _find_live(self, checkpoint: Checkpoint) -> None:
        for serial, digest in sorted(checkpoint.live.items()):
            credential = self._by_hash.get(digest)
            if credential is not None and credential.serial == serial and credential.keys.suite is checkpoint.suite:
                self._live[credential.subject] = Listed(credential, digest)
        self._producers = frozenset(
            subject
            for subject, listed in self._live.items()
            if any(grant.role is Role.PRODUCE for grant in listed.credential.grants)
        )

    def producers(self, checkpoint: Checkpoint | None) -> frozenset[bytes]:
        """Those of the live ones that may produce anything: what others announce raises no alarm."""
        self.live(checkpoint)
        return self._producers

    def missing(self, checkpoint: Checkpoint) -> list[int]:
        """Serials that are listed and weren't seen."""
        return [serial for serial, digest in sorted(checkpoint.live.items()) if digest not in self._by_hash]

    def standing(self, subject: bytes, checkpoint: Checkpoint | None, now: int) -> Standing:
        if subject not in self._keys:
            return Standing.UNKNOWN
        listed = self.live(checkpoint).get(subject)
        if listed is None:
            return Standing.NOT_LISTED
        if listed.credential.covers_time(now):
            return Standing.LIVE
        return Standing.NOT_YET if now < listed.credential.not_before else Standing.EXPIRED

    def recipients(self, topic: str, checkpoint: Checkpoint | None, now: int) -> tuple[Recipient, ...]:
        """Who gets the topic's keys now, ascending by id. A producer that may consume is among them."""
        live = self.live(checkpoint)
        readers = self._readers.get(topic)
        if readers is None:
            found = ((one.credential, _recipient(one.credential, topic)) for one in live.values())
            made = [(credential, reader) for credential, reader in found if reader is not None]
            readers = self._readers[topic] = tuple(sorted(made, key=lambda pair: pair[1].keys.id))
        return tuple(reader for credential, reader in readers if credential.covers_time(now))


def _recipient(credential: Credential, topic: str) -> Recipient | None:
    history = credential.history_of(topic)
    if history is None and not credential.may(Role.KEEPER, topic):
        return None
    return Recipient(credential.keys, history)
