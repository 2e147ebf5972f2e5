"""The words that a setting may take."""

from enum import StrEnum


class Direction(StrEnum):
    """What the clients of a listener may do with records."""

    BOTH = "both"
    PRODUCE = "produce"  # seals, and hands no opened record out
    CONSUME = "consume"  # opens, and refuses Produce


class Addressing(StrEnum):
    """Where the clients of a listener find each broker."""

    PORTS = "ports"  # on the listener's host, each on a port of its own
    LOOPBACK = "loopback"  # on the listener's port, each at a loopback address of its own


class SaslMechanism(StrEnum):
    """How a client logs in at a listener."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class KeyService(StrEnum):
    """Who keeps key-encryption keys. Each has a section of this name below `keys`, but for `keyfile`: keys.path, and
    for `identities`, which have none: epoch keys are wrapped for each reader. Theirs is the section `identity`.
    """

    KEYFILE = "keyfile"
    VAULT = "vault"  # HashiCorp Vault's or OpenBao's transit
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    PKCS11 = "pkcs11"
    IDENTITIES = "identities"
    MODULE = "module"  # the class that keys.provider names


class Seal(StrEnum):
    """How much of a record is sealed."""

    BATCH = "batch"  # everything
    NONE = "none"  # plain on purpose


class Mode(StrEnum):
    """How a topic's records are sealed."""

    AUTO = "auto"  # as the topic's cleanup.policy asks
    BATCH = "batch"  # pinned, whatever the topic's settings are
    RECORD = "record"  # pinned too


class Compress(StrEnum):
    """Whether the proxy compresses what a client sent uncompressed."""

    NONE = "none"
    ZSTD = "zstd"


class Fit(StrEnum):
    """What happens to a batch that is over the topic's limit once sealed, and wasn't before."""

    COMPRESS = "compress"  # its records, so that it fits
    REFUSE = "refuse"  # a broker that sets the limit must not choose what is compressed


class Gaps(StrEnum):
    """What becomes of batches behind which others of their producer are missing."""

    ALARM = "alarm"  # delivered, and told
    REFUSE = "refuse"  # told, and not delivered


class RecordKeys(StrEnum):
    """What record mode shows of records' keys."""

    HIDDEN = "hidden"  # a keyed hash: equal keys stay equal
    CLEAR = "clear"


class KeyPer(StrEnum):
    """What gets an epoch key of its own."""

    TOPIC = "topic"
    RECORD_KEY = "record_key"  # so that one can be erased, and its records with it


class Erased(StrEnum):
    """What a consumer gets of a record whose record key was erased."""

    ERROR = "error"
    NULL = "null"  # a null value, and a header that says why


class Timestamps(StrEnum):
    """Whose timestamps record mode delivers."""

    TOPIC = "topic"  # as the topic's message.timestamp.type says
    CREATE = "create"  # the producer's alone: a broker's are refused


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
