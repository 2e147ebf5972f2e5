"""Local ports, and brokers' addresses in every answer that carries one."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.addresses import Brokers, Endpoint, LocalHosts, LocalPorts, UnreachableNode
from kveil.proxy.errors import CloseConnection
from tests.support.conversation import BROKER_PORTS, PORT, read_response
from tests.support.kio_instances import Kind, decode_frame, make, versions_of, write_frame_of

NEWER = [(900, b"newer.broker.example:9092")]


class TestLocalPorts:
    def test_follow_the_bootstrap_port(self):
        ports = LocalPorts(5000, 3, {})
        assert [ports.port_of(node) for node in range(3)] == [5001, 5002, 5003]
        assert ports.all() == {5000: None, 5001: 0, 5002: 1, 5003: 2}

    def test_nodes_of_the_configuration_go_first(self):
        ports = LocalPorts(5000, 2, {1: 7001, 1001: 7002})
        assert [ports.port_of(node) for node in (0, 1, 1001)] == [5001, 7001, 7002]
        assert ports.all() == {5000: None, 5001: 0, 7001: 1, 7002: 1001}

    @pytest.mark.parametrize("node", [2, 1000, -1])
    def test_others_have_none_and_are_told_the_way_out(self, node):
        with pytest.raises(
            UnreachableNode, match=rf"node id {node}, .*0 to 1.*broker_ports.count.*nodes: {{{node}: PORT}}"
        ):
            LocalPorts(5000, 2, {}).port_of(node)


class TestLocalHosts:
    def test_follow_the_bootstrap_address(self):
        hosts = LocalHosts(Endpoint("127.0.0.1", 5000), 300, {})
        assert [hosts.place_of(node) for node in (0, 1, 253, 254)] == [
            ("127.0.0.2", 5000),
            ("127.0.0.3", 5000),
            ("127.0.0.255", 5000),
            ("127.0.1.0", 5000),
        ]

    def test_listen_from_the_start(self):
        hosts = LocalHosts(Endpoint("127.0.9.1", 5000), 2, {1001: 7002})
        assert list(hosts.places()) == [
            (None, 5000, None),
            ("127.0.9.2", 5000, 0),
            ("127.0.9.3", 5000, 1),
            (None, 7002, 1001),
        ]
        assert hosts.place_of(1001) == (None, 7002)

    @pytest.mark.parametrize("node", [2, 1000, -1])
    def test_others_have_none_and_are_told_the_way_out(self, node):
        with pytest.raises(UnreachableNode, match=r"broker_ports.count"):
            LocalHosts(Endpoint("127.0.0.1", 5000), 2, {}).place_of(node)

    def test_are_what_clients_are_told(self, converse):
        talk = converse()
        talk.connection.ports = LocalHosts(Endpoint("127.0.0.1", PORT), 10, {77: 7000})
        places = [talk.connection.local_endpoint(node, Endpoint("b", 9092)) for node in (3, 77)]
        assert places == [("127.0.0.5", PORT), ("127.0.0.1", 7000)]


def test_a_new_address_is_told_once():
    told = []
    brokers = Brokers(lambda node_id, endpoint: told.append((node_id, endpoint)))
    for port in (9092, 9092, 9093):
        brokers.learn(1, Endpoint("a", port))
    brokers.hear(2, Endpoint("b", 9092))  # who is told tells nobody
    brokers.learn(2, Endpoint("b", 9092))
    assert told == [(1, Endpoint("a", 9092)), (1, Endpoint("a", 9093))]
    assert brokers.all() == {1: Endpoint("a", 9093), 2: Endpoint("b", 9092)}


def test_brokers_move():
    brokers = Brokers()
    assert brokers.find(1) is None
    brokers.learn(1, Endpoint("a", 9092))
    brokers.learn(1, Endpoint("b", 9093))
    assert brokers.find(1) == Endpoint("b", 9093)
    assert (str(Endpoint("a", 1)), str(Endpoint("::1", 1))) == ("a:1", "[::1]:1")


CARRIERS = [
    *((ApiKey.METADATA, version) for version in versions_of(ApiKey.METADATA)),
    *((ApiKey.FIND_COORDINATOR, version) for version in versions_of(ApiKey.FIND_COORDINATOR)),
    *((ApiKey.DESCRIBE_CLUSTER, version) for version in versions_of(ApiKey.DESCRIBE_CLUSTER)),
    *((ApiKey.PRODUCE, version) for version in versions_of(ApiKey.PRODUCE) if version >= 10),
    *((ApiKey.FETCH, version) for version in versions_of(ApiKey.FETCH) if version >= 16),
    *((ApiKey.SHARE_FETCH, version) for version in versions_of(ApiKey.SHARE_FETCH)),
    *((ApiKey.SHARE_ACKNOWLEDGE, version) for version in versions_of(ApiKey.SHARE_ACKNOWLEDGE)),
]
LISTS = {
    ApiKey.METADATA: "brokers",
    ApiKey.DESCRIBE_CLUSTER: "brokers",
    ApiKey.FIND_COORDINATOR: "coordinators",
}
HOSTS = ["broker-0.example.net", "10.0.0.1", "x" * 200]


def answer_with(api_key, version, places, seed=0):
    """An answer with everything in it, and these (node id, host, port) as its addresses."""
    schema = Kind(api_key, version, is_request=False).schema
    entity = make(schema, seed)
    if api_key == ApiKey.FIND_COORDINATOR and version < 4:
        (node, host, port) = places[0]
        return make(schema, seed, node_id=node, host=host, port=port)
    name = LISTS.get(api_key, "node_endpoints")
    item = type(make(schema, 0).__getattribute__(name)[0])
    id_name = "broker_id" if api_key == ApiKey.DESCRIBE_CLUSTER else "node_id"
    listed = tuple(make(item, 0, **{id_name: node, "host": host, "port": port}) for node, host, port in places)
    more = {"responses": ()} if hasattr(entity, "responses") and api_key in (1, 78) else {}
    return make(schema, seed, **{name: listed}, **more)


def places_in(api_key, version, entity):
    if api_key == ApiKey.FIND_COORDINATOR and version < 4:
        return [(entity.node_id, entity.host, entity.port)]
    id_name = "broker_id" if api_key == ApiKey.DESCRIBE_CLUSTER else "node_id"
    return [(getattr(e, id_name), e.host, e.port) for e in getattr(entity, LISTS.get(api_key, "node_endpoints"))]


def ask(talk, api_key, version):
    values = {"topics": []} if api_key == ApiKey.METADATA else {"acks": -1} if api_key == ApiKey.PRODUCE else {}
    return talk.client(api_key, version, values, number=7)


@pytest.mark.parametrize(("api_key", "version"), CARRIERS, ids=lambda v: v.name if isinstance(v, ApiKey) else str(v))
class TestAnswers:
    def test_name_local_addresses(self, converse, api_key, version):
        places = [(node, host, 9092 + node) for node, host in enumerate(HOSTS)]
        for seed in (0, 1):
            talk = converse()
            ask(talk, api_key, version)
            entity = answer_with(api_key, version, places, seed)
            talk.broker_frame(write_frame_of(entity))
            (frame,) = talk.to_client
            found = read_response(api_key, version, frame)
            given = places_in(api_key, version, entity)
            local = [(node, "127.0.0.1", PORT + 1 + node) for node, _, _ in given]
            assert places_in(api_key, version, found) == local
            assert [talk.shared.brokers.find(node) for node, _, _ in given] == [(host, port) for _, host, port in given]
            assert found == answer_with(api_key, version, local, seed)

    def test_lose_what_a_newer_broker_put_in(self, converse, api_key, version):
        talk = converse()
        ask(talk, api_key, version)
        entity = answer_with(api_key, version, [(1, "b", 9092)])
        talk.broker_frame(write_frame_of(entity, unknown=NEWER))
        (frame,) = talk.to_client
        assert NEWER[0][1] not in frame
        assert decode_frame(type(entity), frame) == answer_with(api_key, version, [(1, "127.0.0.1", PORT + 2)])

    def test_close_the_connection_for_a_node_without_a_port(self, converse, api_key, version):
        talk = converse()
        ask(talk, api_key, version)
        with pytest.raises(CloseConnection, match=r"broker with node id 10, .*nodes: {10: PORT}"):
            talk.broker_frame(write_frame_of(answer_with(api_key, version, [(BROKER_PORTS, "b", 9092)])))
        assert talk.to_client == []

    def test_use_the_ports_of_the_configuration(self, converse, api_key, version):
        talk = converse(nodes={1001: 7001})
        ask(talk, api_key, version)
        talk.broker_frame(write_frame_of(answer_with(api_key, version, [(1001, "b", 9092)])))
        found = read_response(api_key, version, talk.to_client[0])
        assert places_in(api_key, version, found) == [(1001, "127.0.0.1", 7001)]

    def test_leave_nobody_alone(self, converse, api_key, version):
        """A coordinator that isn't there, say."""
        talk = converse()
        ask(talk, api_key, version)
        frame = write_frame_of(answer_with(api_key, version, [(-1, "", -1)]))
        talk.broker_frame(frame)
        assert talk.to_client == [frame]

    def test_give_no_way_around_the_proxy_under_no_id(self, converse, api_key, version):
        talk = converse()
        ask(talk, api_key, version)
        talk.broker_frame(write_frame_of(answer_with(api_key, version, [(-1, "broker.example.net", 9092)])))
        (frame,) = talk.to_client
        assert places_in(api_key, version, read_response(api_key, version, frame)) == [(-1, "", -1)]


def test_no_address_is_left_out():
    """Every schema that kio knows with a host and a port in its answer is rewritten, or left for a reason."""
    left = {
        55: "DescribeQuorum: controllers' listeners",
        88: "StreamsGroupHeartbeat: the application's own endpoint",
        89: "StreamsGroupDescribe: the same",
    }
    found = set()
    for api_key, version in ((k.api_key, k.version) for k in _responses()):
        if _has_port(Kind(api_key, version, is_request=False).schema) and api_key not in left:
            found.add((api_key, version))
    refused = {4, 5, 6, 7, *range(52, 60), 62, 63, 67, 70, 73, *range(82, 88)}
    assert {(key, version) for key, version in found if key not in refused} == {(int(k), v) for k, v in CARRIERS}


def _responses():
    from tests.support.kio_instances import every_schema

    return [kind for kind in every_schema() if not kind.is_request]


def _has_port(schema):
    from dataclasses import fields

    from kio.serial._introspect import EntityField, EntityTupleField, classify_field

    names = {field.name for field in fields(schema)}
    inner = [classify_field(field) for field in fields(schema)]
    return "port" in names or any(_has_port(k.type_) for k in inner if isinstance(k, EntityField | EntityTupleField))
