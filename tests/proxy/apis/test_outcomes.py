"""Transactions through two proxies: how they ended, what a broker says of that, and what only looks like a lie."""

import asyncio

import pytest

from kveil.protocol.envelope.stream import Kind
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import TRANSACTIONAL, read_header, split_batches
from kveil.proxy.errors import ErrorCode
from tests.support.announced import TOPIC
from tests.support.conversation import read_response
from tests.support.fetching import FETCH
from tests.support.producing import PRODUCE, broker_answers, sent
from tests.support.records import at_offset, client_batch, fetched, marker, produced
from tests.support.told import Log, Member

CORRUPT = (ErrorCode.CORRUPT_MESSAGE, b"")
CONCURRENT, FENCED, NOT_COORDINATOR = 51, 90, 16
PRODUCER = 7
OLD, NEW = (9, 3), (12, 5)
"""Versions of Produce and EndTxn: before KIP-890 and since."""

VERSIONS = pytest.mark.parametrize("versions", [OLD, NEW], ids=["KIP-98", "KIP-890"])
COMMITTED = pytest.mark.parametrize("committed", [True, False], ids=["committed", "aborted"])


class Client:
    """A transactional client, whose requests reach honest brokers."""

    def __init__(self, log: Log, shop: Member, versions: tuple[int, int] = OLD) -> None:
        self.log, self.shop = log, shop
        self.produce_version, self.end_version = versions
        self.talk, self.coordinator = shop.talk, shop.client()
        self.epoch = self.sequence = 0

    def _ask(self, api: ApiKey, version: int, values: dict[str, object], answer: dict[str, object] | None) -> None:
        number = self.coordinator.client(api, version, values)
        assert self.coordinator.to_broker
        if answer is not None:
            self.coordinator.broker(api, version, number, answer)
            assert self.coordinator.to_client

    def add(self, error: int = 0) -> None:
        """Begin one, or have another partition in it."""
        if self.end_version >= 5:
            return
        mine = {"transactional_id": "t", "producer_id": PRODUCER, "producer_epoch": self.epoch}
        asked = {f"v3_and_below_{name}": value for name, value in mine.items()}
        topics = [{"name": TOPIC, "partitions": [0]}]
        results = [{"partition_index": 0, "partition_error_code": error}]
        told = {"results_by_topic_v3_and_below": [{"name": TOPIC, "results_by_partition": results}]}
        self._ask(ApiKey.ADD_PARTITIONS_TO_TXN, 3, {**asked, "v3_and_below_topics": topics}, told)

    def send(self) -> tuple[int, bytes]:
        fields = {"producer_id": PRODUCER, "producer_epoch": self.epoch, "base_sequence": self.sequence}
        batch = client_batch(1, attributes=TRANSACTIONAL, **fields)
        self.sequence += 1
        values = produced({TOPIC: {0: batch}})
        number = self.talk.client(PRODUCE, self.produce_version, values)
        (stored,) = sent(self.talk).values()
        return number, stored

    def answer(self, number: int, base: int, error: int = 0) -> None:
        told = {"error_code": error, "base_offset": base}
        broker_answers(self.talk, self.produce_version, number, {TOPIC: {0: told}})
        assert self.talk.to_client

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            number, stored = self.send()
            self.answer(number, self.log.append(stored))

    def end(self, *, commit: bool, error: int | None = 0, mark: bool = True) -> None:
        """`error` is None where no answer comes. `mark`: the coordinator writes its marker."""
        asked = {"transactional_id": "t", "producer_id": PRODUCER, "producer_epoch": self.epoch, "committed": commit}
        told = None if error is None else {"error_code": error, "producer_id": PRODUCER, "producer_epoch": 0}
        self._ask(ApiKey.END_TXN, self.end_version, asked, told)
        if mark:
            self.log.append(marker(commit=commit))
        if self.end_version >= 5:
            self.epoch, self.sequence = self.epoch + 1, 0

    def run(self, *, commit: bool, count: int = 3) -> None:
        """A whole one."""
        self.add()
        self.write(count)
        self.end(commit=commit)


def read(log, billing, offset=0, *, aborted=(), committed=True):
    """What a client gets that asks for committed records, or for all, if the broker names these as aborted."""
    records = b"".join(batch for batch in log.batches if read_header(batch).next_offset > offset)
    asked = {"topic": TOPIC, "partitions": [{"partition": 0, "fetch_offset": offset}]}
    values = {"topics": [asked], "session_epoch": -1, "isolation_level": int(committed)}
    number = billing.talk.client(FETCH, 12, values)
    assert billing.talk.to_broker
    told = fetched({TOPIC: {0: records}})
    entries = [{"producer_id": PRODUCER, "first_offset": first} for first in aborted]
    told["responses"][0]["partitions"][0]["aborted_transactions"] = entries if committed else None
    billing.talk.broker(FETCH, 12, number, told)
    (frame,) = billing.talk.to_client
    (part,) = read_response(FETCH, 12, frame).responses[0].partitions
    return int(part.error_code), part.records


