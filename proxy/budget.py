"""The memory that large frames may take, all connections together.

After Kafka's `queued.max.request.bytes`: a frame is charged with the size that it announces, the one that uses the
budget up may overdraw it, and whoever comes then waits, first come, first served. Ordinary frames are not charged and
never wait, so producers are not held up by other clients' large answers.

What is charged can always complete. A connection that holds a part gets more of it at once, so one that waits holds
nothing that others wait for: of its two directions the one may depend on the other, since a broker that can't send an
answer takes no further request.
"""

from collections.abc import Callable
from typing import Final

ORDINARY_BYTES: Final = 1024 * 1024 + 64 * 1024
"""A frame that is not charged: a batch as large as Kafka's default limits allow, and the request around it."""


class BufferBudget:
    """The budget of a process."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._left = total_bytes
        self.waiting: dict[Share, None] = {}
        """The connections whose large frames wait, in their order."""

    def share(self, granted: Callable[[], None]) -> "Share":
        """Return a connection's part. `granted` is called when what it waited for is there."""
        return Share(self, granted)

    @property
    def has_room(self) -> bool:
        """Whether a frame may begin that nobody has waited for."""
        return self._left > 0 and not self.waiting

    def charge(self, size: int) -> None:
        """Take note of a frame that begins."""
        self._left -= size

    def give_back(self, size: int) -> None:
        """Take note of one that has left, and let those go on that wait for it."""
        self._left += size
        while self._left > 0 and self.waiting:
            share = next(iter(self.waiting))
            del self.waiting[share]
            share.grant()


class Share:
    """The part of one connection."""

    def __init__(self, budget: BufferBudget, granted: Callable[[], None]) -> None:
        self._budget = budget
        self._granted = granted
        self._held = 0
        self._wanted = 0

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of what was asked for is there yet."""
        return self._wanted > 0

    @property
    def is_used(self) -> bool:
        """Whether anything was asked for and not given back."""
        return self._held > 0 or self._wanted > 0

    def ask(self, size: int) -> None:
        """Ask for the memory of a frame that was announced."""
        if self._held or self._budget.has_room:
            self._held += size
            self._budget.charge(size)
        else:
            self._wanted += size
            self._budget.waiting[self] = None

    def give_back(self, size: int) -> None:
        """Give back what was asked for, whether it was granted or not."""
        if self._wanted:
            self._wanted -= size
            if not self._wanted:
                self._budget.waiting.pop(self, None)
        else:
            self._held -= size
            self._budget.give_back(size)

    def grant(self) -> None:
        """The budget has room again."""
        self._held, self._wanted = self._wanted, 0
        self._budget.charge(self._held)
        self._granted()
