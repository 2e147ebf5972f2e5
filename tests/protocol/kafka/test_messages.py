"""Whole messages for the proxy's own requests and answers."""

from dataclasses import fields

import pytest
from kio.schema.index import api_key_map

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.headers import read_request_header
from kveil.protocol.kafka.messages import decode_response, encode_request, encode_response, encode_response_part
from kveil.protocol.kafka.splice import FrozenShape, request_walker, response_walker
from tests.support.kio_instances import Kind, decode_frame, every_schema, header_of, make, write_entity, write_frame_of

TOPIC_ID = bytes(range(16))
NEVER_MADE = {38, 39, 40, 82}
"""Their times and structs have no default, and the proxy makes none of them."""


@pytest.mark.parametrize("api_key", sorted(set(api_key_map) - NEVER_MADE), ids=api_key_map.get)
def test_defaults_of_every_version(api_key):
    shape = FrozenShape({})
    for kind in every_schema():
        if kind.api_key != api_key:
            continue
        if kind.is_request:
            frame = encode_request(api_key, kind.version, 7, "app", {})
            assert read_request_header(frame) == (api_key, kind.version, 7, "app")
            request_walker(api_key, kind.version, shape)(frame)
        else:
            frame = encode_response(api_key, kind.version, 7, {})
            response_walker(api_key, kind.version, shape)(frame)
        decode_frame(kind.schema, frame)


class TestEncoding:
    def test_without_a_client_id(self):
        frame = encode_request(3, 12, 7, None, {})
        assert frame.startswith(header_of(Kind(3, 12, is_request=True).schema, client_id=None))

    @pytest.mark.parametrize("version", range(14))
    def test_fields_that_a_version_lacks_are_left_out(self, version):
        values = {"topics": [{"name": "t", "topic_id": TOPIC_ID}], "allow_auto_topic_creation": False}
        request = decode_frame(Kind(3, version, is_request=True).schema, encode_request(3, version, 7, "app", values))
        assert request.topics[0].name == "t"
        if version >= 10:
            assert request.topics[0].topic_id.bytes == TOPIC_ID
        if version >= 4:
            assert request.allow_auto_topic_creation is False

    def test_nested_values(self):
        values = {
            "throttle_time": 250,
            "responses": [
                {"topic_id": TOPIC_ID, "partitions": [{"partition_index": 3, "error_code": 2, "records": b""}]}
            ],
            "node_endpoints": [{"node_id": 1, "host": "h", "port": 9, "rack": None}],
        }
        answer = decode_response(1, 17, encode_response(1, 17, 7, values))
        assert answer.throttle_time.total_seconds() == 0.25
        partition = answer.responses[0].partitions[0]
        assert (partition.partition_index, int(partition.error_code), partition.records) == (3, 2, b"")
        assert answer.node_endpoints[0].host == "h"

    def test_no_topic_id_is_all_zeros(self):
        frame = encode_response(1, 17, 7, {"responses": [{"topic_id": bytes(16), "partitions": []}]})
        assert decode_response(1, 17, frame).responses[0].topic_id is None

    @pytest.mark.parametrize("version", range(3, 14))
    def test_a_part_is_what_stands_in_the_whole(self, version):
        values = {"index": 5, "error_code": 87, "base_offset": -1, "error_message": "no"}
        part = encode_response_part(0, version, "responses.partition_responses", values)
        whole = encode_response(0, version, 7, {"responses": [{"name": "t", "partition_responses": [values]}]})
        assert part in whole
        decoded = decode_response(0, version, whole).responses[0].partition_responses[0]
        assert write_entity(decoded) == part


class TestDecoding:
    @pytest.mark.parametrize(("api_key", "version"), [(18, 0), (3, 12), (32, 4), (32, 1)])
    def test_an_answer(self, api_key, version):
        entity = make(Kind(api_key, version, is_request=False).schema, 0)
        frame = write_frame_of(entity)
        assert decode_response(api_key, version, memoryview(frame)) == entity
        for cut in range(len(frame)):
            with pytest.raises(FrameError):
                decode_response(api_key, version, frame[:cut])

    def test_what_kio_does_not_know_is_an_error(self):
        entity = make(Kind(32, 4, is_request=False).schema, 0)
        with pytest.raises(FrameError):
            decode_response(32, 4, write_frame_of(entity, unknown=[(900, b"new")]))
        assert fields(entity)
