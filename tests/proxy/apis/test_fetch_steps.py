"""A large answer is opened in steps, and comes to the same as in one go."""

import pytest

from kveil.protocol.kafka.messages import encode_response
from kveil.proxy import session
from kveil.proxy.apis import fetch as fetch_module
from kveil.proxy.errors import ErrorCode
from tests.support.conversation import number_of
from tests.support.fetching import fetch
from tests.support.records import client_batch, fetched, produced, sealed

FETCH, BEAT = 1, (12, 4)
BATCH = client_batch(50)


@pytest.fixture
def small_steps(monkeypatch):
    """A step is a batch."""
    for module in (session, fetch_module):
        monkeypatch.setattr(module, "STEP_BYTES", 1)


def stored(writer, topic, partition, count, spoilt=()):
    batches = [sealed(writer, topic, partition, BATCH, offset=50 * at) for at in range(count)]
    for at in spoilt:
        middle = len(batches[at]) // 2
        batches[at] = batches[at][:middle] + bytes((batches[at][middle] ^ 1,)) + batches[at][middle + 1 :]
    return b"".join(batches)


@pytest.fixture
def answer(writer):
    return {
        "t": {0: stored(writer, "t", 0, 5), 1: b"", 2: None, 3: stored(writer, "t", 3, 4, spoilt=[2])},
        "u": {0: stored(writer, "u", 0, 3, spoilt=[0]), 1: BATCH},
        "skipped": {0: stored(writer, "skipped", 0, 3, spoilt=[1])},
        "plain": {0: BATCH},
    }


def begin(talk, number, values):
    """Answer, and leave the answer begun when its keys are there."""
    talk.session.receive_response(memoryview(bytearray(encode_response(FETCH, 12, number, values))))
    talk._meet(talk.session.parked_response)
    talk.session.resume_response()


CONFIG = {"topics": [{"match": "plain", "seal": "none"}], "skip": ["skipped/0/50-99"]}


def test_it_comes_to_the_same(converse, answer, monkeypatch, request):
    at_once = fetch(converse(**CONFIG), answer)
    request.getfixturevalue("small_steps")
    talk = converse(**CONFIG)
    steps = 0
    step = talk.session.step_response

    def count():
        nonlocal steps
        steps += 1
        step()

    monkeypatch.setattr(talk.session, "step_response", count)
    assert fetch(talk, answer) == at_once
    assert steps > 15, "it was opened in one go"
    assert at_once["u", 0] == (ErrorCode.CORRUPT_MESSAGE, b"")
    assert at_once["t", 0][0] == 0


def test_later_answers_wait_for_it(converse, writer, small_steps):
    """Those of the broker, and those of the proxy itself."""
    talk = converse(topics=[{"match": "*", "mode": "batch"}])
    first = talk.client(FETCH, 12, {"topics": []})
    refused = talk.client(0, 9, produced({"t": {0: b"garbage"}}))
    values = fetched({"t": {0: stored(writer, "t", 0, 3)}})
    begin(talk, first, values)
    assert talk.session.has_begun
    assert not talk.session.takes_responses
    assert not talk.session.is_idle
    assert talk.to_client == []
    talk.meet()
    assert [number_of(frame) for frame in talk.to_client] == [first, refused]
    assert talk.session.is_idle


def test_requests_go_on_meanwhile(converse, writer, small_steps):
    talk = converse()
    first = talk.client(FETCH, 12, {"topics": []})
    begin(talk, first, fetched({"t": {0: stored(writer, "t", 0, 3)}}))
    assert talk.session.has_begun
    later = talk.client(*BEAT)
    assert [number_of(frame) for frame in talk.to_client] == [first]
    talk.broker(*BEAT, later)
    assert [number_of(frame) for frame in talk.to_client] == [later]
