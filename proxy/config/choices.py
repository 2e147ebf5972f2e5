"""The words that a setting may take."""

from enum import StrEnum


class Direction(StrEnum):
    """What the clients of a listener may do with records."""

    BOTH = "both"
    PRODUCE = "produce"  # seals, and hands no opened record out
    CONSUME = "consume"  # opens, and refuses Produce


class Seal(StrEnum):
    """How much of a record is sealed."""

    BATCH = "batch"  # everything
    NONE = "none"  # plain on purpose


class Mode(StrEnum):
    """How a topic's records are sealed."""

    AUTO = "auto"  # as the topic's cleanup.policy asks
    BATCH = "batch"  # pinned: never asks for the topic's settings


class StubCodec(StrEnum):
    """Whether the stubs of a sealed batch are compressed."""

    AUTO = "auto"
    NONE = "none"  # for brokers that don't speak zstd


class Preset(StrEnum):
    """A name for topics that a well-known program leaves plain on purpose."""

    CONNECT = "connect"
    SCHEMA_REGISTRY = "schema-registry"


class Mechanism(StrEnum):
    """How the proxy logs in to the cluster."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"  # tokens of an authorization server, by client credentials
    AWS_MSK_IAM = "AWS_MSK_IAM"  # tokens signed with this host's AWS credentials

    @property
    def has_token(self) -> bool:
        """Whether a token is sent, as OAUTHBEARER."""
        return self in {Mechanism.OAUTHBEARER, Mechanism.AWS_MSK_IAM}


class LogFormat(StrEnum):
    """How a log line looks."""

    AUTO = "auto"  # console on a terminal, else JSON
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe line that is still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
