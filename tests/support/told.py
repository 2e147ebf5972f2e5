"""Conversations through members of one realm: what one of them sealed, another one opens."""

from pathlib import Path
from typing import Any

from tests.support.announced import TOPIC, Process, World
from tests.support.conversation import Conversation, key_file, make_shared
from tests.support.fetching import fetch
from tests.support.producing import PRODUCE, broker_answers, sent
from tests.support.realm import Node
from tests.support.records import produced

VERSION = 12
Found = tuple[int, bytes | None]


class Member:
    """A member's process, and conversations through it."""

    def __init__(self, folder: Path, world: World, node: Node, **rule: Any) -> None:
        self.process: Process = world.process(node)
        self.shared = make_shared(
            folder,
            clock=world.clock,
            announced_keys=self.process.keys,
            keys={"provider": "identities", "path": str(key_file(folder))},
            topics=[{"match": "*", "mode": "batch", **rule}],
        )
        self.talk = self.client()

    def client(self) -> Conversation:
        """One more connection of a client."""
        return Conversation(Path(), shared=self.shared)

    def seal(
        self, batch: bytes, *, partition: int = 0, talk: Conversation | None = None, acks: int = -1
    ) -> tuple[int, bytes]:
        """What the broker gets of a batch, and the number of its request."""
        talk = talk or self.talk
        values = {**produced({TOPIC: {partition: batch}}), "acks": acks}
        number = talk.client(PRODUCE, VERSION, values)
        stored = sent(talk)[TOPIC, partition]
        assert stored is not None
        return number, stored

    def answer(self, number: int, *, talk: Conversation | None = None, partition: int = 0, **values: Any) -> None:
        """The broker's answer to it."""
        talk = talk or self.talk
        broker_answers(talk, VERSION, number, {TOPIC: {partition: {"error_code": 0, "base_offset": 0, **values}}})
        assert talk.to_client

    def read(self, stored: bytes, *, partition: int = 0, **more: Any) -> Found:
        """What a client gets of it."""
        return fetch(self.talk, {TOPIC: {partition: stored}}, version=VERSION, **more)[TOPIC, partition]
