"""One topic, `t`, on two scripted brokers: what a command reads, batch by batch as the test lays it down."""

from collections.abc import Mapping

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import read_header
from tests.support.conversation import read_request
from tests.support.records import fetched
from tests.support.scripted_broker import ScriptedBroker

EARLIEST = -2
FAR_NODE = 70_000
"""Beyond every local port: a command needs none."""

Logs = dict[int, list[bytes]]


class ScriptedCluster:
    """Two brokers with a log for each partition. Partition 1 is the second broker's."""

    def __init__(self, first: ScriptedBroker, second: ScriptedBroker) -> None:
        self.brokers = first, second
        self.logs: Logs = {}
        self.ends: dict[int, int] = {}
        self.errors: dict[int, int] = {}
        self.batches_at_a_time = 2
        for broker in self.brokers:
            broker.answers[ApiKey.METADATA] = self.metadata
            broker.answers[ApiKey.LIST_OFFSETS] = self.offsets
            broker.answers[ApiKey.FETCH] = self.fetch

    def metadata(self, _request) -> Mapping[str, object]:
        places = [
            {"node_id": node, "host": "127.0.0.1", "port": broker.port}
            for node, broker in zip((0, FAR_NODE), self.brokers, strict=True)
        ]
        partitions = [
            {"partition_index": index, "leader_id": FAR_NODE if index == 1 else 0, "error_code": 0}
            for index in self.logs
        ]
        topics = [
            {"name": "t", "error_code": self.errors.get(-1, 0), "partitions": partitions},
            {"name": "__consumer_offsets", "is_internal": True},
        ]
        return {"brokers": places, "topics": topics[: 2 if not self.logs else 1]}

    def offsets(self, request) -> Mapping[str, object]:
        asked = read_request(request.frame)[1].topics[0].partitions[0]
        log = self.logs[asked.partition_index]
        first = read_header(log[0]).base_offset if log else 0
        end = self.ends.get(asked.partition_index, read_header(log[-1]).next_offset if log else 0)
        found = {"partition_index": asked.partition_index, "offset": first if asked.timestamp == EARLIEST else end}
        return {"topics": [{"name": "t", "partitions": [found]}]}

    def fetch(self, request) -> Mapping[str, object]:
        asked = read_request(request.frame)[1].topics[0].partitions[0]
        log = [one for one in self.logs[asked.partition] if read_header(one).last_offset >= asked.fetch_offset]
        answer = fetched({"t": {asked.partition: b"".join(log[: self.batches_at_a_time])}})
        answer["responses"][0]["partitions"][0]["error_code"] = self.errors.get(asked.partition, 0)
        return answer

    def answer_always(self, records: bytes) -> None:
        """Give these records for partition 0, wherever they are asked for."""
        for broker in self.brokers:
            broker.answers[ApiKey.FETCH] = fetched({"t": {0: records}})
