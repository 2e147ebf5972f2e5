"""What came of each call of a scripted client, as lines that two runs of it can be compared by."""

from collections.abc import Awaitable, Callable
from typing import Any

from confluent_kafka import KafkaException


class CallLog:
    """Lines of the form `what: result` and `what failed: error`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Add a line, without the name that this run uses for its topic, group and so on."""
        self.lines.append(line.replace(self._name, "NAME"))

    def call(self, what: str, body: Callable[[], Any]) -> None:
        """Make a call of librdkafka."""
        try:
            self.say(f"{what}: {body()}")
        except KafkaException as problem:
            error = problem.args[0]
            # The text of a fatal error depends on which of its requests the client heard of first.
            text = "fatal" if error.fatal() else error.str()
            self.say(f"{what} failed: {error.name()} {text} {error.txn_requires_abort()}")

    async def ask(self, what: str, body: Callable[[], Awaitable[Any]]) -> None:
        """Make a call of aiokafka."""
        from aiokafka.errors import KafkaError

        try:
            self.say(f"{what}: {await body()}")
        except KafkaError as problem:
            self.say(f"{what} failed: {type(problem).__name__}")
