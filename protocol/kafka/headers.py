"""The headers of requests and responses.

A request begins with API key, version and correlation id; a response with the correlation id alone. Both may have
tagged fields (KIP-482), which the walkers of `splice` step over.
"""

from struct import Struct
from typing import NamedTuple

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.primitives import Buffer

_REQUEST = Struct(">hhih")
_CORRELATION_ID = Struct(">i")


class RequestHeader(NamedTuple):
    """The fixed part of a request's header, the same in all its versions."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def read_request_header(frame: Buffer) -> RequestHeader:
    """Read the header of a request.

    :raises FrameError: the frame is too short for one.
    """
    if len(frame) < _REQUEST.size:
        raise FrameError(f"a request of {len(frame)} bytes has no room for a header")
    api_key, api_version, correlation_id, length = _REQUEST.unpack_from(frame)
    if length < 0:
        return RequestHeader(api_key, api_version, correlation_id, None)
    client_id = frame[_REQUEST.size : _REQUEST.size + length]
    if len(client_id) < length:
        raise FrameError("a request ends inside its client id")
    return RequestHeader(api_key, api_version, correlation_id, str(client_id, "utf-8", "replace"))


def read_correlation_id(frame: Buffer) -> int:
    """Read the correlation id of a response.

    :raises FrameError: the frame is too short for one.
    """
    if len(frame) < _CORRELATION_ID.size:
        raise FrameError(f"a response of {len(frame)} bytes has no correlation id")
    correlation_id: int = _CORRELATION_ID.unpack_from(frame)[0]
    return correlation_id
