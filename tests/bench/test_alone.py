"""The source and the sink of the benchmark: what goes through them is what the proxy sealed."""

import threading

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_response
from tests.bench import sink, source
from tests.support.proxy import kveil_proxy
from tests.support.scripted_broker import frame_of


class TestTheSink:
    @pytest.fixture
    def served(self):
        """A sink in this process, which shows what it holds."""
        here = sink.Sink()
        thread = threading.Thread(target=here.run)
        thread.start()
        yield here
        here.close()
        thread.join()

    def test_holds_what_the_proxy_sealed_and_gives_it_back(self, served, monkeypatch):
        monkeypatch.setattr(source.os, "urandom", lambda size: b"plaintext." * (size // 10))
        with kveil_proxy(f"127.0.0.1:{served.port}") as proxy:
            for operation in ("produce", "consume"):
                assert source.move(self.job(operation, proxy.port, "sealed"))["bytes"] == self.BYTES
        source.move(self.job("produce", served.port, "plain"))
        assert b"plaintext.plaintext." not in served.records["sealed"]
        assert b"plaintext.plaintext." in served.records["plain"]

    BYTES = 3 * source.BATCH_RECORDS * 100

    def job(self, operation, port, topic):
        return {
            "operation": operation,
            "port": port,
            "topic": topic,
            "record_bytes": 100,
            "payload_bytes": self.BYTES,
        }

    @pytest.mark.parametrize(
        ("operation", "api_key", "version", "values"),
        [
            (
                "produce",
                ApiKey.PRODUCE,
                sink.PRODUCE_VERSION,
                {"responses": [{"name": "t", "partition_responses": [{"index": 0, "error_code": 87}]}]},
            ),
            (
                "consume",
                ApiKey.FETCH,
                sink.FETCH_VERSION,
                {"responses": [{"topic": "t", "partitions": [{"partition_index": 0, "records": b"12345"}]}]},
            ),
        ],
    )
    def test_a_refusal_is_no_throughput(self, operation, api_key, version, values):
        answer = memoryview(frame_of(encode_response(api_key, version, 1, values)))
        with pytest.raises(RuntimeError, match=r"invalid_record|were fetched where 6 were expected"):
            source._check(operation, answer, 6)
