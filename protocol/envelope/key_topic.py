"""What stands on the key topic, where every record key of a topic has an epoch key of its own (FORMAT.md, section 13).

Three kinds of entries, by their Kafka keys. A value that is null takes its entry away.

    generation   a key that wraps epoch keys, itself wrapped once by whoever keeps the key-encryption key
    record key   an epoch key under a generation
    erased       that a record key's epoch key is not to be used again

Kafka keys and values are decoded strictly. Generations and erasures carry a code that only holders of the key-hiding
key can make; what a record key's entry says is authenticated when it is unwrapped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum
from functools import cached_property
from typing import Final, NamedTuple

from kveil.protocol.envelope import crypto
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import KID_LENGTH, SALT_LENGTH, KeyBlock, lp
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH

KEY_TOPIC: Final = "_kveil.keys"
RECORD_ID_LENGTH: Final = 16
CODE_LENGTH: Final = 32
WRAP_LENGTH: Final = SALT_LENGTH + EPOCH_KEY_LENGTH + crypto.TAG_LENGTH

_VERSION: Final = 1
_WRAP: Final = b"kveil/v1/record-key\x00"
_CODE: Final = b"kveil/v1/key-topic\x00"
_NULL_KEY: Final = b"kveil/v1/null-key\x00"
_OTHER_CODE: Final = "authentication code"


class Kind(IntEnum):
    """What an entry is. Never changed, never reused."""

    GENERATION = 1
    RECORD_KEY = 2
    ERASED = 3


class State(IntEnum):
    """What a generation is good for."""

    ACTIVE = 1
    RETIRED = 2  # wraps nothing new: what an entry behind this says doesn't count


class Generation(NamedTuple):
    """A generation, by the kid of its key."""

    kid: bytes
    state: State
    block: KeyBlock


class WrappedRecordKey(NamedTuple):
    """A record key's epoch key under a generation."""

    record_id: bytes
    kid: bytes
    generation: bytes
    topic: str
    wrapped: bytes


class Erased(NamedTuple):
    """That an epoch key is erased. Its wrap stood under `generation`: once that is destroyed it is gone for all."""

    record_id: bytes
    kid: bytes
    generation: bytes
    topic: str


class Removed(NamedTuple):
    """That an entry was taken away. `kid` is a generation's or a record key's."""

    kind: Kind
    kid: bytes


_KINDS: Final = {kind.value: kind for kind in Kind}
_STATES: Final = {state.value: state for state in State}

Entry = Generation | WrappedRecordKey | Erased | Removed