def offsets(found):
    code, records = found
    assert code == 0
    return [read_header(view).base_offset for view in split_batches(records)]


def tell(shop, world):
    asyncio.run(shop.process.keys.tell())
    world.deliver()


def alarms(member):
    return dict(member.process.keys.streams.alarms)


def with_marker(log, at, *, commit):
    """The broker has the other marker at an offset."""
    other = Log()
    for batch in log.batches:
        other.append(marker(commit=commit) if read_header(batch).base_offset == at else batch)
    return other


class TestAnAnswerThatContradictsItself:
    """Refused before anything of it is delivered, whoever the producer is and whatever it says."""

    def test_a_committed_transaction_that_the_list_has_as_aborted(self, log, shop, billing, audited):
        Client(log, shop).run(commit=True)
        assert read(log, billing, aborted=[0]) == CORRUPT
        assert alarms(billing) == {Kind.OUTCOME: 1}
        (told,) = [event for event in audited if event["type"].endswith("stream.alarm")]
        assert (told["data"]["kind"], told["data"]["producer"]) == ("outcome", "shop")
        assert offsets(read(log, billing)) == [0, 1, 2, 3], "as soon as the broker is honest"

    def test_an_aborted_transaction_that_the_list_leaves_out(self, log, shop, billing):
        client = Client(log, shop)
        client.run(commit=True)
        client.run(commit=False)
        assert offsets(read(log, billing)) == [0, 1, 2, 3], "those before are right"
        assert read(log, billing, 4) == CORRUPT
        assert alarms(billing) == {Kind.OUTCOME: 2}
        assert offsets(read(log, billing, aborted=[4])) == list(range(8))

    def test_what_a_client_asked_for_that_takes_all(self, log, shop, billing):
        Client(log, shop).run(commit=False)
        assert offsets(read(log, billing, committed=False)) == [0, 1, 2, 3]
        assert alarms(billing) == {}


class TestALiarWhoseMarkersFit:
    """The producer's process knows better, and says so."""

    @VERSIONS
    @COMMITTED
    @pytest.mark.parametrize("has_marker", [True, False], ids=["with its marker", "without any"])
    def test_after_it_was_read(self, log, shop, billing, world, audited, versions, committed, has_marker):
        Client(log, shop, versions).run(commit=committed)
        lie = with_marker(log, 3, commit=not committed)
        if not has_marker:
            del lie.batches[3]
        assert offsets(read(lie, billing, aborted=[0] if committed else [])) == [0, 1, 2, 3][: 3 + has_marker]
        assert alarms(billing) == {}, "nobody has said so yet"
        tell(shop, world)
        assert alarms(billing) == {Kind.OUTCOME: 1}
        (told,) = [event["data"] for event in audited if event["type"].endswith("stream.alarm")]
        assert (told["kind"], told["producer"]) == ("outcome", "shop")
        assert (told["first_batch"], told["last_batch"]) == (1, 3)
        tell(shop, world)
        assert alarms(billing) == {Kind.OUTCOME: 1}, "once"

    @VERSIONS
    @COMMITTED
    def test_before_it_is_read(self, log, shop, billing, world, versions, committed):
        Client(log, shop, versions).run(commit=committed)
        tell(shop, world)
        lie, truth = with_marker(log, 3, commit=not committed), [] if committed else [0]
        assert read(lie, billing, aborted=[0] if committed else []) == CORRUPT
        assert alarms(billing) == {Kind.OUTCOME: 1}
        assert offsets(read(log, billing, aborted=truth)) == [0, 1, 2, 3]
        assert alarms(billing) == {Kind.OUTCOME: 1}

    def test_to_one_reader_so_and_to_another_so(self, log, shop, billing):
        """Nobody has said yet which is right: both are delivered."""
        Client(log, shop).run(commit=True)
        read(log, billing)
        lie = with_marker(log, 3, commit=False)
        assert offsets(read(lie, billing, aborted=[0])) == [0, 1, 2, 3]
        assert alarms(billing) == {Kind.OUTCOME: 3}

    def test_of_many_the_last_ones_are_told(self, log, shop, billing, world):
        client = Client(log, shop)
        for number in range(20):
            client.run(commit=bool(number % 2), count=2)
        tell(shop, world)
        last = with_marker(log, 59, commit=False)
        assert read(last, billing, 57, aborted=[57]) == CORRUPT
        assert alarms(billing) == {Kind.OUTCOME: 1}
        last.batches[2] = marker(commit=True)
        last.batches = [at_offset(batch, offset) for offset, batch in enumerate(last.batches[:3])]
        assert offsets(read(last, billing)) == [0, 1, 2], "nothing is said of the first any more"


