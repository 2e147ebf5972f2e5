"""What a process asks of the system: to keep its memory, and open files."""

import ctypes
import resource
import sys
from contextlib import suppress

from kveil.proxy import log
from kveil.proxy.config import Settings
from kveil.proxy.config.listener_checks import hosts_of

_log = log.get_logger(__name__)

OTHER_OPEN_FILES = 64
"""The event loop's own, the key file, certificates, and the connections that are being sent away."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 32 * 1024 * 1024
"""glibc's highest threshold. By default it gives each freed block over 128 KiB back to the kernel, and the next
batch pays for it with page faults: sealing 0.9 MB takes a third of the time without them."""


def keep_freed_memory() -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def take_open_files(settings: Settings) -> None:
    """Take as many open files as the system gives: many begin at 1,024, and each connection needs two.

    Without them the event loop closes new connections unheard, far below the configured limit.
    """
    ports = sum(len(hosts_of(listener)) for listener in settings.listeners) * (1 + settings.broker_ports.count)
    needed = 2 * settings.limits.max_connections + ports + OTHER_OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        _log.warning(
            "open_files_limited", open_files=hard, needed=needed, why="limits.max_connections can't be reached"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):  # macOS has a limit of its own below the one it names
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
