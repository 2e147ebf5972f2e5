"""An authority at work, with a topic in memory: disk first, then the topic, and nothing is lost to an outage."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest

from kveil.protocol.identity.enrolment import Enrolment, request_enrolment
from kveil.protocol.identity.record import decode_record, encode_record
from kveil.protocol.identity.signing import RecordType
from kveil.proxy.identity.authority import new_state
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_store import AuthorityStore
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.net import authority as at_work
from kveil.proxy.net.authority import AuthorityAtWork, decide
from tests.support.realm import Node, Realm, consumes, identity, produces

KEYS, A = identity("authority"), identity("a")
READS, WRITES = (consumes("demo-*"),), (produces("demo-*"),)


async def eventually(is_so):
    """Let the loop go round until it is so."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


class Log:
    """The topic, and one who reads it."""

    def __init__(self, reader, values):
        self.reader, self.values = reader, values
        self.is_cut_off = self.drops = False
        for value in values:
            reader.apply(0, None, value)
        reader.heard()

    async def append(self, records):
        if self.is_cut_off or self.drops:
            raise KeyUnavailable("cut off")
        for _, value in records:
            self.take(value)

    async def catch_up(self):
        if self.is_cut_off:
            raise KeyUnavailable("cut off")
        self.reader.heard()

    def take(self, value):
        self.values.append(value)
        self.reader.apply(0, None, value)
        self.reader.heard()


class Desk:
    def __init__(self, directory):
        self.store = AuthorityStore(directory)
        self.store.create(KEYS, new_state(KEYS, "demo", 86_400, int(time.time())), None)
        self.values = []
        self.open()

    def open(self):
        """A new process."""
        self.reader = AuthorityReader(KEYS.public, self.store.load(KEYS))
        self.log = Log(self.reader, self.values)
        self.work = AuthorityAtWork(self.store, KEYS, self.reader, self.log)

    def enrolment(self, node=A, name="reader"):
        made = []
        decide(self.store, KEYS, lambda authority: made.append(authority.issue_ticket(READS, 600, 1, name)))
        return request_enrolment(made[0], node, KEYS.public)

    def arrives(self, enrolment):
        self.log.take(encode_record(enrolment)[1])

    def names(self):
        return [one.credential.name for one in self.store.load(KEYS).members]

    def published(self):
        return [listed.credential.name for listed in self.reader.view.live().values()]

    @asynccontextmanager
    async def running(self, ask=None):
        stopping = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self.work.run(stopping, ask))
        yield task
        stopping.set()
        async with asyncio.timeout(5):
            await task


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr(at_work, "RETRY_SECONDS", 0.01)
    return Desk(tmp_path / "authority")


def grant(authority):
    authority.grant(A.public, READS, "reader")


async def test_what_was_decided_when_it_could_not_be_published_is_published_later(desk):
    desk.log.drops = True
    with pytest.raises(KeyUnavailable):
        await desk.work.decide(grant)
    assert desk.names() == ["reader"]
    assert desk.values == []
    desk.open()
    await desk.work.decide(lambda _: None)
    assert desk.published() == ["reader"]


async def test_what_can_not_be_read_is_not_decided(desk):
    desk.log.is_cut_off = True
    with pytest.raises(KeyUnavailable):
        await desk.work.decide(grant)
    assert desk.names() == []


async def test_the_newest_checkpoint_comes_last(desk):
    """The log cleaner keeps the last record of a key."""
    await asyncio.gather(*(desk.work.decide(lambda _: None, force=True) for _ in range(3)), desk.work.decide(grant))
    last = AuthorityReader(KEYS.public, desk.store.load(KEYS))
    last.apply(0, None, desk.values[-1])
    assert last.has(desk.store.load(KEYS).latest.signed)


async def test_all_again_writes_what_is_there_already(desk):
    await desk.work.decide(grant)
    before = len(desk.values)
    await desk.work.decide(lambda _: None, all_again=True)
    assert len(desk.values) == before + 5, "identity, credential, the key-hiding key twice, checkpoint"


