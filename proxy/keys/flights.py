"""One call for many who need the same: the first starts it, the others wait for it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Calls under way, by what they are for."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def join(self, place: K, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `call` gives. Whoever stops waiting leaves the call to the others.

        A client that hangs up must not fail those who wait for the same key.
        """
        return await asyncio.shield(self.begin(place, call))

    def begin(self, place: K, call: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """The call under way for `place`, begun if there is none."""
        task = self._tasks.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(call())
            self._tasks[place] = task
            task.add_done_callback(lambda done: self._landed(place, done))
        return task

    def _landed(self, place: K, task: asyncio.Task[V]) -> None:
        del self._tasks[place]
        if not task.cancelled():
            # All who waited may have gone: nobody would ask for the exception, and asyncio would complain.
            task.exception()
