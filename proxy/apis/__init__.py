"""One module for each Kafka API that is rewritten, or few that are rewritten alike; `REWRITES` names them all."""

from types import MappingProxyType

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.api_versions import ApiVersions
from kveil.proxy.apis.endpoints import DescribeCluster, FindCoordinator, ShareAcknowledge
from kveil.proxy.apis.exchange import Exchange
from kveil.proxy.apis.fetch import Fetch
from kveil.proxy.apis.list_offsets import ListOffsets
from kveil.proxy.apis.listener_login import ListenerAuthenticate, ListenerHandshake
from kveil.proxy.apis.login import SaslAuthenticate, SaslHandshake
from kveil.proxy.apis.metadata import Metadata
from kveil.proxy.apis.produce import Produce
from kveil.proxy.apis.share_fetch import ShareFetch
from kveil.proxy.apis.topic_changes import AlterConfigs, CreateTopics, DeleteTopics
from kveil.proxy.apis.transactions import AddPartitionsToTxn, EndTxn
from kveil.proxy.context import Connection

REWRITES: MappingProxyType[int, type[Exchange]] = MappingProxyType(
    {
        ApiKey.PRODUCE: Produce,
        ApiKey.FETCH: Fetch,
        ApiKey.LIST_OFFSETS: ListOffsets,
        ApiKey.METADATA: Metadata,
        ApiKey.FIND_COORDINATOR: FindCoordinator,
        ApiKey.SASL_HANDSHAKE: SaslHandshake,
        ApiKey.API_VERSIONS: ApiVersions,
        ApiKey.CREATE_TOPICS: CreateTopics,
        ApiKey.DELETE_TOPICS: DeleteTopics,
        ApiKey.ALTER_CONFIGS: AlterConfigs,
        ApiKey.SASL_AUTHENTICATE: SaslAuthenticate,
        ApiKey.INCREMENTAL_ALTER_CONFIGS: AlterConfigs,
        ApiKey.ADD_PARTITIONS_TO_TXN: AddPartitionsToTxn,
        ApiKey.END_TXN: EndTxn,
        ApiKey.DESCRIBE_CLUSTER: DescribeCluster,
        ApiKey.SHARE_FETCH: ShareFetch,
        ApiKey.SHARE_ACKNOWLEDGE: ShareAcknowledge,
    }
)
"""The exchange of each API whose row in the API table says `rewrite`. A test holds both against each other."""

LISTENER_LOGIN: MappingProxyType[int, type[Exchange]] = MappingProxyType(
    {ApiKey.SASL_HANDSHAKE: ListenerHandshake, ApiKey.SASL_AUTHENTICATE: ListenerAuthenticate}
)
"""The exchanges that take the place of `REWRITES` where the listener asks for a login of its own."""


def exchange_type(api_key: int, connection: Connection) -> type[Exchange] | None:
    """Return the exchange of a request, None if it passes as it is.

    Here, and nowhere else, is decided who gets the client's SASL frames: the listener, or whoever is upstream.
    """
    if connection.listener_login is not None and api_key in LISTENER_LOGIN:
        return LISTENER_LOGIN[api_key]
    return REWRITES.get(api_key)
