"""When the control topic is worth another reading, because something on it is withheld.

A broker that hid a record may show it at the next reading, and a record that is lost stays so. The pauses grow, since
all of the topic is read each time.
"""

from typing import Final

FIRST_PAUSE_SECONDS: Final = 5.0
MOST_PAUSE_SECONDS: Final = 3600.0
# After so long without a wish the pauses are short again.
CALM_SECONDS: Final = 120.0


class Rereading:
    """At once, and then after pauses each of which is twice as long."""

    def __init__(self) -> None:
        self._next = float("-inf")
        self._pause = FIRST_PAUSE_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether to do it now, which whoever asks wishes for, and then does."""
        if now < self._next:
            return False
        if now - self._next >= CALM_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self._next = now + self._pause
        self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
        return True
