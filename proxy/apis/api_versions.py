"""ApiVersions: the client is offered what both the broker and the proxy can do (KIP-35, KIP-511)."""

from collections.abc import Sequence
from struct import Struct

from kveil.protocol.kafka.api_table import API_TABLE, SASL_HANDSHAKE_MIN_VERSION, Action, Api, ApiKey
from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.primitives import Buffer, write_array_length
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, splice
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome
from kveil.proxy.errors import ErrorCode

_RANGE = Struct(">hhh")
_ERROR_CODE = slice(4, 6)
"""Every version has the error code directly behind the correlation id, and a header of version 0 (KIP-511)."""

_OWN_LOGIN = {ApiKey.SASL_HANDSHAKE: (SASL_HANDSHAKE_MIN_VERSION, 1), ApiKey.SASL_AUTHENTICATE: (0, 2)}
"""Versions that a listener with a login of its own serves, whatever the broker can."""

_PRODUCE_BY_NAME = 12
"""The last version of Produce that names topics instead of giving their ids."""


class ApiVersions(Exchange):
    """What both sides can do."""

    RESPONSE = FrozenShape(
        {
            "api_keys#": Want.SPAN,
            "api_keys": {"@": Want.SPAN, "api_key": Want.VALUE, "min_version": Want.VALUE, "max_version": Want.VALUE},
        }
    )

    def request(self) -> Outcome:
        """Answer a version that the proxy doesn't speak as brokers do: error 35 in a body of version 0."""
        row = API_TABLE[ApiKey.API_VERSIONS]
        if row.min_version <= self.header.api_version <= row.max_version:
            return Forward()
        return Answer(frame=self._unsupported(row.min_version, row.max_version))

    def _unsupported(self, least: int, most: int) -> bytes:
        own = {"api_key": ApiKey.API_VERSIONS, "min_version": least, "max_version": most}
        values = {"error_code": ErrorCode.UNSUPPORTED_VERSION, "api_keys": [own]}
        return encode_response(ApiKey.API_VERSIONS, 0, self.header.correlation_id, values)

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the intersection; an error passes as it is, since its body is of version 0."""
        if any(frame[_ERROR_CODE]):
            return None if _is_version_0(frame) else [self._unsupported(0, 0)]
        walker = self.response_walker
        (count_span, rows), sections = walker(frame)
        self.connection.versions = {key: (low, high) for _, key, low, high in rows}
        own = _OWN_LOGIN if self.connection.listener_login is not None else {}
        kept: list[Buffer] = []
        for key, versions in own.items():
            kept += [_RANGE.pack(key, *versions), b"\0" if walker.flexible else b""]
        for (start, end), key, low, high in rows:
            offered = None if key in own else self._offered(API_TABLE.get(key), low, high)
            if offered:
                kept += [_RANGE.pack(key, *offered), bytes(frame[start + _RANGE.size : end])]
        count = write_array_length(len(kept) // 2, compact=walker.flexible)
        array_end = rows[-1][0][1] if rows else count_span[1]
        return splice(frame, [Edit(count_span[0], array_end, [count, *kept])], sections)

    def _offered(self, row: Api | None, low: int, high: int) -> tuple[int, int] | None:
        """Return the versions to offer of an API, None for none."""
        if row is None or row.action is Action.REFUSE:
            return None
        least, most = max(low, row.min_version), min(high, row.max_version)
        if row.key == ApiKey.PRODUCE:
            if low == 0:
                least = 0  # old librdkafka looks for it; versions 0 to 2 are refused when they come
            if self.connection.shared.policy.any_plain:
                # By id, a broker could call a sealed topic by a plain one's name and be sent plaintext.
                most = min(most, _PRODUCE_BY_NAME)
            self.connection.offers_produce_by_id = most > _PRODUCE_BY_NAME
        elif row.key == ApiKey.SASL_HANDSHAKE:
            least = max(least, SASL_HANDSHAKE_MIN_VERSION)
        return (least, most) if least <= most else None


def _is_version_0(frame: memoryview) -> bool:
    """Return whether an answer has the length of a version 0.

    The error 35 of librdkafka's mock cluster has not: in its body Java reads a throttle time of 20 minutes.
    """
    count = int.from_bytes(frame[_ERROR_CODE.stop : _ERROR_CODE.stop + 4], "big")
    return len(frame) == _ERROR_CODE.stop + 4 + count * _RANGE.size