class KeyTopicCodec:
    """Entries of one realm, in both directions."""

    def __init__(self, hiding_secret: Callable[[], bytes], *, realm: str) -> None:
        """`hiding_secret` is asked when it is needed. It may not be there from the start, and then raises."""
        self._hiding_secret = hiding_secret
        self._realm = lp(realm.encode())

    @cached_property
    def _code(self) -> crypto.HkdfBlock:
        return crypto.HkdfBlock(self._hiding_secret(), _CODE + self._realm, CODE_LENGTH)

    def null_key_id(self, topic: str) -> bytes:
        """What stands for a null record key."""
        return crypto.hkdf_expand(self._hiding_secret(), _NULL_KEY + self._realm + lp(topic.encode()), RECORD_ID_LENGTH)

    def encode(self, entry: Entry) -> tuple[bytes, bytes | None]:
        """Kafka key and value."""
        match entry:
            case Generation(kid, state, block):
                key = _kafka_key(Kind.GENERATION, kid)
                return key, self._with_code(key, bytes((_VERSION, state)) + block.encode())
            case WrappedRecordKey(record_id, kid, generation, topic, wrapped):
                key = _kafka_key(Kind.RECORD_KEY, record_id + kid)
                return key, bytes((_VERSION,)) + generation + lp(topic.encode()) + wrapped
            case Erased(record_id, kid, generation, topic):
                key = _kafka_key(Kind.ERASED, record_id + kid)
                return key, self._with_code(key, bytes((_VERSION,)) + generation + lp(topic.encode()))
            case Removed():
                raise ValueError("what is taken away is named by its Kafka key: `removal_of`")

    @staticmethod
    def removal_of(entry: Generation | WrappedRecordKey) -> tuple[bytes, None]:
        """Kafka key and null value of what takes the entry away."""
        if isinstance(entry, Generation):
            return _kafka_key(Kind.GENERATION, entry.kid), None
        return _kafka_key(Kind.RECORD_KEY, entry.record_id + entry.kid), None

    def decode(self, key: bytes | None, value: bytes | None) -> Entry:
        """The strict inverse. Raises Unopenable."""
        kind, ids = _read_kafka_key(key)
        if value is None:
            return Removed(kind, ids[-KID_LENGTH:])
        if value[:1] != bytes((_VERSION,)):
            raise Unopenable(Reason.VERSION)
        if kind is Kind.RECORD_KEY:
            generation, topic, wrapped = _read_place(value[1:])
            if len(wrapped) != WRAP_LENGTH:
                raise Unopenable(Reason.WRAP_LENGTH)
            return WrappedRecordKey(ids[:RECORD_ID_LENGTH], ids[RECORD_ID_LENGTH:], generation, topic, wrapped)
        body = self._without_code(key or b"", value)
        if kind is Kind.GENERATION:
            return _read_generation(ids, body)
        generation, topic, rest = _read_place(body[1:])
        if rest:
            raise Unopenable(Reason.LENGTH)
        return Erased(ids[:RECORD_ID_LENGTH], ids[RECORD_ID_LENGTH:], generation, topic)

    def _with_code(self, key: bytes, body: bytes) -> bytes:
        return body + self._code.expand(lp(key) + body)

    def _without_code(self, key: bytes, value: bytes) -> bytes:
        if len(value) < CODE_LENGTH:
            raise Unopenable(Reason.LENGTH)
        body, code = value[:-CODE_LENGTH], value[-CODE_LENGTH:]
        crypto.check_equal(code, self._code.expand(lp(key) + body), _OTHER_CODE)
        return body

    def wrap(self, generation_secret: bytes, topic: str, record_id: bytes, kid: bytes, secret: bytes) -> bytes:
        """72 bytes: a fresh salt, the sealed secret, its tag."""
        salt = os.urandom(SALT_LENGTH)
        key, nonce = self._derive(generation_secret, topic, record_id, kid, salt)
        return salt + crypto.encrypt(key, nonce, secret)

    def unwrap(self, generation_secret: bytes, entry: WrappedRecordKey) -> bytes:
        """The 32-byte secret. Raises Unopenable if the wrap was made for anything else, or altered.

        `EpochKey` checks afterwards that the kid is this secret's.
        """
        salt, sealed = entry.wrapped[:SALT_LENGTH], entry.wrapped[SALT_LENGTH:]
        key, nonce = self._derive(generation_secret, entry.topic, entry.record_id, entry.kid, salt)
        return crypto.decrypt(key, nonce, sealed, Reason.WRAP_TAG)

    def _derive(
        self, generation_secret: bytes, topic: str, record_id: bytes, kid: bytes, salt: bytes
    ) -> tuple[bytes, bytes]:
        if len(generation_secret) != EPOCH_KEY_LENGTH:
            raise Unopenable(Reason.KEY_LENGTH)
        info = b"".join((_WRAP, self._realm, lp(topic.encode()), record_id, kid, salt))
        made = crypto.hkdf_expand(generation_secret, info, crypto.KEY_LENGTH + crypto.NONCE_LENGTH)
        return made[: crypto.KEY_LENGTH], made[crypto.KEY_LENGTH :]


def _kafka_key(kind: Kind, ids: bytes) -> bytes:
    return bytes((_VERSION, kind)) + ids


def _read_kafka_key(key: bytes | None) -> tuple[Kind, bytes]:
    if key is None or len(key) < 2:
        raise Unopenable(Reason.LENGTH)
    if key[0] != _VERSION:
        raise Unopenable(Reason.VERSION)
    kind = _KINDS.get(key[1])
    if kind is None:
        raise Unopenable(Reason.MODE)
    if len(key) != 2 + KID_LENGTH + (0 if kind is Kind.GENERATION else RECORD_ID_LENGTH):
        raise Unopenable(Reason.LENGTH)
    return kind, key[2:]


def _read_generation(kid: bytes, body: bytes) -> Generation:
    state = _STATES.get(body[1]) if len(body) > 1 else None
    if state is None:
        raise Unopenable(Reason.FLAGS)
    return Generation(kid, state, KeyBlock.decode(body[2:]))


def _read_place(data: bytes) -> tuple[bytes, str, bytes]:
    """The generation, the topic, and what is behind them."""
    start = KID_LENGTH + 2
    end = start + int.from_bytes(data[KID_LENGTH:start], "big")
    if len(data) < start or end == start or end > len(data):
        raise Unopenable(Reason.LENGTH)
    try:
        return data[:KID_LENGTH], data[start:end].decode(), data[end:]
    except UnicodeDecodeError:
        raise Unopenable(Reason.LENGTH) from None
