"""A realm in memory: an authority, nodes, and the records that they would write."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from kveil.protocol.identity.announcement import Announcement, Ending, Epoch, announce
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential, Grant, History, Role
from kveil.protocol.identity.crypto import KEM_PRIVATE_LENGTH, KemSuite
from kveil.protocol.identity.hiding import hand_out
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.marks import Head, Kept
from kveil.protocol.identity.record import IdentityRecord, encode_record, sign_body
from kveil.protocol.identity.regrant import regrant
from kveil.protocol.identity.signing import NO_HASH, Signed
from kveil.protocol.identity.view import View

NOW = 1_800_000_000
DAY = 86_400


def identity(name: str, *, suite: KemSuite = KemSuite.X25519, twice: bool = False) -> Identity:
    """The same for the same name: never in use."""

    def seed(what: str, length: int = 32) -> bytes:
        return hashlib.shake_256(f"{name}/{what}".encode()).digest(length)

    return Identity(
        ed25519_seed=seed("ed25519"),
        mldsa_seed=seed("mldsa") if twice else None,
        suite=suite,
        kem_private=seed("kem", KEM_PRIVATE_LENGTH[suite]),
    )


def produces(*patterns: str) -> Grant:
    return Grant(role=Role.PRODUCE, patterns=patterns or ("orders",))


def consumes(*patterns: str, history: History = History.FROM_JOIN) -> Grant:
    return Grant(role=Role.CONSUME, patterns=patterns or ("orders",), history=history)


def keeps(*patterns: str) -> Grant:
    return Grant(role=Role.KEEPER, patterns=patterns or ("orders",))


def value_of(record: Signed) -> bytes:
    """What a record's value is on the topic."""
    return encode_record(record)[1]


@dataclass
class Node:
    """A member, and one process of it."""

    keys: Identity
    credential: Signed
    body: Credential
    chain: bytes
    sequence: int = 0
    previous: bytes = NO_HASH


@dataclass
class Realm:
    """Who is a member. What a method returns is signed; `values` are for a view."""

    name: str = "demo"
    suite: KemSuite = KemSuite.X25519
    twice: bool = False
    serial: int = 0
    live: dict[int, bytes] = field(default_factory=dict)
    checkpoints: list[Signed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = identity("authority", suite=self.suite, twice=self.twice)
        self.identity = sign_body(IdentityRecord(realm=self.name, keys=self.authority.public), self.authority)

    def keys(self, name: str) -> Identity:
        return identity(name, suite=self.suite, twice=self.twice)

    def node(self, name: str, *grants: Grant, list_it: bool = True, **changes: Any) -> Node:
        keys = self.keys(name)
        body, record = self.issue(keys, name, *grants, list_it=list_it, **changes)
        return Node(keys, record, body, hashlib.sha256(name.encode()).digest()[:16])

    def issue(
        self, keys: Identity, name: str, *grants: Grant, list_it: bool = True, **changes: Any
    ) -> tuple[Credential, Signed]:
        self.serial += 1
        made = Credential(
            realm=self.name,
            name=name,
            serial=self.serial,
            not_before=NOW - 300,
            expires=NOW + 7 * DAY - 300,
            keys=keys.public,
            grants=grants,
        )
        made = replace(made, **changes)
        record = sign_body(made, self.authority)
        if list_it:
            self.live[made.serial] = record.hash
        return made, record

    def checkpoint(self, *ended: Ended, **changes: Any) -> Signed:
        """The next one."""
        last = self.checkpoints[-1] if self.checkpoints else None
        made = Checkpoint(
            realm=self.name,
            number=len(self.checkpoints) + 1,
            previous=NO_HASH if last is None else last.hash,
            created=NOW,
            expires=NOW + DAY,
            live=dict(self.live),
            ended=ended,
            suite=self.suite,
        )
        record = sign_body(replace(made, **changes), self.authority)
        self.checkpoints.append(record)
        return record

    @property
    def kept(self) -> Kept:
        return Kept(self.checkpoints[-1].fields[2], self.checkpoints[-1].hash)

    def end(self, node: Node, *marks: Any, head: Head | None = None) -> Signed:
        """The checkpoint that ends a producer."""
        del self.live[node.body.serial]
        head = Head(node.sequence, node.previous) if head is None else head
        chains = {node.chain: head} if head.sequence else {}
        return self.checkpoint(Ended(id=node.keys.id, chains=chains, marks=tuple(marks)))

    def epoch(self, node: Node, **changes: Any) -> Epoch:
        made = Epoch(
            realm=self.name,
            producer=node.keys.id,
            credential=node.credential.hash,
            topic="orders",
            created=NOW,
            not_after=NOW + DAY,
            chain=node.chain,
            sequence=node.sequence + 1,
            previous=node.previous,
            checkpoint=self.kept,
            batch_key=bytes(32),
            positions=True,
        )
        return replace(made, **changes)

    def announce(self, node: Node, secret: bytes, *readers: Node, advance: bool = True, **changes: Any) -> Signed:
        """The next of the node's chain."""
        made = announce(self.epoch(node, **changes), secret, [one.keys.public for one in readers], node.keys)
        if advance:
            node.sequence, node.previous = node.sequence + 1, made.hash
        return made

    def beacon(self, node: Node, **changes: Any) -> Signed:
        made = Beacon(
            realm=self.name,
            producer=node.keys.id,
            credential=node.credential.hash,
            chain=node.chain,
            number=1,
            created=NOW,
            head=Head(node.sequence, node.previous),
            checkpoint=self.kept,
        )
        return sign_body(replace(made, **changes), node.keys)

    def regrant(self, keeper: Node, announced: Signed, secret: bytes, *readers: Node) -> Signed:
        return regrant(
            announcement_of(announced),
            announced.hash,
            secret,
            [one.keys.public for one in readers],
            keeper=keeper.keys,
            credential=keeper.credential.hash,
        )

    def hand(self, node: Node, secret: bytes, key_id: bytes | None = None) -> Signed:
        """The key-hiding key for a member."""
        return hand_out(self.name, secret, key_id, node.keys.public, self.authority)

    def view(self, *records: Signed, me: Node | None = None, end: bool = True, **options: Any) -> View:
        """A view that has read these, and keeps each checkpoint at once."""
        made = View(realm=self.name, authority=self.authority.id, me=None if me is None else me.keys.id, **options)
        read(made, *records)
        if end:
            made.reached_end()
        return made


def read(view: View, *records: Signed) -> None:
    for record in records:
        view.apply(value_of(record))
        while view.to_keep is not None:
            view.keep(view.to_keep)


def announcement_of(record: Signed) -> Announcement:
    return Announcement.from_map(record.fields)


__all__ = ["DAY", "NOW", "Ending", "Node", "Realm", "announcement_of", "identity", "read", "value_of"]
