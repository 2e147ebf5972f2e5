"""The key-hiding key that an authority hands out, at one process: beside a key file, or alone."""

import json

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.protocol.identity.signing import RecordType, sign
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.handed import HandedKey
from kveil.proxy.keys.hiding import HidingKeys
from kveil.proxy.keys.keyfile import HidingKey
from kveil.proxy.keys.realm import Realm
from tests.support.realm import consumes, produces

SECONDS = 10.0
SECRET, OTHER = bytes(range(32)), bytes(32)
FILES = HidingKey(id=b"f" * 16, created="", secret=SECRET)


def id_of(secret: bytes) -> bytes:
    return derive_hiding_key_id(secret, realm="demo")


class Member:
    """A member's process: what it follows, and its key-hiding key."""

    def __init__(self, world, name: str, kept: HidingKey | None = None):
        self.node = world.members.join(name, produces(), consumes())
        self.process = world.process(self.node)
        self.hiding = HidingKeys(Realm(name="demo", hiding_key=kept), {}, SECONDS, world.clock)
        self.hiding.authority = HandedKey(self.process.keys.control)

    async def wire_key(self) -> bytes:
        """What a record's key becomes."""
        found = self.hiding.find("orders", seals=True)
        if found is None:
            await self.hiding.unwrap()
            found = self.hiding.find("orders", seals=True)
        return found.wire_key(b"customer")


async def test_all_members_hide_alike(world):
    one, two = Member(world, "one"), Member(world, "two")
    world.members.hand(one.node, two.node)
    assert await one.wire_key() == await two.wire_key()
    assert one.hiding.key_id == id_of(SECRET)
    assert one.hiding.secret() == SECRET


async def test_it_is_opened_once(world):
    one = Member(world, "one")
    world.members.hand(one.node)
    with capture_logs() as lines:
        for _ in range(3):
            await one.wire_key()
            await one.hiding.unwrap()
    (event,) = [line["cloudevent"] for line in lines if line["event"] == "audit"]
    assert (event["type"], event["subject"]) == ("io.kveil.key.unwrapped", "demo")
    assert SECRET.hex() not in json.dumps(event)


async def test_until_it_is_handed_out_it_can_be_tried_again(world):
    one = Member(world, "one")
    assert one.hiding.key_id is None
    with capture_logs() as lines, pytest.raises(KeyUnavailable, match="kveil authority checkpoint --all"):
        await one.wire_key()
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["hiding_key_missing"]
    world.members.hand(one.node)
    assert await one.wire_key()


async def test_nothing_is_hidden_before_the_topic_was_read(world):
    """A key file's key is at hand at once, and may be the wrong one."""
    one = Member(world, "one", FILES)
    assert one.hiding.find("orders") is not None
    assert one.hiding.find("orders", seals=True) is None
    await one.hiding.unwrap()
    assert one.hiding.find("orders", seals=True) is not None


class TestBesideAKeyFile:
    async def test_the_same_is_fine(self, world):
        one, two = Member(world, "one", FILES), Member(world, "two")
        world.members.hand(one.node, two.node, key_id=FILES.id)
        assert await one.wire_key() == await two.wire_key()
        assert one.hiding.key_id == two.hiding.key_id == FILES.id

    async def test_one_that_nobody_hands_out_is_used(self, world):
        """Of an authority from before."""
        one = Member(world, "one", FILES)
        assert await one.wire_key()

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_another_one_is_refused_with_both_ids(self, world, at_once):
        one = Member(world, "one", FILES)
        if not at_once:
            assert await one.wire_key()
        world.members.hand(one.node)
        world.deliver()
        with capture_logs() as lines:
            for _ in range(2):
                with pytest.raises(KeyDenied, match=rf"{FILES.id.hex()}.*{id_of(SECRET).hex()}.*--hiding-key"):
                    await one.wire_key()
        told = [line["cloudevent"]["type"] for line in lines if line["event"] == "audit"]
        assert told == ["io.kveil.key.refused"], "what was refused is remembered for a while"


async def test_two_that_were_handed_out_stop_sealing_and_not_reading(world):
    one, two = Member(world, "one"), Member(world, "two")
    world.members.hand(one.node)
    await one.wire_key()
    world.members.hand(two.node, secret=OTHER)
    world.deliver()
    for member in (one, two):
        with pytest.raises(KeyUnavailable, match="two copies of its directory"):
            await member.wire_key()
    assert one.hiding.find("orders").id == id_of(SECRET)
    assert two.hiding.find("orders") is None


async def test_a_wrap_that_is_none(world):
    """As only an authority could sign it."""
    one = Member(world, "one")
    fields = dict(world.members.realm.hand(one.node, SECRET).fields) | {5: bytes(80)}
    world.members.publish(sign(RecordType.HIDING, fields, world.members.realm.authority))
    with pytest.raises(KeyDenied, match="is none"):
        await one.wire_key()
