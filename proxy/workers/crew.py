"""The workers as the parent keeps them: started, heard, written to, and started again when they die."""

import selectors
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kveil.proxy import log
from kveil.proxy.workers.channel import ChannelStuck, Message
from kveil.proxy.workers.processes import Backoff, RunWorker, WorkerProcess, fork_worker

_log = log.get_logger(__name__)


class Crew:
    """Workers by their numbers, which stay when one takes the place of another.

    `hear` gets what they say. `lost` is told of one that has ended, with its exit code, and returns whether another one
    is to be started. `leave_behind` closes in a new worker what is the parent's.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        run: RunWorker,
        *,
        hear: Callable[[WorkerProcess, Message], None],
        lost: Callable[[WorkerProcess, int], bool],
        leave_behind: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._run = run
        self._hear = hear
        self._is_replaced = lost
        self._leave_behind = leave_behind
        self._workers: dict[int, WorkerProcess] = {}
        self._backoffs: dict[int, Backoff] = {}
        self._restarts: dict[int, float] = {}
        """When workers are started again, by number."""

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those that run."""
        return list(self._workers.values())

    def start(self, number: int) -> WorkerProcess:
        """Start a worker."""
        worker = fork_worker(number, self._run, self._left_behind)
        self._workers[number] = worker
        self._selector.register(worker.channel, selectors.EVENT_READ, partial(self.attend, worker))
        return worker

    def _left_behind(self) -> None:
        """Close, above all, the other workers' channels: their end must tell of the parent's."""
        for worker in self._workers.values():
            worker.channel.close()
        self._leave_behind()

    def attend(self, worker: WorkerProcess) -> None:
        """Hear a worker, and send what waits for it."""
        worker.channel.flush()
        for message in worker.channel.receive():
            self._hear(worker, message)
        if worker.channel.is_closed and self._workers.get(worker.number) is worker:
            self._lose(worker)

    def _lose(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.channel)
        code = worker.reap()
        del self._workers[worker.number]
        if not self._is_replaced(worker, code):
            return
        now = time.monotonic()
        delay = self._backoffs.setdefault(worker.number, Backoff()).after(now - worker.started_at)
        self._restarts[worker.number] = now + delay
        how = {"exit_code": code} if code >= 0 else {"signal": -code}
        _log.error("worker_died", worker=worker.number, pid=worker.pid, **how, restart_in_seconds=delay)

    def due(self, now: float) -> list[int]:
        """Return the numbers of workers that are to be started again now. Each is returned once."""
        due = [number for number, when in self._restarts.items() if when <= now]
        for number in due:
            del self._restarts[number]
        return due

    def next_look(self) -> list[float]:
        """Return when `due` has something to say."""
        return list(self._restarts.values())

    def send(self, worker: WorkerProcess, kind: str, /, **values: Any) -> None:
        """Send a worker a message. One that doesn't read any more is ended."""
        try:
            worker.channel.send(kind, **values)
        except ChannelStuck as error:
            self.kill(worker, why=str(error))

    def send_all(self, kind: str, /, **values: Any) -> None:
        """Send a message to all workers."""
        for worker in self._workers.values():
            self.send(worker, kind, **values)

    def watch_waiting(self) -> None:
        """Be told when there is room for what waits to be sent, and only then."""
        for worker in self._workers.values():
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel.is_waiting else 0)
            if self._selector.get_key(worker.channel).events != events:
                self._selector.modify(worker.channel, events, partial(self.attend, worker))

    def drain(self) -> None:
        """Have all workers end in order, and start none any more."""
        self._restarts.clear()
        self.send_all("drain")

    def kill(self, worker: WorkerProcess, why: str) -> None:
        """End a worker that should have ended, or should have read."""
        _log.warning("worker_killed", worker=worker.number, pid=worker.pid, why=why)
        worker.kill()

    def kill_silent(self, most_looks: int) -> None:
        """End the workers that have made no report for so many calls of this: their loop hangs.

        Calls are counted, not seconds: a machine that was suspended wakes up with all of them silent.
        """
        for worker in self._workers.values():
            if worker.looks_since_report is None:
                continue
            worker.looks_since_report += 1
            if worker.looks_since_report > most_looks:
                self.kill(worker, why="it is silent")

    def end(self) -> None:
        """Leave no worker behind."""
        for worker in self._workers.values():
            worker.kill()
            worker.reap()
        self._workers.clear()
