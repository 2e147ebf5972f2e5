"""The shape of the configuration. Every key has a default but the upstream address."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from kveil.proxy.config import limits
from kveil.proxy.config.audit import Audit
from kveil.proxy.config.choices import LogFormat, LogLevel, Preset
from kveil.proxy.config.fields import Address, AddressGroup, GroupName, Name, SkippedRange, SocketPath, list_or_commas
from kveil.proxy.config.identity import Identity
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.listeners import Listener, NodeId, Port
from kveil.proxy.config.section import Section as _Model
from kveil.proxy.config.topic_rules import TopicRule
from kveil.proxy.config.tracing import Tracing, is_installed
from kveil.proxy.config.upstream import Upstream
from kveil.proxy.config.values import HostPort

Seconds = Annotated[float, Field(gt=0, le=3600)]


class BrokerPorts(_Model):
    """The local ports of the brokers."""

    count: Annotated[int, Field(ge=1, le=limits.BROKER_PORTS_MOST)] = limits.BROKER_PORTS
    """How many broker ports listen from the start. The port of a broker is the bootstrap port + 1 + node id."""


class Limits(_Model):
    """Bounds. config/limits.py has the reason of each default."""

    frame_bytes: Annotated[int, Field(ge=limits.FRAME_BYTES_LEAST, le=limits.FRAME_BYTES_MOST)] = limits.FRAME_BYTES
    """Longest request or answer, in bytes. The default is the broker's own."""
    buffered_bytes: Annotated[int, Field(ge=limits.BUFFERED_BYTES_LEAST)] = limits.BUFFERED_BYTES
    """What frames over 1 MiB may take in memory, all connections together; of several workers, each has its part."""
    max_connections: Annotated[int, Field(ge=1)] = limits.MAX_CONNECTIONS
    """Client connections at a time."""
    connect_timeout_seconds: Seconds = limits.CONNECT_TIMEOUT_SECONDS
    """How long to try to reach a broker. Java clients give up after 10 s."""
    login_seconds: Seconds = limits.LOGIN_SECONDS
    """How long a client's TLS handshake may take at a listener, and its login there."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = limits.DRAIN_SECONDS
    """How long requests in flight may take at shutdown. `docker stop` kills after 10 s."""
    topic_settings_seconds: Annotated[float, Field(ge=limits.TOPIC_SETTINGS_SECONDS_LEAST, le=3600)] = (
        limits.TOPIC_SETTINGS_SECONDS
    )
    """How long a topic's settings are believed before they are read again."""
    epoch_key_hours: Annotated[float, Field(gt=0, le=limits.EPOCH_KEY_HOURS)] = limits.EPOCH_KEY_HOURS
    """How long one epoch key seals. It can be lowered, not raised."""
    opened_keys: Annotated[int, Field(ge=1)] = limits.OPENED_KEYS
    """Epoch keys that a reader keeps in memory, about 1 kB each. Of record keys' (`key_per`) as many again."""
    refused_key_seconds: Seconds = limits.REFUSED_KEY_SECONDS
    """How long a key that was refused is refused without another try."""
    record_keys: Annotated[int, Field(ge=1)] = limits.RECORD_KEYS
    """Epoch keys of record keys, of all topics with `key_per: record_key`. Each process keeps all of them in memory,
    wrapped, about 350 bytes each."""


class Log(_Model):
    """What is logged, and how it looks."""

    format: LogFormat = LogFormat.AUTO
    """`json`, `console`, or `auto`: console on a terminal, else JSON."""
    level: LogLevel = LogLevel.INFO
    """Least severe line that is written: `debug`, `info`, `warning`, `error`."""


class Admin(_Model):
    """Where the proxy tells of itself: metrics, health, a status page. Off without an address and a socket."""

    address: Address | None = None
    """Where the proxy tells of itself, on loopback only: health, metrics and a status page. `null` is
    off."""
    socket: SocketPath | None = None
    """A file where `kveil reload` and `kveil log-level` reach the proxy, for its own user and root alone."""

    @property
    def is_on(self) -> bool:
        """Whether there is anything to ask."""
        return self.address is not None or self.socket is not None

    @field_validator("address")
    @classmethod
    def _is_for_this_machine(cls, value: HostPort | None) -> HostPort | None:
        if value is not None and not value.is_loopback:
            msg = (
                f"{value} can be reached from other machines, and asks nobody who they are: use a loopback address "
                "such as 127.0.0.1 or [::1]"
            )
            raise ValueError(msg)
        return value


class Settings(_Model):
    """Everything that can be configured."""

    upstream: Upstream
    listeners: Annotated[tuple[Listener, ...], Field(min_length=1)] = (Listener(),)
    broker_ports: BrokerPorts = BrokerPorts()
    nodes: dict[NodeId, Port] = Field(default_factory=dict)
    """Ports of brokers whose id is not below `broker_ports.count`: `{id: port}`."""
    networks: dict[GroupName, AddressGroup] = Field(default_factory=dict)
    """Names for groups of networks, to be used in `allow`: `{office: [10.1.0.0/16, fd00:1::/32]}`."""
    realm: Name | None = None
    """Name of the deployment that the keys belong to. Without it, what the key file says; if given, it must be the
    same. With a key service and no file made by `kveil keys init`, it is needed."""
    keys: Keys = Field(default_factory=Keys)
    identity: Identity = Field(default_factory=Identity)
    """Where this node's own identity is, for keys of the provider `identities`."""
    topics: tuple[TopicRule, ...] = ()
    presets: Annotated[tuple[Preset, ...], list_or_commas] = ()
    """Topics left plain on purpose: `connect` (connect-configs, connect-offsets, connect-status), `schema-registry`
    (_schemas)."""
    skip: Annotated[tuple[SkippedRange, ...], list_or_commas] = ()
    """Records to step over because they don't open, audited: `topic/partition/from-to`, both offsets included."""
    workers: Annotated[int, Field(ge=1, le=limits.WORKERS_MOST)] = 1
    """How many processes serve clients, at most 64: one Kveil, several processors."""
    admin: Admin = Admin()
    audit: Audit = Audit()
    tracing: Annotated[Tracing | None, AfterValidator(is_installed)] = None
    """Traces by OpenTelemetry. `{}` turns them on, `null` is off. Needs `kveil[otel]`."""
    limits: Limits = Limits()
    log: Log = Log()

    def node_ports(self, listener: Listener) -> dict[int, int]:
        """The ports of the nodes beyond the range, for this listener: its own, else the common ones."""
        return dict(listener.nodes or self.nodes)
