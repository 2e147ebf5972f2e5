"""A broker that costs next to nothing: `python -m tests.bench.sink`, its port as a line of output.

It drops what is produced, and gives the last record set of a topic to whoever fetches: so what the proxy opens is what
it sealed itself, with its own keys. A thread for each connection, plain sockets, answers made once.
"""

import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.headers import read_request_header
from kveil.protocol.kafka.messages import encode_response
from tests.support.conversation import read_request
from tests.support.scripted_broker import Request, describe_configs, everything_offered, frame_of

BUFFER_BYTES = 4 * 1024 * 1024
PRODUCE_VERSION, FETCH_VERSION, METADATA_VERSION = 11, 12, 12
_SIZE = 4
_NUMBER_IN_REQUEST = slice(_SIZE + 4, _SIZE + 8)
_NUMBER_IN_ANSWER = slice(_SIZE, _SIZE + 4)


class Stream:
    """A socket, read frame by frame into one buffer."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._view = memoryview(bytearray(BUFFER_BYTES))

    def read_frame(self) -> memoryview:
        """The next frame with its size in front, valid until the next call."""
        self._fill(0, _SIZE)
        end = _SIZE + int.from_bytes(self._view[:_SIZE], "big")
        self._fill(_SIZE, end)
        return self._view[:end]

    def _fill(self, taken: int, end: int) -> None:
        while taken < end:
            count = self.socket.recv_into(self._view[taken:end])
            if not count:
                raise ConnectionError("closed by the other side")
            taken += count


class Sink:
    """Answers every connection."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.records: dict[str, bytes] = {}
        """The last record set of each topic that a connection began with."""

    def run(self) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                connected, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self, connected: socket.socket) -> None:
        prebuilt: dict[int, bytearray] = {}
        with connected, suppress(ConnectionError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(connected)
            while True:
                frame = stream.read_frame()
                api_key = int.from_bytes(frame[_SIZE : _SIZE + 2], "big")
                answer = prebuilt.get(api_key)
                if answer is None:
                    answer = bytearray(frame_of(self._answer(bytes(frame[_SIZE:]))))
                    if api_key in (ApiKey.PRODUCE, ApiKey.FETCH):
                        prebuilt[api_key] = answer
                else:
                    answer[_NUMBER_IN_ANSWER] = frame[_NUMBER_IN_REQUEST]
                connected.sendall(answer)

    def _answer(self, frame: bytes) -> bytes:
        header = read_request_header(frame)
        _, asked = read_request(frame)
        match header.api_key:
            case ApiKey.API_VERSIONS:
                values: Any = everything_offered()
            case ApiKey.DESCRIBE_CONFIGS:
                values = describe_configs(Request(header, frame, None))
            case ApiKey.METADATA:
                values = {"brokers": [{"node_id": 1, "host": "127.0.0.1", "port": self.port}], "cluster_id": "sink"}
            case ApiKey.PRODUCE:
                values = self._produced(asked)
            case ApiKey.FETCH:
                values = self._fetched(asked)
            case _:
                raise ConnectionError(f"API {header.api_key} isn't spoken here")
        return encode_response(header.api_key, header.api_version, header.correlation_id, values)

    def _produced(self, asked: Any) -> dict[str, Any]:
        responses = []
        for topic in asked.topic_data:
            self.records[topic.name] = bytes(topic.partition_data[0].records)
            rows = [{"index": each.index, "base_offset": 0} for each in topic.partition_data]
            responses.append({"name": topic.name, "partition_responses": rows})
        return {"responses": responses}

    def _fetched(self, asked: Any) -> dict[str, Any]:
        responses = []
        for topic in asked.topics:
            row = {"high_watermark": 1 << 40, "records": self.records[topic.topic]}
            rows = [{"partition_index": each.partition, **row} for each in topic.partitions]
            responses.append({"topic": topic.topic, "partitions": rows})
        return {"responses": responses}


if __name__ == "__main__":
    sink = Sink()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(sink.port, flush=True)
    sink.run()
