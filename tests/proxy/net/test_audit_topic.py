"""The sink that is a topic: what it sends again, and under which numbers. What a broker makes of it is in
tests/integration/test_audit.py.
"""

import asyncio
from types import SimpleNamespace

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, read_header
from kveil.protocol.kafka.records import read_records
from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.net import audit_topic
from kveil.proxy.net.audit_topic import BATCH_BYTES, EVENTS_AT_ONCE, AuditTopic

SECONDS = 20.0


class Answers:
    """A connection to a leader that answers Produce as the test wants: an error, or an exception."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.batches = []
        self.producers = 0

    async def ask(self, api_key, values, *, most):
        if api_key == ApiKey.INIT_PRODUCER_ID:
            self.producers += 1
            return SimpleNamespace(error_code=0, producer_id=40 + self.producers, producer_epoch=0)
        assert api_key == ApiKey.PRODUCE
        assert (values["acks"], values["transactional_id"]) == (-1, None)
        (topic,) = values["topic_data"]
        (partition,) = topic["partition_data"]
        self.batches.append(partition["records"])
        outcome = self.outcomes.pop(0) if self.outcomes else 0
        if isinstance(outcome, Exception):
            raise outcome
        row = SimpleNamespace(error_code=outcome, error_message=None)
        return SimpleNamespace(responses=[SimpleNamespace(partition_responses=[row])])

    @property
    def sent(self):
        """Producer, first number and events of each batch."""
        return [numbers_of(batch) for batch in self.batches]


def numbers_of(batch):
    header = read_header(batch)
    section = bytes(batch[HEADER_LENGTH:])
    values = [row[3] for row in read_records(section, header.record_count, header.last_offset_delta)]
    return header.producer_id, header.base_sequence, values


@pytest.fixture
def run(monkeypatch, fresh_log_limits):
    """Run a sink over such answers until it has handed on everything: `await run(answers, [b"1", ...])`."""
    monkeypatch.setattr(audit_topic, "RETRY_SECONDS", 0.0)

    async def hand_on(answers, *parts):
        sink = AuditTopic(None, "audit", 10_000, None)

        async def connected():
            return answers

        monkeypatch.setattr(sink, "_connected", connected)
        task = asyncio.get_running_loop().create_task(sink.run())
        try:
            async with asyncio.timeout(SECONDS):
                for events in parts:
                    for event in events:
                        sink.put(event + b"\n")
                    while sink.waiting:  # noqa: ASYNC110
                        await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.wait([task])
        return sink

    return hand_on


async def test_numbers_go_on(run):
    answers = Answers()
    await run(answers, [b"1", b"2"], [b"3"])
    assert answers.sent == [(41, 0, [b"1", b"2"]), (41, 2, [b"3"])]


@pytest.mark.parametrize(
    "lost",
    [QuestionFailed("the connection is gone"), ErrorCode.NOT_ENOUGH_REPLICAS, ConnectionResetError()],
    ids=["unanswered", "retriable", "reset"],
)
async def test_what_was_not_acknowledged_is_sent_again_as_it_was(run, lost):
    answers = Answers(lost, lost, lost)
    sink = await run(answers, [b"1"], [b"2"])
    assert answers.sent == [(41, 0, [b"1"])] * 4 + [(41, 1, [b"2"])]
    assert (sink.trouble, sink.lost) == (None, 0)


async def test_what_comes_meanwhile_is_not_added_to_it(run):
    answers = Answers(QuestionFailed("no answer"))
    ask = answers.ask

    async def ask_and_put(*arguments, **more):
        if not answers.batches and arguments[0] == ApiKey.PRODUCE:
            sinks[0].put(b"2\n")
        return await ask(*arguments, **more)

    answers.ask = ask_and_put
    sinks = []
    put = AuditTopic.put

    def noted(sink, line):
        sinks.append(sink)
        put(sink, line)

    AuditTopic.put = noted
    try:
        await run(answers, [b"1"])
    finally:
        AuditTopic.put = put
    assert answers.sent == [(41, 0, [b"1"]), (41, 0, [b"1"]), (41, 1, [b"2"])]


async def test_what_the_broker_has_already_is_there(run):
    answers = Answers(QuestionFailed("no answer"), ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
    await run(answers, [b"1"], [b"2"])
    assert answers.sent == [(41, 0, [b"1"]), (41, 0, [b"1"]), (41, 1, [b"2"])]


@pytest.mark.parametrize("code", sorted(audit_topic._FORGOTTEN))
async def test_a_broker_that_has_forgotten_the_producer_gets_a_new_one(run, code):
    answers = Answers(0, code)
    await run(answers, [b"1"], [b"2"])
    assert answers.sent == [(41, 0, [b"1"]), (41, 1, [b"2"]), (42, 0, [b"2"])]


async def test_what_is_too_large_together_is_sent_apart(run):
    answers = Answers(ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.MESSAGE_TOO_LARGE)
    await run(answers, [b"1", b"2", b"3", b"4"])
    assert [(first, len(events)) for _, first, events in answers.sent] == [(0, 4), (0, 2), (0, 1), (1, 3)]


async def test_batches_are_bounded(run):
    answers = Answers()
    await run(answers, [b"x"] * (EVENTS_AT_ONCE + 1), [b"y" * 100_000] * 4, [b"z" * (2 * BATCH_BYTES)] * 2)
    assert [len(events) for _, _, events in answers.sent] == [EVENTS_AT_ONCE, 1, 2, 2, 1, 1]


async def test_a_defect_ends_nothing(run):
    answers = Answers(RuntimeError("a defect"))
    sink = await run(answers, [b"1"])
    assert len(answers.sent) == 2
    assert sink.trouble is None
