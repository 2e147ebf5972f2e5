"""Every audit event of a process, to each of its sinks.

Where the audit is required, `holds` says that no further request may be served: a sink is in trouble, or half full of
events that wait. What requests cause that are served already has the other half.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from kveil.proxy.admin.audit import Event, log_event, recorded_by
from kveil.proxy.admin.audit_sinks import DirectSink, EventFile, QueuedSink, Sink, write_stdout
from kveil.proxy.admin.metrics import sample_name
from kveil.proxy.config import Audit, ConfigError, Problem

RETRY_SECONDS: Final = 1.0
START_SECONDS: Final = 8.0
"""How long the first event may take to a required sink: a broker that has just started, and a key service."""
_LOOK_SECONDS: Final = 0.01


class Trail:
    """The sinks. `when_served` is called when requests may be served again."""

    def __init__(self, settings: Audit, when_served: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._when_served = when_served
        self._direct: list[DirectSink] = []
        if settings.stdout:
            self._direct.append(DirectSink("stdout", settings.queue, write_stdout))
        if settings.file is not None:
            self._direct.append(DirectSink("file", settings.queue, EventFile(settings.file).write))
        self._sinks: list[Sink] = [*self._direct]
        self._events = 0
        self.holds = False
        """Whether no further request may be served now."""

    @property
    def trouble(self) -> str | None:
        """Why clients aren't served, None if they are."""
        if not self._settings.required:
            return None
        return next((_told(sink) for sink in self._sinks if sink.trouble or sink.is_filling), None)

    @property
    def is_required(self) -> bool:
        """Whether clients are served only while events are taken."""
        return self._settings.required

    def record(self, event: Event) -> None:
        """Take an event."""
        self._events += 1
        if self._settings.log:
            log_event(event)
        if self._sinks:
            line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            for sink in self._sinks:
                sink.put(line)
            self.look()

    def look(self) -> None:
        """Find out whether requests may be served."""
        held, self.holds = self.holds, self.trouble is not None
        if held and not self.holds:
            self._when_served()

    def samples(self) -> dict[str, float]:
        """Return its metrics."""
        found: dict[str, float] = {"kveil_audit_events_total": self._events}
        for sink in self._sinks:
            found[sample_name("kveil_audit_waiting", sink=sink.name)] = len(sink.waiting)
            found[sample_name("kveil_audit_lost_total", sink=sink.name)] = sink.lost
        return found

    # Life --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def recording(self, topic: QueuedSink | None, seconds: Callable[[], float]) -> AsyncIterator[None]:
        """Record this process' events for the length of a block. At its end sinks have `seconds()` to take the rest."""
        if topic is not None:
            self._sinks.append(topic)
            topic.changed = self.look
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work) for work in (self._retry(), *([] if topic is None else [topic.run()]))]
        try:
            with recorded_by(self.record):
                yield
        finally:
            await self._drained(seconds())
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._give_up()

    @contextmanager
    def recording_now(self) -> Iterator[None]:
        """The same for a command, which has no event loop and writes to its direct sinks alone."""
        try:
            with recorded_by(self.record):
                yield
        finally:
            for sink in self._direct:
                sink.retry()
            self._give_up()

    async def check(self) -> None:
        """Return once all that was recorded has been taken, where that is required.

        :raises ConfigError: it isn't in time.
        """
        seconds = 0 if any(sink.trouble for sink in self._direct) else START_SECONDS  # a file needs no time
        if self.is_required and not await self._drained(seconds):
            late = f"it took none within {START_SECONDS:g} s"
            raise _required({sink.name: sink.trouble or late for sink in self._sinks if sink.waiting})

    async def _drained(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while any(sink.waiting for sink in self._sinks):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            for sink in self._direct:
                if sink.trouble is not None:
                    sink.retry()
            self.look()

    def _give_up(self) -> None:
        for sink in self._sinks:
            if sink.waiting:
                sink.lose(len(sink.waiting))
                sink.waiting.clear()


def for_command(settings: Audit) -> Trail:
    """Return the trail of a command: its events go to the log and the file. Standard output is its own.

    :raises ConfigError: the file is required and can't be opened.
    """
    if settings.required and settings.file is not None:
        file = EventFile(settings.file)
        try:
            file.open()
        except OSError as error:
            raise _required({"file": error.strerror or type(error).__name__}) from None
        file.close()
    return Trail(settings.model_copy(update={"stdout": False}))


def _required(reasons: dict[str, str]) -> ConfigError:
    return ConfigError(
        Problem(path=f"audit.{name}", text=f"takes no events, and audit.required is true: {reason}")
        for name, reason in reasons.items()
    )


def _told(sink: Sink) -> str:
    if sink.trouble is not None:
        return sink.trouble
    return f"{len(sink.waiting)} events wait for the {sink.name}"