class TestWhatIsNotSaid:
    """Where a process doesn't know for sure how a batch ended, it says nothing of it: the broker's word counts."""

    @pytest.fixture(autouse=True)
    def nothing(self, shop, billing, log, world):
        yield
        tell(shop, world)
        assert shop.process.keys.transactions.told() == []
        assert offsets(read(with_marker(log, log.end - 1, commit=False), billing, aborted=[0])) == list(range(log.end))
        assert alarms(billing) == {}

    @VERSIONS
    def test_a_batch_that_was_not_acknowledged_before(self, log, shop, versions):
        client = Client(log, shop, versions)
        client.add()
        number, stored = client.send()
        client.end(commit=True, mark=False)
        client.answer(number, log.append(stored))
        log.append(marker())

    @VERSIONS
    @pytest.mark.parametrize("error", [None, FENCED, NOT_COORDINATOR, CONCURRENT])
    def test_an_end_without_an_answer_or_with_an_error(self, log, shop, versions, error):
        client = Client(log, shop, versions)
        client.add()
        client.write(2)
        client.end(commit=True, error=error)

    @VERSIONS
    def test_another_end_than_was_asked_for_first(self, log, shop, versions):
        client = Client(log, shop, versions)
        client.add()
        client.write(2)
        epoch = client.epoch
        client.end(commit=True, error=CONCURRENT, mark=False)
        client.epoch = epoch
        client.end(commit=False)

    def test_the_end_over_another_connection(self, log, shop):
        client = Client(log, shop)
        client.add()
        client.write(2)
        client.coordinator = shop.client()
        client.end(commit=True)

    def test_the_beginning_through_another_process(self, log, shop):
        client = Client(log, shop)
        client.write(2)
        client.end(commit=True)

    def test_an_end_through_another_process(self, log, shop):
        """And the next transaction here again: what was added before comes again."""
        client = Client(log, shop)
        client.add()
        client.write(2)
        log.append(marker(commit=False))
        client.add()
        client.end(commit=True)

    def test_a_partition_that_could_not_be_added(self, log, shop):
        client = Client(log, shop)
        client.add()
        client.write(2)
        client.add(error=NOT_COORDINATOR)
        client.end(commit=True)

    def test_fenced_by_another_client_with_its_id(self, log, shop):
        client = Client(log, shop)
        client.add()
        client.write(2)
        client.epoch += 1
        client.add()
        client.end(commit=True)

    def test_a_batch_that_was_refused(self, log, shop):
        client = Client(log, shop)
        client.add()
        number, _ = client.send()
        client.answer(number, -1, error=ErrorCode.NOT_ENOUGH_REPLICAS)
        client.end(commit=True)


class TestHonestBrokers:
    @pytest.fixture(autouse=True)
    def nothing(self, billing):
        yield
        assert alarms(billing) == {}

    @VERSIONS
    def test_many_transactions_read_from_everywhere(self, log, shop, billing, world, versions):
        client = Client(log, shop, versions)
        aborted: list[int] = []
        ends: list[int] = []
        for number in range(30):
            commit = number % 3 > 0
            if not commit:
                aborted.append(log.end)
            client.run(commit=commit, count=1 + number % 4)
            ends.append(log.end - 1)
            if number % 7 == 0:
                tell(shop, world)
            for offset in range(max(0, log.end - 9), log.end):
                # Those that end behind the offset, as brokers do it.
                named = [first for first in aborted if min(end for end in ends if end > first) >= offset]
                assert read(log, billing, offset, aborted=named)[0] == 0
        tell(shop, world)
        assert len(offsets(read(log, billing, aborted=aborted))) == log.end
        assert len(offsets(read(log, billing, committed=False))) == log.end

    def test_the_coordinator_is_asked_again(self, log, shop, billing, world):
        client = Client(log, shop)
        client.add()
        client.write(2)
        client.end(commit=True, error=CONCURRENT, mark=False)
        client.end(commit=True)
        tell(shop, world)
        (told,) = shop.process.keys.transactions.told()
        assert (told.first, told.last, told.committed) == (1, 2, True)
        assert offsets(read(log, billing)) == [0, 1, 2]

    def test_a_marker_that_an_answer_does_not_reach(self, log, shop, billing, world):
        Client(log, shop).run(commit=False)
        cut = Log()
        cut.batches, cut.end = log.batches[:2], 2
        assert offsets(read(cut, billing, aborted=[0])) == [0, 1]
        assert offsets(read(log, billing, 2, aborted=[0])) == [2, 3]
        tell(shop, world)

    def test_a_key_that_is_replaced_in_the_middle(self, log, shop, billing, world):
        client = Client(log, shop)
        client.add()
        client.write(2)
        shop.process.keys.reload()
        client.write(2)
        client.end(commit=True)
        tell(shop, world)
        assert [(row.first, row.last) for row in shop.process.keys.transactions.told()] == [(1, 2), (1, 2)]
        assert offsets(read(log, billing)) == [0, 1, 2, 3, 4]
        tell(shop, world)
        tell(shop, world)
        assert len(shop.process.keys.transactions.told()) == 1, "the old one was told often enough"
