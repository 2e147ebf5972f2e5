"""What there is to say of a canary that came back, and of the broker's clock: pure."""

from dataclasses import dataclass
from typing import Final

from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, OtherMode
from kveil.protocol.envelope.sealed_batch import peek
from kveil.protocol.envelope.sealed_records import peek_records
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED, decompress
from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, MAGIC, BatchHeader, read_header
from kveil.proxy.doctor.findings import Finding, failure, ok, skipped, warning
from kveil.proxy.keys.usage import Usage
from kveil.proxy.net.own_topic import records_of
from kveil.proxy.policy import SERVICES, Policy

CANARY: Final = "canary"
STORED: Final = "stored"
CLOCK: Final = "clock"
KEY: Final = b"kveil-doctor"
"""Always the same, so that a compacted topic keeps one canary."""

WARN_SECONDS: Final = 10.0
"""More than clocks differ that are set by NTP."""
FAIL_SECONDS: Final = 300.0
"""AWS refuses what was signed by a clock that differs so much, and others refuse tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """One record as it was sent, as the broker holds it, and as a consumer gets it."""

    topic: str
    value: bytes
    offset: int
    stored: bytes
    opened: bytes
    """Batches; empty where there is none."""
    sent_at: float
    answered_at: float
    """This host's time around the broker's answer, in seconds since 1970."""


def judge(canary: Canary, policy: Policy) -> list[Finding]:
    """Say whether the canary came back, whether the broker can read it, and what time the broker has."""
    return [_judge_opened(canary), _judge_stored(canary, policy), _judge_clock(canary)]


def _judge_opened(canary: Canary) -> Finding:
    try:
        records = {offset: (key, value) for offset, key, value in records_of(canary.opened)}
    except BatchRefused as error:
        return failure(CANARY, f"{canary.topic}: what came back is no batch: {error}", "see docs/troubleshooting.md")
    if records.get(canary.offset) != (KEY, canary.value):
        text = f"{canary.topic}: what came back at offset {canary.offset} isn't what was produced"
        return failure(CANARY, text, "see whether the rules and keys of this configuration are the right ones")
    milliseconds = round((canary.answered_at - canary.sent_at) * 1000)
    text = f"{canary.topic}: a record was sealed, produced in {milliseconds} ms, fetched and opened"
    return ok(CANARY, text)


def _judge_stored(canary: Canary, policy: Policy) -> Finding:
    rule = policy.rule_for(canary.topic)
    if not canary.stored:
        return failure(STORED, f"the broker has nothing at offset {canary.offset}", "see what deletes records there")
    header = read_header(canary.stored)
    seen = canary.stored + _section(canary.stored, header)
    if not rule.seal:
        text = f"{canary.topic} is plain by its rule ({policy.matched_by(canary.topic)}): the broker can read it"
        return warning(STORED, text, "name a topic that is sealed, or change the rule")
    if canary.value in seen:
        return failure(STORED, "the broker holds the record in plaintext", "stop producing, and report it as a fault")
    usage = Usage()
    usage.add(0, memoryview(canary.stored))
    mode = _mode(canary.stored, header)
    if mode is None or not usage.keys:
        return failure(STORED, "what the broker holds is no envelope", "see whether something changes records there")
    if KEY in seen and (mode == "batch" or rule.hide_keys):
        return failure(STORED, "the broker holds the key in plaintext", "stop producing, and report it as a fault")
    (key, *_) = usage.keys
    version = f" version {key.version}" if key.version else ""
    hidden = "neither key nor value is" if KEY not in seen else "the value is not, and the key is by its rule"
    text = f"{len(canary.stored)} bytes, magic {header.magic}, an envelope in {mode} mode under"
    return ok(STORED, f"{text} {SERVICES[key.provider]}:{key.name}{version}; {hidden} in it")


def _section(batch: bytes, header: BatchHeader) -> bytes:
    """Return the records as they are without the batch's own compression."""
    if header.magic != MAGIC or not header.codec:
        return b""
    try:
        return bytes(decompress(header.codec, batch[HEADER_LENGTH:], MAX_DECOMPRESSED))
    except BatchRefused:
        return b""


def _mode(batch: bytes, header: BatchHeader) -> str | None:
    view = memoryview(batch)
    try:
        peek(view, header)
    except (OtherMode, NotSealed):
        try:
            peek_records(view, header)
        except (EnvelopeError, BatchRefused):
            return None
        return "record"
    except (EnvelopeError, BatchRefused):
        return None
    return "batch"


def _judge_clock(canary: Canary) -> Finding:
    header = read_header(canary.stored) if canary.stored else None
    if header is None or not header.is_log_append_time:
        text = "the broker's clock doesn't show: only topics with message.timestamp.type LogAppendTime have its time"
        return skipped(CLOCK, text, "leave --canary out: a temporary topic is such a one")
    return judge_skew(header.max_timestamp / 1000, canary.sent_at, canary.answered_at)


def judge_skew(broker_time: float, sent_at: float, answered_at: float) -> Finding:
    """Compare the broker's time with this host's, between which two times it was taken."""
    skew = max(sent_at - broker_time, broker_time - answered_at, 0.0)
    if skew < WARN_SECONDS:
        return ok(CLOCK, f"the broker's and this host's agree within {max(skew, answered_at - sent_at):.1f} s")
    ahead = "ahead of" if broker_time > answered_at else "behind"
    text = f"the broker's is {skew:.0f} s {ahead} this host's"
    remedy = "set both by NTP: certificates, tokens, retention and timestamps are judged by them"
    return (failure if skew >= FAIL_SECONDS else warning)(CLOCK, text, remedy)
