"""Keeps calls from a service that doesn't answer, and finds out when it does again. Decides; does nothing."""

import random
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""Failed tries in a row after which the service is taken to be down: one may be chance."""
SHORTEST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0
"""With one try's deadline well below the 30 s within which the proxy is to notice that a service is back."""


class Breaker:
    """Closed: every call goes out. Open: none does, until a pause is over. Half open: one goes out to find out.

    The pause doubles with each that fails, and is cut by chance to between half and all of itself, so that many
    proxies don't come back at the same moment.
    """

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._pauses = 0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the service is taken to be down."""
        return self._failures >= FAILURES

    def admits(self) -> bool:
        """Whether a call may go out now. Of those that ask after a pause only the first may."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._until:
            return False
        self._pause(now)
        return True

    def succeeded(self) -> bool:
        """The service answered. Returns whether it had been taken to be down."""
        was_open = self.is_open
        self._failures = self._pauses = 0
        return was_open

    def failed(self) -> bool:
        """A try failed. Returns whether the service is taken to be down from now on."""
        was_open = self.is_open
        self._failures += 1
        if self.is_open:
            self._pause(self._clock())
        return self.is_open and not was_open

    def _pause(self, now: float) -> None:
        longest = min(SHORTEST_PAUSE_SECONDS * 2**self._pauses, LONGEST_PAUSE_SECONDS)
        self._pauses += 1
        self._until = now + longest * (1 + self._chance()) / 2
