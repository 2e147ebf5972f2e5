"""Conversations through members of one realm: what one of them sealed, another one opens."""

from pathlib import Path
from typing import Any

from kveil.protocol.kafka.record_batch import read_header
from tests.support.announced import TOPIC, Process, World
from tests.support.conversation import Conversation, key_file, make_shared, read_response
from tests.support.fetching import FETCH, fetch
from tests.support.producing import PRODUCE, broker_answers, sent
from tests.support.realm import Node
from tests.support.records import at_offset, fetched, produced

VERSION = 12
Found = tuple[int, bytes | None]


class Member:
    """A member's process, and conversations through it."""

    def __init__(self, folder: Path, world: World, node: Node, **rule: Any) -> None:
        self.node = node
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


class Log:
    """One partition as an honest broker has it."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.end = 0
        self.leader_epoch = 5

    def append(self, stored: bytes) -> int:
        """The offset that a batch gets."""
        base, self.end = self.end, self.end + read_header(stored).last_offset_delta + 1
        self.batches.append(at_offset(stored, base, self.leader_epoch))
        return base

    def write(self, shop: Member, batch: bytes, **options: Any) -> int:
        """Have a producer's batch stored, and tell it so. Returns its offset."""
        number, stored = shop.seal(batch, **options)
        base = self.append(stored)
        shop.answer(number, base_offset=base, **{key: options[key] for key in ("talk",) if key in options})
        return base

    def read(
        self, billing: Member, offset: int = 0, *, talk: Conversation | None = None, end: int | None = None
    ) -> Found:
        """What a client gets that asks for all from an offset on. `end` is where the broker says that the log ends."""
        talk = talk or billing.talk
        records = b"".join(batch for batch in self.batches if read_header(batch).next_offset > offset)
        asked = {"topic": TOPIC, "partitions": [{"partition": 0, "fetch_offset": offset}]}
        number = talk.client(FETCH, VERSION, {"topics": [asked], "session_epoch": -1})
        assert talk.to_broker
        values = fetched({TOPIC: {0: records}})
        values["responses"][0]["partitions"][0]["high_watermark"] = self.end if end is None else end
        talk.broker(FETCH, VERSION, number, values)
        (frame,) = talk.to_client
        (part,) = read_response(FETCH, VERSION, frame).responses[0].partitions
        return int(part.error_code), part.records
