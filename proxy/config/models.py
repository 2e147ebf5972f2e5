"""The shape of the configuration. Every key has a default but the upstream address."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from kveil.proxy.config import limits
from kveil.proxy.config.choices import (
    Compress,
    Erased,
    Fit,
    KeyPer,
    LogFormat,
    LogLevel,
    Mechanism,
    Mode,
    Preset,
    RecordKeys,
    Seal,
    StubCodec,
    Timestamps,
)
from kveil.proxy.config.fields import (
    Address,
    AddressGroup,
    Extensions,
    GroupName,
    KeyReference,
    Name,
    NameOrReference,
    Pattern,
    Principal,
    ProxyAddress,
    ReadableFile,
    Reference,
    Region,
    SkippedRange,
    TokenUrl,
    Topic,
    list_or_commas,
    none_if_passthrough,
    null_as_text,
)
from kveil.proxy.config.identity import Identity
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.listeners import Listener, NodeId, Port
from kveil.proxy.config.logins import check_key, check_mechanism
from kveil.proxy.config.section import Section as _Model
from kveil.proxy.config.values import MAX_OFFSET, MAX_PARTITION, ForwardProxy, HostPort, is_glob

Seconds = Annotated[float, Field(gt=0, le=3600)]
PartitionIndex = Annotated[int, Field(ge=0, le=MAX_PARTITION)]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET)]


class BrokerPorts(_Model):
    """The local ports of the brokers."""

    count: Annotated[int, Field(ge=1, le=limits.BROKER_PORTS_MOST)] = limits.BROKER_PORTS


class UpstreamTls(_Model):
    """TLS to the cluster. Without `ca` the system's roots are trusted; the host name is always checked."""

    ca: ReadableFile | None = None
    cert: ReadableFile | None = None
    key: ReadableFile | None = None
    key_password: Reference | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"

    @field_validator("key", "key_password")
    @classmethod
    def _belongs_to_a_certificate(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("cert", "unknown") is None:
            msg = "has no use without upstream.tls.cert, the client certificate"
            raise ValueError(msg)
        return value


class UpstreamSasl(_Model):
    """The proxy's own login at the cluster."""

    model_config = ConfigDict(validate_default=True)  # so that a key that the mechanism needs is missed at its place

    mechanism: Annotated[Mechanism, AfterValidator(check_mechanism)]
    username: NameOrReference | None = None
    password: Reference | None = None
    token_endpoint: TokenUrl | None = None
    client_id: NameOrReference | None = None
    client_secret: Reference | None = None
    scope: str | None = None
    ca: ReadableFile | None = None
    extensions: Extensions = Field(default_factory=dict)
    region: Region | None = None

    @field_validator(
        "username", "password", "token_endpoint", "client_id", "client_secret", "scope", "ca", "extensions", "region"
    )
    @classmethod
    def _belongs_to_the_mechanism(cls, value: object, info: ValidationInfo) -> object:
        if "mechanism" in info.data and info.field_name:
            check_key(info.data["mechanism"], info.field_name, given=bool(value))
        return value


class Upstream(_Model):
    """The real cluster. Without `sasl` the clients' own logins pass through."""

    bootstrap: Annotated[tuple[Address, ...], list_or_commas, Field(min_length=1)]
    tls: UpstreamTls | None = None
    sasl: Annotated[UpstreamSasl | None, none_if_passthrough] = None
    proxy: ProxyAddress | None = None
    proxy_password: Reference | None = None

    @field_validator("proxy_password")
    @classmethod
    def _belongs_to_a_user(cls, value: object, info: ValidationInfo) -> object:
        proxy = info.data.get("proxy", "unknown")
        if value is not None and (proxy is None or (isinstance(proxy, ForwardProxy) and proxy.username is None)):
            msg = "has no use without a user: write upstream.proxy as http://user@host:port or socks5://user@host:port"
            raise ValueError(msg)
        return value


class SealedAs(_Model):
    """Where the records of a mirrored topic were sealed."""

    topic: Topic
    partition: Literal["same", "any"] = "same"


class TopicRule(_Model):
    """What holds for the topics whose name matches. The first rule that matches decides."""

    match: Pattern
    seal: Seal = Seal.BATCH
    mode: Mode = Mode.AUTO
    key: KeyReference | None = None
    accept_keys: Annotated[tuple[KeyReference, ...], list_or_commas] = ()
    accept_plain: bool = False
    plain_before: dict[PartitionIndex, Offset] = Field(default_factory=dict)
    stub_codec: StubCodec = StubCodec.AUTO
    compress: Compress = Compress.NONE
    fit: Fit = Fit.COMPRESS
    raise_message_limit: bool = False
    keys: RecordKeys = RecordKeys.HIDDEN
    key_per: KeyPer = KeyPer.TOPIC
    erased: Annotated[Erased, null_as_text] = Erased.ERROR
    timestamps: Timestamps = Timestamps.TOPIC
    pass_headers: Annotated[tuple[str, ...], list_or_commas] = ()
    origin_partition: bool = False
    sealed_as: SealedAs | None = None
    producers: tuple[Principal, ...] | None = None
    consumers: tuple[Principal, ...] | None = None

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
        "sealed_as",
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


class Limits(_Model):
    """Bounds. config/limits.py has the reason of each default."""

    frame_bytes: Annotated[int, Field(ge=limits.FRAME_BYTES_LEAST, le=limits.FRAME_BYTES_MOST)] = limits.FRAME_BYTES
    buffered_bytes: Annotated[int, Field(ge=limits.BUFFERED_BYTES_LEAST)] = limits.BUFFERED_BYTES
    max_connections: Annotated[int, Field(ge=1)] = limits.MAX_CONNECTIONS
    connect_timeout_seconds: Seconds = limits.CONNECT_TIMEOUT_SECONDS
    login_seconds: Seconds = limits.LOGIN_SECONDS
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = limits.DRAIN_SECONDS
    topic_settings_seconds: Annotated[float, Field(ge=limits.TOPIC_SETTINGS_SECONDS_LEAST, le=3600)] = (
        limits.TOPIC_SETTINGS_SECONDS
    )
    epoch_key_hours: Annotated[float, Field(gt=0, le=limits.EPOCH_KEY_HOURS)] = limits.EPOCH_KEY_HOURS
    opened_keys: Annotated[int, Field(ge=1)] = limits.OPENED_KEYS
    refused_key_seconds: Seconds = limits.REFUSED_KEY_SECONDS
    record_keys: Annotated[int, Field(ge=1)] = limits.RECORD_KEYS


class Log(_Model):
    """What is logged, and how it looks."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO


class Admin(_Model):
    """Where the proxy tells of itself: metrics, health, a status page. Off without an address."""

    address: Address | None = None

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
    networks: dict[GroupName, AddressGroup] = Field(default_factory=dict)
    realm: Name | None = None
    keys: Keys = Field(default_factory=Keys)
    identity: Identity = Field(default_factory=Identity)
    topics: tuple[TopicRule, ...] = ()
    presets: Annotated[tuple[Preset, ...], list_or_commas] = ()
    skip: Annotated[tuple[SkippedRange, ...], list_or_commas] = ()
    workers: Annotated[int, Field(ge=1, le=limits.WORKERS_MOST)] = 1
    admin: Admin = Admin()
    limits: Limits = Limits()
    log: Log = Log()

    def node_ports(self, listener: Listener) -> dict[int, int]:
        """The ports of the nodes beyond the range, for this listener: its own, else the common ones."""
        return dict(listener.nodes or self.nodes)
