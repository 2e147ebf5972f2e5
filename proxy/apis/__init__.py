"""One module for each Kafka API that is rewritten, or few that are rewritten alike; `REWRITES` names them all."""

from types import MappingProxyType

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.api_versions import ApiVersions
from kveil.proxy.apis.endpoints import DescribeCluster, FindCoordinator, ShareAcknowledge
from kveil.proxy.apis.exchange import Exchange
from kveil.proxy.apis.fetch import Fetch
from kveil.proxy.apis.list_offsets import ListOffsets
from kveil.proxy.apis.login import SaslAuthenticate, SaslHandshake
from kveil.proxy.apis.metadata import Metadata
from kveil.proxy.apis.produce import Produce
from kveil.proxy.apis.share_fetch import ShareFetch
from kveil.proxy.apis.topic_changes import AlterConfigs, CreateTopics, DeleteTopics

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
        ApiKey.DESCRIBE_CLUSTER: DescribeCluster,
        ApiKey.SHARE_FETCH: ShareFetch,
        ApiKey.SHARE_ACKNOWLEDGE: ShareAcknowledge,
    }
)
"""The exchange of each API whose row in the API table says `rewrite`. A test holds both against each other."""
