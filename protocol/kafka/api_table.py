"""Every API of Kafka 4.3, what is done with it, and why. An API that has no row is refused.

Versions are the ones whose schemas kio knows: what the proxy can't read it doesn't let pass.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum

from kio.schema.index import api_key_map, schema_name_map
from kio.static.constants import EntityType


class Action(Enum):
    """What is done with the requests of an API and their responses."""

    FORWARD = "forward"
    """Both pass as the very same bytes."""
    REWRITE = "rewrite"
    """A module of `kveil.proxy.apis` reads them and may change them."""
    REFUSE = "refuse"
    """Clients never send it: the connection is closed."""


class ApiKey(IntEnum):
    """The APIs that code speaks of by name."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    INCREMENTAL_ALTER_CONFIGS = 44
    DESCRIBE_CLUSTER = 60
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One row."""

    key: int
    name: str
    action: Action
    reason: str
    min_version: int
    max_version: int


_F, _W, _R = Action.FORWARD, Action.REWRITE, Action.REFUSE

_ROWS: tuple[tuple[int, Action, str], ...] = (
    (0, _W, "record sets are sealed; answers carry NodeEndpoints"),
    (1, _W, "record sets are opened; answers carry NodeEndpoints"),
    (2, _W, "forwarded; offsets found by time are made exact"),
    (3, _W, "brokers' addresses; topic ids and names are learnt"),
    (4, _R, "between brokers: LeaderAndIsr"),
    (5, _R, "between brokers: StopReplica"),
    (6, _R, "between brokers: UpdateMetadata"),
    (7, _R, "between brokers: ControlledShutdown"),
    (8, _F, "offsets; their metadata stays in clear"),
    (9, _F, "offsets; their metadata stays in clear"),
    (10, _W, "the coordinator's address"),
    (11, _F, "group protocol"),
    (12, _F, "group protocol"),
    (13, _F, "group protocol"),
    (14, _F, "group protocol"),
    (15, _F, "group protocol; member hosts are clients'"),
    (16, _F, "group protocol"),
    (17, _W, "login: version 0 is followed by tokens without headers"),
    (18, _W, "the intersection of what both sides can"),
    (19, _W, "forwarded; the topics' settings are read anew"),
    (20, _W, "forwarded; the topics' settings are read anew"),
    (21, _F, "offsets stay"),
    (22, _F, "producer ids stay"),
    (23, _F, "offsets and epochs stay"),
    (24, _W, "forwarded; what belongs to a transaction is noted"),
    (25, _F, "transactions"),
    (26, _W, "forwarded; how a transaction ends is noted"),
    (27, _F, "transactions; an administrator's tool may abort with it"),
    (28, _F, "transactions"),
    (29, _F, "administration; hosts of ACLs are clients'"),
    (30, _F, "administration"),
    (31, _F, "administration"),
    (32, _F, "administration; advertised.listeners is the broker's own text"),
    (33, _W, "forwarded; the topics' settings are read anew"),
    (34, _F, "administration"),
    (35, _F, "administration"),
    (36, _W, "login: its end is noted; tokens pass"),
    (37, _F, "administration"),
    (38, _F, "delegation tokens pass"),
    (39, _F, "delegation tokens pass"),
    (40, _F, "delegation tokens pass"),
    (41, _F, "delegation tokens pass"),
    (42, _F, "administration"),
    (43, _F, "administration"),
    (44, _W, "forwarded; the topics' settings are read anew"),
    (45, _F, "administration"),
    (46, _F, "administration"),
    (47, _F, "administration"),
    (48, _F, "administration"),
    (49, _F, "administration"),
    (50, _F, "administration"),
    (51, _F, "administration; salted passwords pass and are never logged"),
    (52, _R, "between controllers: Vote"),
    (53, _R, "between controllers: BeginQuorumEpoch"),
    (54, _R, "between controllers: EndQuorumEpoch"),
    (55, _F, "administration; names the controllers' listeners, which are not brokers'"),
    (56, _R, "between brokers: AlterPartition"),
    (57, _F, "administration"),
    (58, _R, "between brokers: Envelope"),
    (59, _R, "between controllers: FetchSnapshot"),
    (60, _W, "brokers' addresses"),
    (61, _F, "administration"),
    (62, _R, "between brokers and controllers: BrokerRegistration"),
    (63, _R, "between brokers and controllers: BrokerHeartbeat"),
    (64, _F, "administration"),
    (65, _F, "administration"),
    (66, _F, "administration"),
    (67, _R, "between brokers and controllers: AllocateProducerIds"),
    (68, _F, "group protocol (KIP-848)"),
    (69, _F, "group protocol (KIP-848)"),
    (70, _R, "between controllers: ControllerRegistration"),
    (71, _F, "client telemetry (KIP-714)"),
    (72, _F, "client telemetry (KIP-714): no records in it"),
    (73, _R, "between brokers and controllers: AssignReplicasToDirs"),
    (74, _F, "administration"),
    (75, _F, "topics and partitions; holds node ids, no addresses"),
    (76, _F, "share groups (KIP-932)"),
    (77, _F, "share groups (KIP-932)"),
    (78, _W, "record sets are opened; answers carry NodeEndpoints"),
    (79, _W, "answers carry NodeEndpoints"),
    (80, _F, "administration"),
    (81, _F, "administration"),
    (82, _R, "between controllers: UpdateRaftVoter"),
    (83, _R, "between brokers: InitializeShareGroupState"),
    (84, _R, "between brokers: ReadShareGroupState"),
    (85, _R, "between brokers: WriteShareGroupState"),
    (86, _R, "between brokers: DeleteShareGroupState"),
    (87, _R, "between brokers: ReadShareGroupStateSummary"),
    (88, _F, "streams groups (KIP-1071); UserEndpoint is the application's own"),
    (89, _F, "streams groups (KIP-1071)"),
    (90, _F, "administration"),
    (91, _F, "administration"),
    (92, _F, "administration"),
)

FETCH_MIN_VERSION = 4
"""Below it a broker would down-convert sealed batches to older record formats."""

SASL_HANDSHAKE_MIN_VERSION = 1
"""Version 0 is followed by tokens without headers. It isn't advertised, but served."""


def _row(key: int, action: Action, reason: str) -> Api:
    if action is Action.REFUSE:
        return Api(
            key=key, name=reason.rpartition(": ")[2], action=action, reason=reason, min_version=0, max_version=-1
        )
    schemas = api_key_map[key]
    versions = [version for version, types in schema_name_map[schemas].items() if EntityType.request in types]
    name = "".join(word.capitalize() for word in schemas.split("_"))
    return Api(key=key, name=name, action=action, reason=reason, min_version=min(versions), max_version=max(versions))


API_TABLE: dict[int, Api] = {key: _row(key, action, reason) for key, action, reason in _ROWS}
