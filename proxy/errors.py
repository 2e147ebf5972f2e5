"""What can go wrong on a connection, by what is done about it.

KveilError
├── CloseConnection   the client or the broker did what can't be served: the connection ends, one log line says why
│   └── LoginFailed    the proxy's own login at the cluster: the same, and the line is written already
├── QuestionFailed    the broker didn't answer a question of the proxy's own: the client is told to retry
└── Refused           one partition is refused; carries the Kafka error code and a sentence for the client
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple


class ErrorCode(IntEnum):
    """The Kafka error codes that the proxy sends, or acts on. kafka.common.protocol.Errors has them all."""

    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    MESSAGE_TOO_LARGE = 10
    NOT_ENOUGH_REPLICAS = 19
    TOPIC_AUTHORIZATION_FAILED = 29
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_SASL_MECHANISM = 33
    ILLEGAL_SASL_STATE = 34
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    KAFKA_STORAGE_ERROR = 56
    SASL_AUTHENTICATION_FAILED = 58
    UNKNOWN_PRODUCER_ID = 59
    UNSUPPORTED_COMPRESSION_TYPE = 76
    INVALID_RECORD = 87
    UNKNOWN_TOPIC_ID = 100
    SHARE_SESSION_NOT_FOUND = 122


class KveilError(Exception):
    """Any of them."""


class CloseConnection(KveilError):
    """The connection can't go on."""


class LoginFailed(CloseConnection):
    """The proxy could not log in to the cluster. The text holds no secret."""


class QuestionFailed(KveilError):
    """A question of the proxy's own has no answer now."""


class RecordError(NamedTuple):
    """Why one record made its batch be refused (KIP-467)."""

    batch_index: int
    reason: str


class Refused(KveilError):
    """One partition of a request or an answer is refused."""

    def __init__(self, code: ErrorCode, reason: str, record_errors: Sequence[RecordError] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.record_errors = record_errors
