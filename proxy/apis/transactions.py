"""AddPartitionsToTxn and EndTxn: both pass, and how a transaction ends is noted for those who read its batches."""

from collections.abc import Sequence

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import FrozenShape, Want
from kveil.proxy.apis.exchange import Exchange, Forward, Outcome
from kveil.proxy.keys.transactions import Producer, Transaction, Transactions


class _Noted(Exchange):
    """Passes as it is."""

    @property
    def _transactions(self) -> Transactions | None:
        keys = self.connection.shared.announced_keys
        return None if keys is None else keys.transactions


class AddPartitionsToTxn(_Noted):
    """Partitions of a transaction. From version 4 on it is between brokers."""

    REQUEST = FrozenShape(
        {
            "v3_and_below_producer_id": Want.VALUE,
            "v3_and_below_producer_epoch": Want.VALUE,
        }
    )
    RESPONSE = FrozenShape(
        {
            "results_by_topic_v3_and_below": {
                "name": Want.VALUE,
                "results_by_partition": {"partition_index": Want.VALUE, "partition_error_code": Want.VALUE},
            }
        }
    )

    _producer: Producer | None = None

    def request(self) -> Outcome:
        """Forward it."""
        if self._transactions is not None:
            (producer_id, epoch), _ = self.walk_request()
            self._producer = None if producer_id is None else (producer_id, epoch)
        return Forward()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Note what was added."""
        transactions, producer = self._transactions, self._producer
        if transactions is None or producer is None:
            return None
        (topics,), _ = self.response_walker(frame)
        results = [(name, index, error) for name, partitions in topics or () for index, error in partitions or ()]
        if error := next((error for _, _, error in results if error), 0):
            transactions.not_added(producer, error)
        else:
            transactions.added(self.connection.lanes, producer, [(name, index) for name, index, _ in results])
        return None


class EndTxn(_Noted):
    """The end of a transaction."""

    REQUEST = FrozenShape({"producer_id": Want.VALUE, "producer_epoch": Want.VALUE, "committed": Want.VALUE})
    RESPONSE = FrozenShape({"error_code": Want.VALUE})

    _asked: tuple[Transaction, Producer] | None = None

    def request(self) -> Outcome:
        """Forward it. What is acknowledged from now on may belong to another one."""
        transactions = self._transactions
        if transactions is not None:
            (producer_id, epoch, commit), _ = self.walk_request()
            producer, version = (producer_id, epoch), self.header.api_version
            found = transactions.ending(self.connection.lanes, producer, version, commit=bool(commit))
            self._asked = None if found is None else (found, producer)
        return Forward()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Note whether it has ended so."""
        if self._asked is not None and self._transactions is not None:
            (error,), _ = self.response_walker(frame)
            self._transactions.ended(*self._asked, error)
        return None
