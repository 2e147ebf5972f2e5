"""From an epoch key to the key of one batch, and from a record's key to what stands for it (FORMAT.md, section 6).

An epoch key is 32 random bytes, one per process, topic and epoch. Each batch gets a key of its own from it
and a fresh 24-byte salt, so nonces never meet, and everything that a batch is bound to goes into that
derivation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from kveil.protocol.envelope import crypto, registry
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import (
    HIDING_KEY_ID_LENGTH,
    KID_LENGTH,
    SIGNATURE_EXTENSION,
    KeyBlock,
    encode_extensions,
    lp,
    position_extension,
    within_limit,
)
from kveil.protocol.envelope.position import Slot
from kveil.protocol.kafka.primitives import Buffer

EPOCH_KEY_LENGTH = 32
HIDING_KEY_LENGTH = 32
WIRE_KEY_LENGTH = 32

# Past these an epoch key is replaced: far below what the cipher allows, and what a thief of one key gets is
# bounded.
MAX_EPOCH_BATCHES = 2**32
MAX_EPOCH_BYTES = 32 * 2**40
MAX_EPOCH_SECONDS = 24 * 60 * 60

_KID = b"kveil/v1/kid\x00"
_BATCH = b"kveil/v1/batch\x00"
_RECORD = b"kveil/v1/record\x00"
_HIDDEN_KEY = b"kveil/v1/key\x00"
_HIDING_ID = b"kveil/v1/hiding-id\x00"
_SIGNATURE = b"kveil/v1/sig\x00"
_PARTITION = Struct(">i")
_NONCE_END = crypto.KEY_LENGTH + crypto.NONCE_LENGTH
_BATCH_LENGTH = _NONCE_END + 32


class BatchKeys(NamedTuple):
    """What one batch is sealed with. Never logged, never kept."""

    key: bytes
    nonce: bytes
    commitment: bytes

    def __repr__(self) -> str:
        return "BatchKeys(redacted)"


def new_epoch_key_secret() -> bytes:
    """32 bytes from the system's random source."""
    return os.urandom(EPOCH_KEY_LENGTH)


def derive_kid(secret: bytes, *, realm: str, topic: str, provider: int, producer_id: bytes = b"") -> bytes:
    """The 16-byte id of an epoch key. Raises Unopenable if the key is not 32 bytes long."""
    return _kid_and_check(secret, realm, topic, provider, producer_id)[:KID_LENGTH]


def derive_kid_check(secret: bytes, *, realm: str, topic: str, provider: int, producer_id: bytes = b"") -> bytes:
    """The 32-byte check value that an announcement gives beside the kid. Raises like `derive_kid`."""
    return _kid_and_check(secret, realm, topic, provider, producer_id)[KID_LENGTH:]


def _kid_and_check(secret: bytes, realm: str, topic: str, provider: int, producer_id: bytes) -> bytes:
    # HMAC pads a shorter key with zeros, so two lengths could share a kid.
    if len(secret) != EPOCH_KEY_LENGTH:
        raise Unopenable(Reason.KEY_LENGTH)
    info = _KID + _place(realm, topic) + bytes((provider,)) + lp(producer_id)
    return crypto.hkdf_expand(secret, info, KID_LENGTH + 32)


def derive_hiding_key_id(secret: bytes, *, realm: str) -> bytes:
    """The 16-byte id of a key-hiding key that a key service wraps. Raises Unopenable if it is not 32 bytes long."""
    if len(secret) != HIDING_KEY_LENGTH:
        raise Unopenable(Reason.KEY_LENGTH)
    if not realm:
        raise ValueError("realm must not be empty")
    return crypto.hkdf_expand(secret, _HIDING_ID + lp(realm.encode()), HIDING_KEY_ID_LENGTH)


