"""The parent: binds the ports, hands connections to workers, keeps these alive, and ends with them.

A plain loop over sockets, without asyncio: nothing here takes long, and a fork copies no event loop and no thread.
"""

import gc
import math
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kveil.proxy import log
from kveil.proxy.admin.metrics import for_log
from kveil.proxy.admin.overview import Overview
from kveil.proxy.config import Settings
from kveil.proxy.net.doors import Arrival
from kveil.proxy.process import keep_freed_memory, take_open_files
from kveil.proxy.reload import Read
from kveil.proxy.systemd import ServiceManager
from kveil.proxy.workers.balance import Balance
from kveil.proxy.workers.channel import Message
from kveil.proxy.workers.crew import Crew
from kveil.proxy.workers.processes import RunWorker, WorkerProcess
from kveil.proxy.workers.reception import Reception
from kveil.proxy.workers.reloading import Reloading
from kveil.proxy.workers.shared_state import SharedState, endpoint_of
from kveil.proxy.workers.signals import Signals
from kveil.proxy.workers.worker import run_worker

_log = log.get_logger(__name__)

GRACE_SECONDS = 2.0
"""How much longer than `limits.drain_seconds` a worker may take to end, before it is killed."""

SILENT_SECONDS = 5.0
"""The least that a worker, which reports once a second, may be silent before it is killed. Else it is as long as the
service manager would wait for this process."""

_FIRST = 1
_CRASHED = 1


def serve_by_workers(settings: Settings, read: Read, guard: Callable[[Callable[[], int]], int]) -> int:
    """Run until SIGTERM or SIGINT, and return the exit code. `read` reads the settings again for a reload; `guard` runs
    a worker, and tells what its user can mend.

    :raises ConfigError: a port is taken.
    """
    keep_freed_memory()
    take_open_files(settings)

    def run(number: int, sock: socket.socket) -> int:
        return guard(partial(run_worker, supervisor.settings, number, sock, checks_keys=supervisor.is_starting))

    supervisor = Supervisor(settings, run, read)
    return supervisor.run()