async def test_a_fork_stops_it_until_somebody_says_to_go_on(desk, tmp_path):
    await desk.work.decide(lambda _: None)
    backup = (desk.store.directory / "state.json").read_bytes()
    await desk.work.decide(grant)
    (desk.store.directory / "state.json").write_bytes(backup)
    decide(desk.store, KEYS, lambda _: None, force=True)  # the copy, which doesn't look at the topic
    desk.open()
    desk.log.take(encode_record(desk.store.load(KEYS).latest.signed)[1])
    with pytest.raises(IdentityError, match="two copies of its directory were in use"):
        await desk.work.decide(lambda _: None)
    number = desk.store.load(KEYS).latest.kept.number
    state = await desk.work.decide(lambda _: None, force=True, all_again=True)
    assert state.latest.kept.number == number + 1001


async def test_an_older_directory_goes_on_from_the_topic(desk):
    await desk.work.decide(lambda _: None)
    backup = (desk.store.directory / "state.json").read_bytes()
    await desk.work.decide(grant)
    (desk.store.directory / "state.json").write_bytes(backup)
    desk.open()
    await desk.work.decide(lambda _: None)
    assert desk.names() == ["reader"]


async def test_an_authority_from_before_makes_the_key_hiding_key(desk):
    state = json.loads((desk.store.directory / "state.json").read_bytes())
    del state["hiding"]
    (desk.store.directory / "state.json").write_text(json.dumps(state))
    desk.open()
    decide(desk.store, KEYS, grant)
    assert desk.store.load(KEYS).hiding is None, "what the topic has isn't known without it"
    await desk.work.decide(lambda _: None)
    made = desk.store.load(KEYS).hiding
    assert made.fields[3] == desk.reader.view.handed_to(A.id)[0].id
    await desk.work.decide(lambda _: None, force=True)
    assert desk.store.load(KEYS).hiding == made
    assert len(desk.reader.view.handed_out()) == 1


async def test_a_key_hiding_key_that_a_backup_lacks_is_not_made_again(desk):
    """Nobody is let in, by ticket or by hand; revoking goes on."""
    enrolment = desk.enrolment(identity("b"), "b")
    await desk.work.decide(grant)
    state = json.loads((desk.store.directory / "state.json").read_bytes())
    (desk.store.directory / "state.json").write_text(json.dumps(state | {"hiding": None}))
    own = desk.store.load(KEYS).hiding
    desk.values = [value for value in desk.values if not is_own(value)]
    desk.open()
    with pytest.raises(IdentityError, match="from a newer one"):
        await desk.work.decide(lambda authority: authority.grant(identity("b").public, READS, "b"))
    with pytest.raises(IdentityError, match="from a newer one"):
        await desk.work.decide(lambda authority: authority.redeem(enrolment, desk.reader))
    await desk.work.decide(lambda authority: authority.revoke("reader", None))
    assert desk.names() == []
    assert desk.store.load(KEYS).hiding is own is None


def is_own(value: bytes) -> bool:
    """Whether it hands the key-hiding key to the authority itself."""
    return value[1] == RecordType.HIDING and KEYS.id in decode_record(value, "demo").signed.fields.values()


