"""A topic of the proxy's own: what brokers answer, and what they shouldn't."""

from types import SimpleNamespace as Answer

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import empty_batch
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_topic import (
    EARLIEST,
    NotThereYet,
    OffsetOutOfRange,
    OwnTopic,
)
from kveil.proxy.topics import TopicSettings
from tests.support.records import at_offset
from tests.vectors import reference
from tests.vectors.reference import Batch


class Code(int):
    """An error code as kio has it."""

    @property
    def name(self):
        return f"ERROR_{int(self)}"


OK = Code(0)
TOPIC = OwnTopic("_kveil.keys")


class Client:
    """Answers each API as it is told to, and remembers what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    async def ask(self, api_key, values, *, most=32767):
        self.asked.append((ApiKey(api_key), values))
        return self.answers[ApiKey(api_key).name]


def metadata(error=OK, partitions=1, brokers=3, leader=2, partition_error=OK):
    found = [Answer(error_code=partition_error, leader_id=leader)] * partitions
    return Answer(topics=[Answer(error_code=error, partitions=found)], brokers=[None] * brokers)


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """What the topic's settings are."""
    found = {"_kveil.keys": TopicSettings(cleanup_policy=frozenset({"compact"}))}

    async def describe(client, topics):
        return found

    monkeypatch.setattr("kveil.proxy.net.own_topic.describe_topics", describe)
    return found


async def test_the_leader():
    assert await TOPIC.find_leader(Client(METADATA=metadata())) == 2


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
@pytest.mark.parametrize("code", [0, 36], ids=["made", "another was faster"])
async def test_a_topic_that_is_not_there_is_made(brokers, replicas, in_sync, code):
    made = Answer(topics=[Answer(error_code=Code(code))])
    client = Client(METADATA=metadata(Code(3), brokers=brokers), CREATE_TOPICS=made)
    with pytest.raises(NotThereYet):
        await TOPIC.find_leader(client)
    (topic,) = client.asked[-1][1]["topics"]
    configs = {config["name"]: config["value"] for config in topic["configs"]}
    assert (topic["num_partitions"], topic["replication_factor"]) == (1, replicas)
    assert configs == {"cleanup.policy": "compact", "min.insync.replicas": in_sync}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (metadata(Code(29)), "Metadata with ERROR_29"),
        (metadata(partitions=2), "one partition"),
        (metadata(partition_error=Code(72)), "Metadata with ERROR_72"),
        (metadata(Code(5)), "no leader"),
        (Answer(topics=[], brokers=[]), "leaves it out"),
    ],
)
async def test_a_topic_that_can_not_be_used(answer, reason):
    with pytest.raises(QuestionFailed, match=reason):
        await TOPIC.find_leader(Client(METADATA=answer))


@pytest.mark.parametrize("policy", [{"delete"}, {"compact", "delete"}, set()])
async def test_a_policy_that_loses_keys(settings, policy):
    settings["_kveil.keys"] = TopicSettings(cleanup_policy=frozenset(policy))
    with pytest.raises(QuestionFailed, match="must be compact"):
        await TOPIC.find_leader(Client(METADATA=metadata()))


async def test_settings_that_may_not_be_read_are_no_hindrance(settings):
    settings["_kveil.keys"] = TopicSettings(unreadable="denied")
    assert await TOPIC.find_leader(Client(METADATA=metadata())) == 2
    settings["_kveil.keys"] = QuestionFailed("not now")
    with pytest.raises(QuestionFailed, match="not now"):
        await TOPIC.find_leader(Client(METADATA=metadata()))


def fetched(records, error=OK, end=9, top=OK):
    part = Answer(error_code=error, records=records, high_watermark=end)
    return Answer(error_code=top, responses=[Answer(partitions=[part])])


def stored(offset, *pairs):
    section = b"".join(reference.record(at, key, value) for at, (key, value) in enumerate(pairs))
    return at_offset(Batch(section, len(pairs)).encode(), offset)


async def test_what_stands_there():
    """From the position on, whatever comes with it; a batch that is cut off comes next time."""
    log = stored(5, (b"a", b"1"), (b"b", None)) + stored(7, (b"c", b"3"))
    found = await TOPIC.fetch(Client(FETCH=fetched(log + stored(8, (b"d", b"4"))[:-1])), 6)
    assert found.records == [(6, b"b", None), (7, b"c", b"3")]
    assert (found.position, found.end) == (8, 9)


@pytest.mark.parametrize(("records", "position"), [(b"", 6), (None, 6), (empty_batch(6, 11), 12)])
async def test_where_nothing_is_left(records, position):
    found = await TOPIC.fetch(Client(FETCH=fetched(records)), 6)
    assert (found.records, found.position) == ([], position)


async def test_records_that_are_none():
    with pytest.raises(QuestionFailed, match="can't be read"):
        await TOPIC.fetch(Client(FETCH=fetched(stored(0, (b"a", b"1"))[:-1] + b"\x7f")), 0)


async def test_errors_of_a_fetch():
    with pytest.raises(OffsetOutOfRange):
        await TOPIC.fetch(Client(FETCH=fetched(b"", Code(1))), 6)
    for answer in (fetched(b"", Code(6)), fetched(b"", top=Code(6)), Answer(error_code=OK, responses=[])):
        with pytest.raises(QuestionFailed):
            await TOPIC.fetch(Client(FETCH=answer), 6)


async def test_what_is_written():
    """With the word of all replicas, as one batch that a broker takes."""
    part = Answer(error_code=OK, base_offset=40)
    client = Client(PRODUCE=Answer(responses=[Answer(partition_responses=[part])]))
    assert await TOPIC.produce(client, [(b"a", b"1"), (b"b", None)], 1_700_000_000_000) == 42
    ((_, values),) = client.asked
    ((topic,), acks) = values["topic_data"], values["acks"]
    assert (topic["name"], acks) == ("_kveil.keys", -1)
    again = await TOPIC.fetch(Client(FETCH=fetched(at_offset(topic["partition_data"][0]["records"], 40))), 40)
    assert again.records == [(40, b"a", b"1"), (41, b"b", None)]
    part.error_code = Code(19)
    with pytest.raises(QuestionFailed, match="Produce with ERROR_19"):
        await TOPIC.produce(client, [(b"a", b"1")], 0)


async def test_an_end_of_the_topic():
    answer = Answer(topics=[Answer(partitions=[Answer(error_code=OK, offset=7)])])
    client = Client(LIST_OFFSETS=answer)
    assert await TOPIC.find_offset(client, EARLIEST) == 7
    assert client.asked[0][1]["topics"][0]["partitions"][0]["timestamp"] == -2
    answer.topics[0].partitions[0].error_code = Code(6)
    with pytest.raises(QuestionFailed):
        await TOPIC.find_offset(client, EARLIEST)
