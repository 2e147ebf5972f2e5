"""Which child processes this process has."""

import os
from pathlib import Path

import psutil

# Time for a child that was told to end; the wait is over as soon as it has.
GRACE_SECONDS = 3.0
# The standard library's own: it lives as long as the interpreter.
_KEPT = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def own_children() -> set[int]:
    """The pids of direct children. The kernel's list is far faster than a walk over all processes."""
    tasks = Path("/proc/self/task")
    try:
        return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    except OSError:
        return {child.pid for child in psutil.Process(os.getpid()).children()}


def children_left(before: set[int]) -> list[str]:
    """What runs still, of those that did not run before."""
    running = [child for pid in own_children() - before if (child := _find(pid))]
    if not running:
        return []
    _, alive = psutil.wait_procs([child for child in running if not _kept(child)], timeout=GRACE_SECONDS)
    return [f"{child.pid} {' '.join(child.cmdline())[:200]}" for child in alive if child.is_running()]


def _find(pid: int) -> psutil.Process | None:
    try:
        child = psutil.Process(pid)
        return None if child.status() == psutil.STATUS_ZOMBIE else child
    except psutil.NoSuchProcess:
        return None


def _kept(child: psutil.Process) -> bool:
    try:
        return any(name in " ".join(child.cmdline()) for name in _KEPT)
    except psutil.NoSuchProcess:
        return True
