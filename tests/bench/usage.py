"""What a process and its children have used: CPU time to the nanosecond, and memory."""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil


def cpu_seconds_by_process(pid: int) -> dict[int, float]:
    """User and system time of a process and of each of its children, by process id."""
    found = {}
    for process in _tree(pid):
        with suppress(psutil.Error, OSError):
            found[process.pid] = _cpu_seconds(process)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children, those that have ended too."""
    ended = psutil.Process(pid).cpu_times()
    return sum(cpu_seconds_by_process(pid).values()) + ended.children_user + ended.children_system


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its children. What they share counts in each."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _tree(pid: int) -> Iterator[psutil.Process]:
    process = psutil.Process(pid)
    yield process
    yield from process.children(recursive=True)


def _cpu_seconds(process: psutil.Process) -> float:
    """Its CPU time. /proc counts in steps of 10 ms, more than a second of light load takes; the clock doesn't."""
    if sys.platform == "linux":
        return time.clock_gettime((~process.pid << 3) | 2)  # what clock_getcpuclockid(3) makes of a process id
    times = process.cpu_times()
    return times.user + times.system
