"""A worker's end of the channel, in its event loop."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from kveil.proxy.workers.channel import Channel, ChannelStuck, Message

_LOOK_SECONDS = 0.01


class ParentLink:
    """What the parent says goes to `hear`; `parent_lost` is called when it is gone, or doesn't listen."""

    def __init__(self, sock: socket.socket, hear: Callable[[Message], None], parent_lost: Callable[[], None]) -> None:
        self._channel = Channel(sock)
        self._hear = hear
        self._parent_lost = parent_lost
        self._is_watched = False
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    def start(self) -> None:
        """Listen to the parent from now on."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._ready)

    def tell(self, kind: str, **values: Any) -> None:
        """Send a message."""
        try:
            self._channel.send(kind, **values)
        except ChannelStuck:
            self._parent_lost()
        self._watch()

    async def ask(self, kind: str, **values: Any) -> Any:
        """Return the parent's answer."""
        number = self._number = self._number + 1
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._questions[number] = answered
        try:
            self.tell(kind, number=number, **values)
            return await answered
        finally:
            del self._questions[number]

    async def flushed(self) -> None:
        """Return when all that was told is sent."""
        while self._channel.is_waiting and not self._channel.is_closed:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(_LOOK_SECONDS)

    def _ready(self) -> None:
        for message in self._channel.receive():
            if message.kind == "answer":
                answered = self._questions.get(message.values["number"])
                if answered is not None and not answered.done():
                    answered.set_result(message.values["answer"])
            else:
                self._hear(message)
        if self._channel.is_closed:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._parent_lost()

    def _watch(self) -> None:
        """Be told when there is room for what waits, and only then."""
        if self._channel.is_waiting is self._is_watched:
            return
        self._is_watched = not self._is_watched
        loop = asyncio.get_running_loop()
        if self._is_watched:
            loop.add_writer(self._channel.fileno(), self._writable)
        else:
            loop.remove_writer(self._channel.fileno())

    def _writable(self) -> None:
        self._channel.flush()
        self._watch()
