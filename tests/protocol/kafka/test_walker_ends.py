"""Bytes behind the end of a message: refused in a request, left to the client in a response."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.protocol.kafka.splice import FrozenShape, Want, request_walker, response_walker, splice

BROKERS = FrozenShape({"brokers": {"node_id": Want.VALUE}})
NOTHING = FrozenShape({})


@pytest.mark.parametrize("surplus", [b"\0", b"surplus"])
def test_a_request(surplus):
    frame = encode_request(ApiKey.METADATA, 12, 1, "c", {"topics": []})
    request_walker(ApiKey.METADATA, 12, NOTHING)(frame)
    with pytest.raises(FrameError, match="ends at byte"):
        request_walker(ApiKey.METADATA, 12, NOTHING)(frame + surplus)


@pytest.mark.parametrize("version", [8, 12])
@pytest.mark.parametrize("surplus", [b"\0", b"surplus"])
def test_a_response(version, surplus):
    values = {"brokers": [{"node_id": 3, "host": "h", "port": 1}], "cluster_id": "c", "topics": []}
    frame = encode_response(ApiKey.METADATA, version, 1, values) + surplus
    walked = response_walker(ApiKey.METADATA, version, BROKERS, drop_unknown=True)(frame)
    assert walked.values == ([(3,)],)
    assert b"".join(splice(frame, [], walked.sections)) == frame


def test_a_response_that_is_cut():
    frame = encode_response(ApiKey.METADATA, 12, 1, {"cluster_id": "c", "topics": [], "brokers": []})
    for end in range(4, len(frame)):
        with pytest.raises(FrameError):
            response_walker(ApiKey.METADATA, 12, NOTHING)(frame[:end])
