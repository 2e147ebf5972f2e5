"""What the rewriting of a frame may have to wait for. Values: the shell decides how to get them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.sasl.server.scram import ScramCredential, ScramHash, is_password
from kveil.proxy.policy import Rule
from kveil.proxy.secret import Secret
from kveil.proxy.topics import TopicName


@dataclass(frozen=True, slots=True)
class TopicSettingsNeed:
    """The settings of a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class TopicNameNeed:
    """The name that a topic id stands for."""

    topic_id: bytes


@dataclass(frozen=True, slots=True, eq=False)
class AgreementNeed:
    """That all workers know topic ids by these names, before the client is told them. It is always met, though the
    ids may turn out to have other names.
    """

    client: object
    names: Sequence[TopicName]


@dataclass(frozen=True, slots=True)
class GiftNeed:
    """That the client was told a topic id, by way of another worker."""

    client: object
    topic_id: bytes


@dataclass(frozen=True, slots=True)
class MessageLimitNeed:
    """A `max.message.bytes` of the topic that leaves room for sealing."""

    topic: str
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class SealingKeyNeed:
    """An epoch key to seal a topic with."""

    topic: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class RecordKeysNeed:
    """Epoch keys of record keys, to seal a topic's records with."""

    topic: str
    rule: Rule
    record_ids: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpeningKeyNeed:
    """The epoch key that an envelope names, which was found in a partition."""

    topic: str
    partition: int
    kid: bytes
    block: KeyBlock
    rule: Rule


@dataclass(frozen=True, slots=True)
class HidingKeyNeed:
    """What hides the keys of a topic's records, and finds them again."""

    topic: str


@dataclass(frozen=True, slots=True)
class RecordsNeed:
    """Records of a partition for the proxy's own eyes, from an offset on: the first batch there, which is whole."""

    topic: str
    partition: int
    offset: int
    isolation_level: int
    max_bytes: int
    """How many bytes of further batches there may be."""


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """What meets a `RecordsNeed`."""

    start: int
    """The offset from which they were read: later than asked for if the log begins later."""
    end: int
    """Where what may be read at this isolation level ends: the last stable offset, or the high watermark.
    Negative if the broker doesn't say."""
    records: memoryview = field(repr=False)


@dataclass(slots=True, eq=False, kw_only=True)
class PasswordNeed:
    """Whether a password is a user's. It takes some 10 ms of a processor, by design, and so a thread of its own."""

    credential: ScramCredential
    password: Secret
    is_right: bool | None = None
    """None until it was checked."""

    def check(self) -> None:
        """Find out."""
        self.is_right = is_password(ScramHash.SHA_256, self.credential, self.password.reveal())


KeyNeed = SealingKeyNeed | RecordKeysNeed | OpeningKeyNeed | HidingKeyNeed
Need = (
    TopicSettingsNeed
    | TopicNameNeed
    | AgreementNeed
    | GiftNeed
    | MessageLimitNeed
    | KeyNeed
    | RecordsNeed
    | PasswordNeed
)