class TestRunning:
    async def test_an_enrolment_in_an_outage_is_answered_after_it(self, desk):
        enrolment = desk.enrolment()
        async with desk.running():
            await eventually(lambda: desk.reader.has(desk.store.load(KEYS).latest.signed))
            desk.log.drops = True
            desk.arrives(enrolment)
            await eventually(lambda: desk.names() == ["reader"])
            assert desk.published() == []
            desk.log.drops = False
            await eventually(lambda: desk.published() == ["reader"])

    async def test_garbage_stops_nothing(self, desk):
        enrolment = desk.enrolment()
        async with desk.running():
            desk.arrives(Enrolment(ticket_id=enrolment.ticket_id, sealed=b"\x00" * 1200))
            desk.arrives(enrolment)
            await eventually(lambda: desk.published() == ["reader"])

    async def test_nothing_waits_for_a_person(self, desk):
        asked, answer = asyncio.Event(), asyncio.Event()

        async def ask(name, subject, grants):
            assert (name, subject, grants) == ("reader", A.id, READS)
            asked.set()
            await answer.wait()
            return True

        async with desk.running(ask):
            desk.arrives(desk.enrolment())
            await asked.wait()
            await AuthorityAtWork(desk.store, KEYS, desk.reader, desk.log).decide(lambda _: None, force=True)
            assert desk.names() == []
            answer.set()
            await eventually(lambda: desk.published() == ["reader"])

    async def test_it_ends_while_a_person_is_asked(self, desk):
        asked = asyncio.Event()

        async def ask(*_):
            asked.set()
            await asyncio.Event().wait()

        async with desk.running(ask):
            desk.arrives(desk.enrolment())
            await asked.wait()
        assert desk.names() == []

    async def test_what_it_can_not_go_on_with_ends_it(self, desk):
        async with asyncio.timeout(5):
            (desk.store.directory / "state.json").write_bytes(b"")
            with pytest.raises(IdentityError, match="damaged"):
                await desk.work.run(asyncio.Event())


class TestAskingAProducer:
    """How far it is, before it is ended."""

    @pytest.fixture
    async def shop(self, desk, monkeypatch):
        monkeypatch.setattr(at_work, "ANSWER_SECONDS", 0.3)
        await desk.work.decide(lambda authority: authority.grant(A.public, WRITES, "shop"))
        member = desk.store.load(KEYS).named("shop")
        return Node(A, member.signed, member.credential, b"c" * 16)

    def realm(self, desk):
        """Of whom the shop says that it is a member now."""
        made = Realm()
        made.checkpoints.append(desk.store.load(KEYS).latest.signed)
        return made

    def announce(self, desk, shop, *, ago=0):
        now = int(time.time()) - ago
        made = self.realm(desk).announce(shop, bytes(32), shop, topic="demo-1", created=now, not_after=now)
        desk.log.take(encode_record(made)[1])

    def tell(self, desk, shop, **changes):
        made = self.realm(desk).beacon(shop, **{"created": int(time.time()), **changes})
        desk.log.take(encode_record(made)[1])

    async def seconds(self, desk, shop, name="shop"):
        began = time.monotonic()
        number = await desk.work.ask(name)
        assert number in {None, desk.store.load(KEYS).latest.kept.number}
        return time.monotonic() - began

    async def test_one_that_answers(self, desk, shop, monkeypatch):
        monkeypatch.setattr(at_work, "ANSWER_SECONDS", 60)
        self.announce(desk, shop)
        self.tell(desk, shop)
        before = desk.store.load(KEYS).latest.kept.number
        asking = asyncio.create_task(desk.work.ask("shop"))
        await eventually(lambda: desk.reader.view.checkpoint.number == before + 1)
        await asyncio.sleep(0.05)
        assert not asking.done(), "it has said that it had the one before"
        self.tell(desk, shop, number=2)
        async with asyncio.timeout(10):
            assert await asking == before + 1
        assert desk.reader.last_words(A.id)[0].answers(before + 1)

    async def test_one_that_does_not(self, desk, shop):
        self.announce(desk, shop)
        self.tell(desk, shop)
        assert await self.seconds(desk, shop) >= 0.3

    @pytest.mark.parametrize(("ago", "last"), [(10, True), (at_work.ALIVE_SECONDS + 10, False)])
    async def test_one_that_is_gone_is_not_waited_for(self, desk, shop, ago, last):
        self.announce(desk, shop, ago=int(ago))
        self.tell(desk, shop, created=int(time.time() - ago), last=last)
        assert await self.seconds(desk, shop) < 0.3

    async def test_who_produces_nothing_is_not_asked(self, desk, shop):
        await desk.work.decide(lambda authority: authority.grant(identity("b").public, READS, "reader"))
        before = desk.store.load(KEYS).latest.kept.number
        for name in ("reader", "nobody"):
            assert await desk.work.ask(name) is None
        assert desk.store.load(KEYS).latest.kept.number == before