def _place(realm: str, topic: str) -> bytes:
    if not realm or not topic:
        raise ValueError("realm and topic must not be empty")
    return lp(realm.encode()) + lp(topic.encode())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochKey:
    """An epoch key with what it is good for. Raises Unopenable if the kid is not the secret's.

    Of an announced key, `signing_key` is its producer's, who signs all that it seals; `verify_key` is the public half
    for everyone else; `demands_signature` and `demands_position` are what the announcement says that each envelope has.
    Raises ValueError if any other key has these.

    Equal only to itself: comparing secrets field by field would leak where they differ.
    """

    secret: bytes = field(repr=False)
    realm: str
    topic: str
    kid: bytes
    block: KeyBlock = field(repr=False)
    producer_id: bytes = b""
    signing_key: crypto.SigningKey | None = field(default=None, repr=False)
    verify_key: crypto.VerifyKey | None = field(default=None, repr=False)
    demands_signature: bool = False
    demands_position: bool = False
    # Whether envelopes under it need nothing but the key.
    is_plain: bool = field(init=False)
    # The same for every batch of the epoch, so made once.
    extensions: bytes = field(init=False, repr=False)
    _batch_info: bytes = field(init=False, repr=False)
    _record_info: bytes = field(init=False, repr=False)
    _expand: crypto.HkdfExpand = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kid = derive_kid(
            self.secret,
            realm=self.realm,
            topic=self.topic,
            provider=self.block.provider,
            producer_id=self.producer_id,
        )
        crypto.check_equal(self.kid, kid, Reason.KID)
        extensions = encode_extensions(self.block)
        if self.signing_key is not None:
            extensions += SIGNATURE_EXTENSION
            object.__setattr__(self, "verify_key", self.verify_key or self.signing_key.verify_key)
        object.__setattr__(self, "is_plain", not self._check_demands())
        object.__setattr__(self, "extensions", within_limit(extensions))
        place = _place(self.realm, self.topic)
        object.__setattr__(self, "_batch_info", _BATCH + place)
        object.__setattr__(self, "_record_info", _RECORD + place)
        object.__setattr__(self, "_expand", crypto.HkdfExpand(self.secret))

    def _check_demands(self) -> bool:
        """Whether more than the key itself is needed with it. Raises ValueError if that can't be."""
        has_more = self.verify_key is not None or self.demands_signature or self.demands_position
        if has_more and self.block.provider != registry.ANNOUNCED:
            raise ValueError("only announced keys have signatures and positions")
        if self.demands_signature and self.verify_key is None:
            raise ValueError("a signature is demanded that nothing is there to check with")
        return has_more

    def extensions_at(self, slot: Slot | None) -> bytes:
        """The extensions of a batch that is sealed at a position. Raises ValueError if the key doesn't seal so."""
        if self.signing_key is None and self.demands_signature:
            raise ValueError("only its producer seals with this key")
        if slot is None:
            if self.demands_position:
                raise ValueError("a batch without the position that is demanded")
            return self.extensions
        if self.block.provider != registry.ANNOUNCED:
            raise ValueError("only announced keys have signatures and positions")
        block, behind = self.extensions, b""
        if self.signing_key is not None:
            block, behind = self.extensions.removesuffix(SIGNATURE_EXTENSION), SIGNATURE_EXTENSION
        return within_limit(block + position_extension(slot.position) + behind)

    def sign(self, partition: int, digest: bytes) -> bytes:
        """The signature of an envelope by its SHA-256, for the producer alone."""
        if self.signing_key is None:
            raise ValueError("only its producer seals with this key")
        return self.signing_key.sign(self._signed(partition, digest))

    def check_signature(self, signature: Buffer, partition: int, digest: bytes) -> None:
        """Raises Unopenable unless `signature` is the producer's for this envelope."""
        if self.verify_key is None:
            raise Unopenable(Reason.UNCHECKED)
        self.verify_key.check(signature, self._signed(partition, digest), Reason.SIGNATURE)

    def _signed(self, partition: int, digest: bytes) -> bytes:
        return b"".join((_SIGNATURE, _place(self.realm, self.topic), _PARTITION.pack(partition), digest))

    def batch_keys(self, partition: int, header: bytes, extensions: bytes) -> BatchKeys:
        """Key, nonce and commitment of the batch whose envelope begins with `header` and `extensions`."""
        info = b"".join((self._batch_info, _PARTITION.pack(partition), header, extensions))
        made = self._expand(info, _BATCH_LENGTH)
        return BatchKeys(made[: crypto.KEY_LENGTH], made[crypto.KEY_LENGTH : _NONCE_END], made[_NONCE_END:])

    def record_cipher(self, partition: int, salt: bytes) -> crypto.RecordCipher:
        """What all records are sealed with that share `salt`."""
        suite = bytes((registry.HKDF_SHA512_AES_256_GCM,))
        info = b"".join((self._record_info, _PARTITION.pack(partition), suite, self.kid, salt))
        made = self._expand(info, _NONCE_END)
        return crypto.RecordCipher(made[: crypto.KEY_LENGTH], made[crypto.KEY_LENGTH :])


class WireKeys:
    """What records' keys have become lately, of all topics of a process. Keys repeat, and deriving one again takes a
    quarter of the time in which a small record is sealed.
    """

    MOST = 32_768  # about 10 MB
    LONGEST = 64  # bytes of a key; longer ones are rare, and would make that more

    def __init__(self) -> None:
        self._found: dict[tuple[object, bytes], bytes] = {}

    def over(self, derive: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """`derive`, asked only for what isn't remembered."""
        found, place = self._found, object()  # so that no two secrets or topics can share what was found

        def wire_key(key: bytes) -> bytes:
            at = place, key
            made = found.get(at)
            if made is None:
                made = derive(key)
                if len(key) <= self.LONGEST:
                    if len(found) >= self.MOST:
                        found.clear()  # to know which were used last would cost something at each look
                    found[at] = made
            return made

        return wire_key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyHidingKey:
    """What stands on the wire in place of records' keys: equal for equal keys, so compaction and order hold.

    `id` and `secret` are random, made together, and never change while there is data. Raises Unopenable if
    the secret is not 32 bytes long. `remembered` spares deriving keys that were seen lately.
    """

    id: bytes
    secret: bytes = field(repr=False)
    realm: str
    topic: str
    remembered: WireKeys | None = field(default=None, repr=False)
    # From a key to the 32 bytes that stand for it. A field, not a method: each further call takes a tenth of a us.
    wire_key: Callable[[bytes], bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != HIDING_KEY_LENGTH:
            raise Unopenable(Reason.KEY_LENGTH)
        if len(self.id) != HIDING_KEY_ID_LENGTH:
            raise ValueError(f"id of {len(self.id)} bytes")
        info_start = _HIDDEN_KEY + _place(self.realm, self.topic)
        expand = crypto.HkdfBlock(self.secret, info_start, WIRE_KEY_LENGTH).expand
        wire_key = expand if self.remembered is None else self.remembered.over(expand)
        object.__setattr__(self, "wire_key", wire_key)
