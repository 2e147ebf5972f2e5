"""The shape of a rule: what holds for which topics."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kveil.proxy.config.choices import (
    Compress,
    Erased,
    Fit,
    Gaps,
    KeyPer,
    Mode,
    RecordKeys,
    Seal,
    StubCodec,
    Timestamps,
)
from kveil.proxy.config.fields import KeyReference, Name, Pattern, Principal, Topic, list_or_commas, null_as_text
from kveil.proxy.config.section import Section
from kveil.proxy.config.values import MAX_OFFSET, MAX_PARTITION, is_glob

PartitionIndex = Annotated[int, Field(ge=0, le=MAX_PARTITION)]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET)]


class SealedAs(Section):
    """Where the records of a mirrored topic were sealed."""

    topic: Topic
    """The name of the topic that the records were sealed for."""
    partition: Literal["same", "any"] = "same"
    """`any` takes the partition that the envelope names (`origin_partition`) in the place of the one that it was found
    in."""


class TopicRule(Section):
    """What holds for the topics whose name matches. The first rule that matches decides."""

    match: Pattern
    """Which topics: a glob (`*`, `?`, `[abc]`, `[!abc]`) over the whole name, case-sensitive. The first rule that
    matches decides."""
    seal: Seal = Seal.BATCH
    """`batch` seals everything; `none` leaves the topic plain, on purpose."""
    mode: Mode = Mode.AUTO
    """`auto` reads the topic's `cleanup.policy`: `record` for compacted topics and where it can't be read, else
    `batch`. `batch` and `record` pin the mode."""
    key: KeyReference | None = None
    """The key that seals: its name, where `{topic}` stands for the topic's name, or `provider:name` if it isn't that of
    `keys.provider`. Without it, `keys.default`."""
    accept_keys: Annotated[tuple[KeyReference, ...], list_or_commas] = ()
    """Further keys that open, written as `key`: retired ones, for example. `key` always opens."""
    accept_plain: bool = False
    """Whether plain records in the topic are handed to consumers."""
    plain_before: dict[PartitionIndex, Offset] = Field(default_factory=dict)
    """For a topic that is sealed from some point on: by partition, the offset before which plain batches are handed to
    consumers, as `{0: 1200, 1: 1180}`. From there on plain is refused, and so is a batch that spans the offset. `kveil
    migrate --mark TOPIC` prints it. The rule must name one topic."""
    stub_codec: StubCodec = StubCodec.AUTO
    """`auto` compresses the stubs of larger batches by zstd; `none` is for brokers that don't speak it."""
    compress: Compress = Compress.NONE
    """`zstd` compresses, before sealing, what the client sent uncompressed. A compressed length tells something of the
    content."""
    fit: Fit = Fit.COMPRESS
    """What happens to a batch that only sealing takes over the topic's `max.message.bytes`: `compress` makes it fit if
    compressing can; `refuse` answers MESSAGE_TOO_LARGE."""
    raise_message_limit: bool = False
    """Raises the topic's `max.message.bytes`, with the client's rights, by the room that sealing needs, when a batch
    comes near it. `kveil prepare` does it by hand."""
    keys: RecordKeys = RecordKeys.HIDDEN
    """What record mode shows of records' keys: `hidden` is a keyed hash, equal for equal keys; `clear` shows them."""
    key_per: KeyPer = KeyPer.TOPIC
    """What has an epoch key of its own. `record_key`: every record key, so that one can be erased, and its records with
    it. Needs `mode: record`, and a `key` that no other rule uses."""
    erased: Annotated[Erased, null_as_text] = Erased.ERROR
    """With `key_per: record_key`, what consumers get of a record whose record key was erased: `error` as for what
    doesn't open; `null` a null value, with the header `kveil-erased`."""
    timestamps: Timestamps = Timestamps.TOPIC
    """Whose timestamps record mode delivers: `topic` as the topic's `message.timestamp.type` says; `create` refuses the
    broker's."""
    pass_headers: Annotated[tuple[str, ...], list_or_commas] = ()
    """Names of record headers that may be added outside (by a replicator, say) and are delivered in record mode,
    unprotected."""
    origin_partition: bool = False
    """Writes the partition into each envelope, so that a mirror with other partitions can be read by `sealed_as`."""
    sign: bool = True
    """With `identities`: whether the producer signs what it seals, if its realm signs at all. Unsigned, a consumer that
    holds the topic's keys could write as its producer. In record mode each record is signed: 40 us to seal and 115 us
    to open beside what it takes anyway."""
    gaps: Gaps = Gaps.ALARM
    """With `identities`: what becomes of batches behind which others of their producer are missing: `alarm` delivers
    them, and tells; `refuse` doesn't deliver them either. What comes again, or in another order, is always refused."""
    sealed_as: SealedAs | None = None
    """For a mirrored topic: where its records were sealed."""
    producers: tuple[Principal, ...] | None = None
    """Principals that may produce, as a list. Without it, everybody. Holds for plain topics too."""
    consumers: tuple[Principal, ...] | None = None
    """Principals that may consume, as a list. Without it, everybody. Holds for plain topics too."""
    sealed_by: Annotated[tuple[Name, ...], list_or_commas, Field(min_length=1)] | None = None
    """Names of identities whose records are opened, as a list; records of others are refused. Without it, of all that
    were granted the topic. Only where all keys of the rule are those of identities."""

    @field_validator(
        "mode",
        "key",
        "accept_keys",
        "accept_plain",
        "plain_before",
        "stub_codec",
        "compress",
        "fit",
        "raise_message_limit",
        "keys",
        "key_per",
        "erased",
        "timestamps",
        "pass_headers",
        "origin_partition",
        "sign",
        "gaps",
        "sealed_as",
        "sealed_by",
    )
    @classmethod
    def _only_when_sealed(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("seal") is Seal.NONE:
            msg = "has no meaning with seal: none; remove one of the two"
            raise ValueError(msg)
        return value

    @field_validator("plain_before")
    @classmethod
    def _is_of_one_topic(cls, value: dict[int, int], info: ValidationInfo) -> dict[int, int]:
        if value and info.data.get("accept_plain"):
            msg = "has no meaning with accept_plain: true, which lets all plain records through; remove one of the two"
            raise ValueError(msg)
        if value and is_glob(info.data.get("match", "")):
            msg = "names offsets of one topic: its rule's match must be that topic's name, without a pattern"
            raise ValueError(msg)
        return value
