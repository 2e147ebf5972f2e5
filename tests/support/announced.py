"""Processes of a realm's members over one control topic in memory."""

from dataclasses import dataclass

from kveil.protocol.envelope import registry
from kveil.proxy.config import Identity, Limits, Mode, StubCodec
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.node import open_node
from kveil.proxy.keys.announced import AnnouncedKeys
from kveil.proxy.policy import KeyRef, Rule
from tests.support.control_log import ControlTopic, Follower
from tests.support.members import Members
from tests.support.realm import NOW, Node

TOPIC = "orders"


def rule_for(topic: str) -> Rule:
    key = KeyRef(registry.ANNOUNCED, topic)
    return Rule(
        seal=True,
        mode=Mode.AUTO,
        key=key,
        accept_keys=frozenset({key}),
        accept_plain=False,
        stub_codec=StubCodec.AUTO,
        sealed_as=None,
    )


RULE = rule_for(TOPIC)


class Clock:
    """Seconds, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    """One process of a member, with its keys."""

    keys: AnnouncedKeys
    log: Follower
    clock: object

    def sealing(self, topic=TOPIC):
        return self.keys.sealing_key(topic, rule_for(topic), self.clock())

    async def seal(self, topic=TOPIC):
        """The key that a batch is sealed with now."""
        return self.sealing(topic) or await self.keys.renew(topic, rule_for(topic))

    async def open(self, key, topic=TOPIC, rule=None):
        """The secret that opens what was sealed with a key, as a fetched batch would ask for it."""
        place = (topic, key.kid, key.block)
        rule = rule or rule_for(topic)
        found = self.keys.opening_key(*place, rule)
        if found is None:
            found = await self.keys.unwrap(topic, 0, key.kid, key.block, rule)
        return found.secret


class World:
    """A realm, its control topic, and a clock that all of its members go by."""

    def __init__(self, folder, clock):
        self.clock = clock
        self.topic = ControlTopic()
        self.members = Members(folder, self.topic.records.extend)
        self.followers: list[Follower] = []
        self._began = clock()

    def unix_time(self):
        return NOW + self.clock() - self._began

    def process(self, node: Node, topic: ControlTopic | None = None, **limits) -> Process:
        settings = Identity(path=self.members.path(node))
        control = Control(open_node(settings), clock=self.clock, unix_time=self.unix_time)
        keys = AnnouncedKeys(control, Limits(**limits), clock=self.clock)
        follower = (topic or self.topic).followed_by(control)
        if topic is None:
            self.followers.append(follower)
        return Process(keys, follower, self.clock)

    def deliver(self):
        """All processes read what stands on the topic."""
        self.members.now = int(self.unix_time())
        for follower in self.followers:
            follower.read()
