"""Produced batches that carry stream positions: their places, and what the broker's answer says of them."""

from typing import NamedTuple

from kveil.protocol.envelope.position import Slot
from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import BatchHeader
from kveil.protocol.kafka.splice import FrozenShape, Want, response_walker
from kveil.proxy.apis.sealing import Sealing
from kveil.proxy.context import Connection
from kveil.proxy.keys.lanes import Lanes, Placed, Writer, digest_of
from kveil.proxy.keys.transactions import LanePlace, Transaction

_SETTLED = FrozenShape(
    {
        "responses": {
            "name": Want.VALUE,
            "topic_id": Want.VALUE,
            "partition_responses": {"index": Want.VALUE, "error_code": Want.VALUE, "base_offset": Want.VALUE},
        }
    }
)
_ALL_REPLICAS = -1


class Awaited(NamedTuple):
    """What is to be done once the broker has answered for a batch."""

    placed: Placed | None
    """Settle it, where it is vouched for."""
    transaction: Transaction | None
    """Note it as part of this one, if it was stored."""
    place: LanePlace
    batch: int


PlacedBatches = dict[tuple[str | bytes, int], Awaited]
"""By topic, as the request has it, and partition: what the answer settles."""


class Placing:
    """The place of one batch, while it is sealed."""

    def __init__(
        self,
        sealing: Sealing,
        connection: Connection,
        *,
        topic: str | bytes,
        partition: int,
        acks: int,
        produce_version: int,
    ) -> None:
        if connection.shared.announced_keys is None:
            raise AssertionError("positions are of announced keys")
        self.placed: Awaited | None = None
        """What the answer is to settle, once it is sealed."""
        self._lanes: Lanes = connection.shared.announced_keys.lanes
        self._transactions = connection.shared.announced_keys.transactions
        self._topic = sealing.topic
        self._produce_version = produce_version
        self._connection = connection
        self._kid = sealing.key.kid
        self._where = connection.shared.topic_names.id_of(sealing.topic) or topic, partition, sealing.mode
        self._acks = acks
        self._header: BatchHeader
        self._writer: Writer
        self._digest = b""

    def again(self, batch: memoryview, header: BatchHeader) -> list[Buffer] | None:
        """Find the lane of a checked batch, and return what it was sealed to before, if it was."""
        self._header = header
        self._writer = self._lanes.writer(self._kid, self._where, header, self._connection.lanes)
        if header.producer_id < 0:
            return None
        self._digest = digest_of(batch)  # before it is sealed, which writes over it
        pieces = self._lanes.again(self._writer, header, self._digest)
        if pieces is not None:
            self._lanes.goes_on(self._writer, self._where, header, self._connection.lanes, now=self._now)
        return None if pieces is None else list(pieces)

    def next(self) -> Slot:
        """Return where it is sealed."""
        return self._writer.lane.next(self._header.record_count)

    def sealed(self, slot: Slot, pieces: list[Buffer]) -> None:
        """Take note that it is sealed there, to these pieces, and leaves."""
        self._lanes.keep(self._writer, slot, self._header, self._digest, pieces)
        placed = self._lanes.sealed(
            self._writer,
            slot,
            self._where,
            self._header,
            self._connection.lanes,
            now=self._now,
            all_replicas=self._acks == _ALL_REPLICAS,
        )
        transaction = self._transaction()
        if placed is not None or transaction is not None:
            place = LanePlace(self._kid, self._writer.partition, self._writer.lane.number)
            self.placed = Awaited(placed, transaction, place, slot.position.batch)

    def _transaction(self) -> Transaction | None:
        header = self._header
        if not header.is_transactional or self._acks != _ALL_REPLICAS:
            return None
        producer, place = (header.producer_id, header.producer_epoch), (self._topic, self._writer.partition)
        return self._transactions.of_batch(producer, place, self._produce_version)

    @property
    def _now(self) -> float:
        return self._connection.shared.now()


def settle(placed: PlacedBatches, request: RequestHeader, frame: memoryview) -> None:
    """Tell lanes what the broker's answer says of their batches."""
    (topics,), _ = response_walker(request.api_key, request.api_version, _SETTLED)(frame)
    answered = {
        (topic_id or name, index): offset if not error and offset >= 0 else None
        for name, topic_id, partitions in topics or ()
        for index, error, offset in partitions or ()
    }
    for where, (vouched, transaction, place, batch) in placed.items():
        offset = answered.get(where)
        if vouched is not None:
            vouched.writer.settle(vouched.batch, offset)
        if transaction is not None and offset is not None:
            transaction.stored(place, batch)
