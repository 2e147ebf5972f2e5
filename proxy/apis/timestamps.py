"""The check of records' timestamps, in the broker's place.

A sealed batch's stubs all carry its maximum, so a broker can't judge single records by
`message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` (KIP-937). The rules and their order are the ones
of its LogValidator; in record mode the timestamps are visible and the broker judges itself.
"""

from kveil.protocol.kafka.record_batch import NO_TIMESTAMP, BatchHeader
from kveil.protocol.kafka.record_timestamps import record_timestamps
from kveil.proxy.errors import ErrorCode, RecordError, Refused
from kveil.proxy.topics import TopicSettings

_NO_LIMIT_MS = 2**63 - 1
"""What a broker reports where any age will do."""

REASON = "one or more records have a timestamp that the topic's settings don't allow"


def check_timestamps(batch: memoryview, header: BatchHeader, settings: TopicSettings, now_ms: int) -> None:
    """Pass a client's batch that a broker would take. `now_ms` is the Unix time in milliseconds.

    :raises Refused: INVALID_TIMESTAMP, with every record that a broker would name.
    :raises BatchRefused: the records can't be read.
    """
    is_judged = settings.message_timestamp_type != "LogAppendTime"
    before = settings.message_timestamp_before_max_ms
    after = settings.message_timestamp_after_max_ms
    before = _NO_LIMIT_MS if before is None else before
    after = _NO_LIMIT_MS if after is None else after
    if not header.is_log_append_time and (
        not is_judged or (before >= _NO_LIMIT_MS and header.max_timestamp - now_ms <= after)
    ):
        return
    errors = []
    for index, (_, timestamp) in enumerate(record_timestamps(batch)):
        if is_judged and timestamp != NO_TIMESTAMP:
            if now_ms - timestamp > before or timestamp - now_ms > after:
                allowed = f"{now_ms - before} to {now_ms + after}"
                errors.append(RecordError(index, f"timestamp {timestamp} is not within {allowed}"))
        elif header.is_log_append_time:
            errors.append(RecordError(index, "the batch says LogAppendTime, which is for brokers to say"))
    if errors:
        raise Refused(ErrorCode.INVALID_TIMESTAMP, REASON, errors)
