"""What the rewriting of a request may look at: what the process shares, and what belongs to one connection.

All look-ups are immediate. What is missing is named as a need (`kveil.proxy.needs`), and the shell sees to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kveil.protocol.envelope import registry
from kveil.protocol.kafka.api_table import API_TABLE
from kveil.protocol.kafka.framing import KeptBuffers
from kveil.protocol.kafka.headers import RequestHeader
from kveil.proxy.addresses import Brokers, Endpoint, LocalPlaces
from kveil.proxy.admin.audit import Cause
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.asking import Asking
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Direction, Settings
from kveil.proxy.keys.lanes import OwnLanes
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.keys.ring import KeyRing, KeySurvey
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.login import ClientSasl, Login, client_sasl
from kveil.proxy.needs import HidingKeyNeed, OpeningKeyNeed
from kveil.proxy.policy import OWN_PRINCIPAL, Policy, Use
from kveil.proxy.sequences import RefusedSequences
from kveil.proxy.topics import SettingsCache, TopicNames

if TYPE_CHECKING:  # what few need is loaded where it is used
    from kveil.proxy.keys.announced import AnnouncedKeys
    from kveil.proxy.tracing.spans import Tracer


_SHOWN = 100
"""Characters of a client's id that are worth a place in each of its log lines."""


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all connections of a process have in common.

    A reload puts other settings, another policy and perhaps another key ring in place: ask here each time, and keep
    none of them for longer than a step.
    """

    settings: Settings
    policy: Policy
    keys: KeyRing
    record_keys: RecordKeys | None = None
    """None where no rule gives record keys epoch keys of their own."""
    announced_keys: "AnnouncedKeys | None" = None
    """None where no rule names keys of identities."""
    brokers: Brokers
    topic_names: TopicNames
    topic_settings: SettingsCache
    awaited_keys: dict[str, OpeningKeyNeed | HidingKeyNeed] = field(default_factory=dict)
    """By topic: a key that could not be had when a share group's records needed it."""
    kept_buffers: KeptBuffers = field(default_factory=KeptBuffers)
    budget: BufferBudget
    metrics: Metrics = field(default_factory=Metrics)
    now: Callable[[], float]
    """A monotonic clock, in seconds."""
    unix_time: Callable[[], float]
    """The time of day, in seconds since 1970."""

    def __post_init__(self) -> None:
        self.connect_authority()

    def connect_authority(self) -> None:
        """Have the key ring take the key-hiding key of the realm's authority, where there is one."""
        if self.announced_keys is not None:
            self.keys.take_hiding_key_of(self.announced_keys.hiding_key)

    def keys_for(self, provider: int) -> "KeyRing | RecordKeys | AnnouncedKeys":
        """Who knows the epoch keys that envelopes have of a provider."""
        if provider == registry.KEY_TOPIC and self.record_keys is not None:
            return self.record_keys
        return self.sealing_keys(provider)

    def sealing_keys(self, provider: int) -> "KeyRing | AnnouncedKeys":
        """Who makes the epoch keys of a rule's provider."""
        if provider == registry.ANNOUNCED and self.announced_keys is not None:
            return self.announced_keys
        return self.keys

    @property
    def seals(self) -> bool:
        """Whether any listener takes what clients produce."""
        return any(listener.direction is not Direction.CONSUME for listener in self.settings.listeners)

    def survey_keys(self) -> KeySurvey:
        """What is held of epoch keys, whoever made them."""
        held = self.keys.survey()
        if self.announced_keys is None:
            return held
        more = self.announced_keys.survey()
        epochs = {**held.epochs, **more.epochs}
        return KeySurvey(epochs, opened=held.opened + more.opened, refused=held.refused + more.refused)


@dataclass(slots=True, kw_only=True)
class Connection:
    """What belongs to one client connection."""

    shared: Shared
    log: Any
    """A structlog logger that names the connection."""
    direction: Direction
    ports: LocalPlaces
    host: str
    """The host that the client is told for every broker."""
    node_id: int | None
    """The broker that the client's port stands for, None for the bootstrap port."""
    is_guest: bool = False
    """The port's broker wasn't known yet, and another one answers: login and look-ups only."""
    peer: str = ""
    """The client's host."""
    client_id: str | None = None
    listener_login: ListenerLogin | None = None
    """The login at the listener itself, None where it asks for none."""
    principal: str | None = None
    """Who the client is, proved to the proxy itself: a user's name, or its certificate's subject."""
    request: RequestHeader | None = None
    """The request that is worked on, or whose answer is."""
    granted: dict[Use, set[str]] = field(default_factory=lambda: {use: set() for use in Use})
    """Topics that this connection was seen to use, rightly so."""
    login: Login = field(default_factory=Login)
    versions: dict[int, tuple[int, int]] | None = None
    """What the broker offers, by API key: lowest and highest version. None until it was asked."""
    offers_produce_by_id: bool = False
    """The client was offered a Produce that gives topics' ids instead of their names."""
    refused: RefusedSequences = field(default_factory=RefusedSequences)
    node_moved: bool = False
    """An answer has named the broker of this port, and it isn't the one that is connected."""
    upstream: Endpoint | None = None
    """The broker that this connection reached."""
    asking: Asking = field(default_factory=Asking)
    lanes: OwnLanes = field(default_factory=OwnLanes)
    """Where its batches stand that carry stream positions."""
    tracer: "Tracer | None" = None
    """Who traces its requests, None where none are to be."""

    @property
    def client(self) -> object:
        """Who the client is, as far as can be told: the same for all connections of one application."""
        return (self.peer, self.client_id)

    @property
    def client_sasl(self) -> ClientSasl:
        """What becomes of the client's SASL frames."""
        return client_sasl(self.shared.settings.upstream)

    @property
    def is_authenticated(self) -> bool:
        """Whether the client may ask for more than a login."""
        return self.listener_login is None or self.listener_login.is_over

    @property
    def cause(self) -> Cause | None:
        """Who asked for what is decided now; None for the proxy itself."""
        return self.cause_of(self.request)

    def cause_of(self, request: RequestHeader | None) -> Cause | None:
        """The same for what one of its requests asked for."""
        if self.principal == OWN_PRINCIPAL:
            return None
        return Cause(
            principal=self.principal,
            client_id=self.client_id,
            address=self.peer,
            operation=None if request is None else API_TABLE[request.api_key].name,
            correlation_id=None if request is None else request.correlation_id,
        )

    def release_lanes(self) -> None:
        """Nothing more comes by this connection."""
        if self.shared.announced_keys is not None:
            self.shared.announced_keys.lanes.release(self.lanes)

    def authenticated(self, principal: str) -> None:
        """Take note of who the client has proved to be."""
        self.principal = principal
        self.log = self.log.bind(principal=principal)

    def called(self, client_id: str) -> None:
        """Take note of what the client calls itself."""
        self.client_id = client_id
        text = client_id[:_SHOWN]
        self.log = self.log.bind(client_id=text if text.isprintable() else repr(text))

    def local_endpoint(self, node_id: int, endpoint: Endpoint) -> Endpoint:
        """Take note of where a broker is, and return where this client finds it.

        :raises UnreachableNode: there is no local port for it.
        """
        host, port = self.ports.place_of(node_id)
        self.shared.brokers.learn(node_id, endpoint)
        if node_id == self.node_id and self.is_guest:
            self.is_guest = self.node_moved = endpoint != self.upstream
        return Endpoint(host or self.host, port)
