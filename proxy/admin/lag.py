"""How late the event loop is: what anything that doesn't yield costs everybody else."""

import asyncio
from collections import deque
from typing import Final

TICK_SECONDS: Final = 0.5
REMEMBERED_SECONDS: Final = 60.0
"""As long as scrapes are apart, mostly, so that none misses the worst."""


class LoopLag:
    """Looks twice a second how late it is."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=int(REMEMBERED_SECONDS / TICK_SECONDS))
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """The latest of the last minute."""
        return max(self._late, default=0.0)

    def start(self) -> None:
        """Look from now on."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_SECONDS, self._tick, loop, loop.time() + TICK_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._late.append(max(0.0, loop.time() - due))
        self.start()
