"""Locks on open files, which end with the process that has them at the latest (flock)."""

import fcntl
import time
from typing import Final

_STEP_SECONDS: Final = 0.001


def lock(descriptor: int) -> None:
    """Take the lock, however long others have it."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def lock_within(descriptor: int, seconds: float) -> None:
    """Take the lock.

    :raises OSError: others have it for longer than that.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise OSError(0, "another program has locked it") from None
            time.sleep(_STEP_SECONDS)
        else:
            return


def unlock(descriptor: int) -> None:
    """Give the lock back."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
