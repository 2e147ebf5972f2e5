"""Waiting for what tells nobody that it has happened."""

import time
from collections.abc import Callable

SECONDS = 30.0
_AGAIN_SECONDS = 0.01


def wait_until(is_so: Callable[[], bool], timeout: float = SECONDS) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + timeout
    while not is_so():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(_AGAIN_SECONDS)
