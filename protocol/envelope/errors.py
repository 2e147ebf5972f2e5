"""What can be wrong with an envelope. Continues the tree of `protocol/kafka/errors.py`.

    EnvelopeError               root, code 2: a client sees CORRUPT_MESSAGE and one text, whatever the reason
    |-- NotSealed               no envelope there: a plain batch, which a rule may or may not allow
    `-- Unopenable              an envelope, or what should carry one, that must not be delivered; `reason` is
        |                       for the log
        `-- OtherMode           whole, but for the reader of another mode, which may be tried

Reasons are fixed texts and never hold anything that came from the broker. FORMAT.md, section 9, lists them;
the vectors name the one that each must fail with.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from kveil.protocol.kafka.errors import ProtocolError


class Reason(StrEnum):
    """Why something is unopenable, for logs and metrics."""

    BATCH = "batch malformed"
    OUTER_CODEC = "batch does not decompress"
    RECORD = "record 0 malformed"
    LENGTH = "length"
    VERSION = "version"
    MODE = "mode"
    OTHER_MODE = "sealed in another mode"
    SUITE = "suite"
    EXTENSIONS = "extensions malformed"
    EXTENSION_ORDER = "extensions out of order"
    EXTENSION_UNKNOWN = "unknown critical extension"
    KEY_BLOCK_MISSING = "no key block"
    KEY_BLOCK = "key block malformed"
    PROVIDER = "unknown provider"
    MECHANISM = "mechanism not allowed"
    COUNT = "count differs from the batch"
    PARTITION = "origin partition differs"
    KEY_LENGTH = "key length"
    KID = "kid does not match the key"
    OTHER_KEY = "sealed under another key"
    COMMITMENT = "commitment"
    TAG = "tag"
    WRAP_LENGTH = "wrap length"
    WRAP_TAG = "wrap tag"
    FLAGS = "unknown flag"
    PAD = "pad"
    ATTRIBUTES = "inner attributes"
    PRODUCER = "producer fields differ from the batch"
    INNER_COMPRESSION = "inner compression"
    RECORDS = "records malformed"
    MIXED = "some records are not sealed"
    OUT_OF_PLACE = "envelope out of place"
    INDEX = "index out of range"
    TIMESTAMP_TYPE = "timestamps are the broker's"
    KEY_HIDING_KEY = "another key-hiding key"
    INNER_RECORD = "inner record malformed"
    WIRE_KEY = "key differs from the one inside"
    SIGNATURE_SUITE = "signature suite"
    NO_SIGNATURE = "no signature"
    UNCHECKED = "signature can't be checked"
    SIGNATURE = "signature"
    NO_POSITION = "no stream position"


class EnvelopeError(ProtocolError):
    """Root of this part of the tree."""

    code: ClassVar[int] = 2


class NotSealed(EnvelopeError):
    """There is no envelope: what is there is plain."""


class Unopenable(EnvelopeError):
    """Refused, for `reason`; a `Reason`, or the text of whoever keeps the keys."""

    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OtherMode(Unopenable):
    """A batch of record mode met by the reader of batch mode, or the other way round."""

    def __init__(self) -> None:
        super().__init__(Reason.OTHER_MODE)
