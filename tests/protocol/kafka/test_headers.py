"""The headers of requests and responses."""

from struct import pack

import pytest
from kio.schema.index import api_key_map

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.headers import RequestHeader, read_correlation_id, read_request_header
from tests.support.kio_instances import Kind, every_schema, header_of, versions_of


def test_of_every_request():
    for kind in every_schema():
        if kind.is_request:
            frame = header_of(kind.schema, correlation_id=-5, client_id="größe") + b"rest"
            assert read_request_header(frame) == RequestHeader(kind.api_key, kind.version, -5, "größe")


@pytest.mark.parametrize("api_key", [0, 3, 18])
def test_without_client_id(api_key):
    schema = Kind(api_key, versions_of(api_key)[-1], is_request=True).schema
    assert read_request_header(memoryview(header_of(schema, client_id=None))).client_id is None
    assert read_request_header(header_of(schema, client_id="")).client_id == ""


def test_cut_anywhere():
    frame = pack(">hhih", 3, 1, 9, 4) + b"name"
    assert read_request_header(frame) == (3, 1, 9, "name")
    for cut in range(len(frame)):
        with pytest.raises(FrameError):
            read_request_header(frame[:cut])


def test_a_client_id_that_is_no_text_is_read_all_the_same():
    assert read_request_header(pack(">hhih", 3, 1, 9, 2) + b"\xff\xfe").client_id == "\ufffd\ufffd"


@pytest.mark.parametrize("number", [0, 1, -1, 2**31 - 1, -(2**31)])
def test_correlation_id(number):
    frame = pack(">i", number) + b"rest"
    assert read_correlation_id(memoryview(frame)) == number
    for cut in range(4):
        with pytest.raises(FrameError):
            read_correlation_id(frame[:cut])


def test_kio_knows_the_apis():
    assert set(range(93)) <= set(api_key_map) | {4, 5, 6, 7}