class Supervisor:
    """The parent's loop. The first worker is started alone: what keeps it from starting is told once.

    :raises ConfigError: a port is taken.
    """

    def __init__(self, settings: Settings, run: RunWorker, read: Read) -> None:
        self._selector = selectors.DefaultSelector()
        self._balance = Balance()
        self._reception = Reception(settings, self._selector, self._hand_over, lambda: len(self._balance), self._show)
        self._crew = Crew(
            self._selector, run, hear=self._hear, lost=self._is_replaced, leave_behind=self._close_everything
        )
        self._state = SharedState()
        self._overview = Overview(keeps_history=settings.admin.is_on)
        self._manager = ServiceManager()
        self._reloading = Reloading(settings, read, self._crew, self._manager, self._overview)
        self._signals = Signals(stop=self._stop, reload=self._reloading.begin, report=self._report)
        self._next_ping = time.monotonic()
        self._realm = ""
        """As the first worker has said."""
        self._awaited = {_FIRST}
        """Workers that must be ready, or fail to be, before clients may connect."""
        self._deadline: float | None = None
        """When workers that haven't ended are killed."""
        self._exit_code: int | None = None

    @property
    def settings(self) -> Settings:
        """Those in force, which new workers get."""
        return self._reloading.settings

    @property
    def is_starting(self) -> bool:
        """Whether no worker has been ready yet, so that the one which starts is to look whether it can serve."""
        return not self._realm

    def run(self) -> int:
        """Serve, and return the exit code."""
        gc.collect()
        gc.freeze()  # the workers share what is there already, as long as nobody writes to it
        self._selector.register(self._signals, selectors.EVENT_READ, self._signals.handle)
        try:
            self._start(_FIRST)
            while self._exit_code is None:
                self._step()
        finally:
            self._crew.end()
            self._close_everything()
        if not self._exit_code:
            _log.info("stopped")
        return self._exit_code

    def _close_everything(self) -> None:
        self._reception.leave()
        self._signals.close()
        self._selector.close()

    def _step(self) -> None:
        """Wait for something to happen, and see to it: to workers and signals before new clients."""
        now = time.monotonic()
        self._see_to_time(now)
        times = [*self._crew.next_look(), *self._reception.next_look(now)]
        times += [] if self._deadline is None else [self._deadline]
        times += [] if self._manager.ping_seconds is None else [self._next_ping]
        found = self._selector.select(max(0.0, min(times) - now) if times else None)
        for key, _ in sorted(found, key=lambda each: isinstance(each[0].fileobj, socket.socket)):
            if self._selector.get_map().get(key.fd) is key:  # else it was closed by what came before
                key.data()
        self._crew.watch_waiting()

    def _see_to_time(self, now: float) -> None:
        for number in self._crew.due(now):
            self._start(number)
        if self._deadline is not None and self._deadline <= now:
            self._deadline = None
            for worker in self._crew.workers:
                self._crew.kill(worker, why="it did not end in time")
        self._reception.tend(now, has_workers=bool(self._balance.workers))
        if self._manager.ping_seconds is not None and self._next_ping <= now:
            self._next_ping = now + self._manager.ping_seconds
            self._manager.ping()
            # A worker whose loop hangs is what the manager can't see.
            self._crew.kill_silent(math.ceil(max(SILENT_SECONDS / self._manager.ping_seconds, 2)))

    # Workers -----------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        worker = self._crew.start(number)
        for node_id, endpoint in self._state.brokers.all().items():
            self._crew.send(worker, "broker", node_id=node_id, host=endpoint.host, port=endpoint.port)

    def _ready(self, worker: WorkerProcess, realm: str) -> None:
        if self._signals.has_stopped:
            return
        self._balance.add(worker.number)
        _log.info("worker_ready", worker=worker.number, pid=worker.pid)
        if self.is_starting:
            self._realm = realm
            others = range(_FIRST + 1, _FIRST + self.settings.workers)
            self._awaited |= {*others}
            for number in others:
                self._start(number)
        self._no_longer_awaited(worker.number)

    def _no_longer_awaited(self, number: int) -> None:
        self._awaited.discard(number)
        if not self._awaited and not self._reception.is_open:
            self._reception.open(self._realm)
            self._manager.ready()

    def _is_replaced(self, worker: WorkerProcess, exit_code: int) -> bool:
        """Forget a worker that has ended, and return whether there is to be another one."""
        self._balance.remove(worker.number)
        self._reloading.lost(worker)
        self._overview.retire(worker.pid)
        if self._signals.has_stopped:
            if not self._crew.workers:
                self._exit_code = 0
            return False
        if self.is_starting:
            self._exit_code = exit_code if exit_code > 0 else _CRASHED  # it has said why
            return False
        self._no_longer_awaited(worker.number)
        return True

    def _hear(self, worker: WorkerProcess, message: Message) -> None:
        values = message.values
        match message.kind:
            case "ready":
                self._ready(worker, values["realm"])
            case "ended":
                self._balance.ended(values["number"])
            case "report":
                worker.looks_since_report = 0
                self._balance.note_load(worker.number, values["cpu_seconds"], time.monotonic())
                self._overview.update(worker.pid, values["samples"], values.get("status"))
            case "broker":
                self._state.brokers.hear(*endpoint_of(values))
                self._crew.send_all(message.kind, **values)  # also to who says so: the parent's order counts
            case "tried" | "reloaded":
                self._reloading.hear(worker, message)
            case "ask_reload":
                self._reloading.begin(partial(self._answer, worker, values["number"]))
            case "ask_level":
                self._answer(worker, values["number"], self._reloading.change_level(values["level"]))
            case "drop":
                self._crew.send_all(message.kind, **values)
            case "look":
                self._answer(worker, values["number"], self._overview.look())
            case kind:
                self._answer(worker, values["number"], self._state.answer(kind, values))

    def _answer(self, worker: WorkerProcess, number: int, answer: Any) -> None:
        """Answer a worker's question, unless it has ended meanwhile."""
        if worker in self._crew.workers:
            self._crew.send(worker, "answer", number=number, answer=answer)

    def _hand_over(self, arrival: Arrival) -> bool:
        """Give a client to a worker, and return whether there is one for the next.

        What one worker told before this client came, such as a broker's address, the others hear before they get it.
        """
        for worker in self._crew.workers:
            self._crew.attend(worker)
        if not self._balance.workers:
            arrival.sock.close()
            return False
        number, connection = self._balance.choose((arrival.place, arrival.node_id))
        (worker,) = (worker for worker in self._crew.workers if worker.number == number)
        place = {"place": arrival.place, "node_id": arrival.node_id, "host": arrival.host}
        self._crew.send(worker, "take", sock=arrival.sock, number=connection, **place)
        return True

    def _show(self, sock: socket.socket) -> None:
        """Give who asks at the admin port to the worker that has been ready for longest."""
        worker = next((one for one in self._crew.workers if one.number in self._balance.workers), None)
        if worker is None:
            sock.close()
        else:
            self._crew.send(worker, "admin", sock=sock)

    # Signals -----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Let nobody connect any more, and have the workers drain."""
        self._manager.stopping()
        self._reception.close()
        self._deadline = time.monotonic() + self.settings.limits.drain_seconds + GRACE_SECONDS
        self._crew.drain()
        if not self._crew.workers:
            self._exit_code = 0

    def _report(self) -> None:
        workers = [
            {
                "worker": worker.number,
                "pid": worker.pid,
                "connections": self._balance.connections_of(worker.number),
                "cpu_seconds": round(self._balance.cpu_seconds_of(worker.number), 3),
            }
            for worker in self._crew.workers
        ]
        _log.info("metrics", **for_log(self._overview.samples()), workers=workers)
