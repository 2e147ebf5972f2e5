"""Reloads of all workers together. The parent reads the configuration, one worker tries it out, then all take it up.

A worker that can't take up what another one could, such as for a file that has changed since, says so and stays as it
is. One that is started meanwhile or later has the new settings from its parent.
"""

import base64
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from kveil.proxy import log
from kveil.proxy.admin.metrics import Reloads
from kveil.proxy.admin.overview import Overview
from kveil.proxy.config import Problem, Settings
from kveil.proxy.reload import Outcome, Read, ReloadRefused, change_level, read_again, tell_changed, tell_refused
from kveil.proxy.systemd import ServiceManager
from kveil.proxy.workers.channel import Message
from kveil.proxy.workers.crew import Crew
from kveil.proxy.workers.processes import WorkerProcess

Answer = Callable[[dict[str, Any]], None]
"""Gets what came of a reload."""


def packed(settings: Settings) -> str:
    """Return settings as a worker takes them from its parent. Secrets are references there."""
    return base64.b64encode(pickle.dumps(settings)).decode()


def unpacked(text: str) -> Settings:
    """Return what the parent has packed."""
    settings: Settings = pickle.loads(base64.b64decode(text))  # noqa: S301 - from the parent, over its own socket
    return settings


class Reloading:
    """The settings in force, and what is under way to replace them. Who asks meanwhile gets a reload of their own."""

    def __init__(self, settings: Settings, read: Read, crew: Crew, manager: ServiceManager, overview: Overview) -> None:
        self.settings = settings
        self._read = read
        self._crew = crew
        self._manager = manager
        self._overview = overview
        self._reloads = Reloads()
        self._announced = ExitStack()
        self._answers: list[Answer] = []
        self._waiting: list[Answer] = []
        self._new: Settings | None = None
        """None while nothing is under way."""
        self._trying: int | None = None
        """The worker that tries the new settings out."""
        self._outcome = Outcome()
        self._awaited: set[int] = set()
        """Workers that are to take them up."""
        self.report()

    def report(self) -> None:
        """Tell the overview how reloading went."""
        self._overview.update(os.getpid(), self._reloads.samples(), None)

    def begin(self, answer: Answer | None = None) -> None:
        """Reload, now or after the one that is under way."""
        self._waiting.append(answer or (lambda _: None))
        if not self._answers:
            self._begin()

    def change_level(self, level: str) -> dict[str, Any]:
        """Have all workers log from this level on, until the next reload."""
        outcome = change_level(level)
        if outcome.changed:
            self._crew.send_all("level", level=level)
        return outcome.as_json()

    def _begin(self) -> None:
        self._answers, self._waiting = self._waiting, []
        worker = next((one for one in self._crew.workers if one.looks_since_report is not None), None)
        if worker is None:  # at the start too, when the service manager isn't to hear that all is ready
            self._refuse(ReloadRefused([Problem(path="", text="no worker is there to try it out: reload again")]))
            return
        self._announced.enter_context(self._manager.reloading())
        try:
            self._new = read_again(self._read, self.settings)
        except ReloadRefused as error:
            self._refuse(error)
            return
        self._trying = worker.number
        self._crew.send(worker, "try_out", settings=packed(self._new))

    def hear(self, worker: WorkerProcess, message: Message) -> None:
        """Take what a worker says of its trying out, or its reload."""
        problems = [Problem(**problem) for problem in message.values["problems"]]
        if message.kind == "tried" and self._trying == worker.number:
            self._trying = None
            if problems:
                self._refuse(ReloadRefused(problems))
            else:
                self._take_up()
        elif message.kind == "reloaded" and worker.number in self._awaited:
            found = [Problem(path=one.path, text=f"worker {worker.number}: {one.text}") for one in problems]
            self._outcome = Outcome(changed=self._outcome.changed, problems=(*self._outcome.problems, *found))
            self._no_longer_awaited(worker.number)

    def lost(self, worker: WorkerProcess) -> None:
        """Wait no longer for a worker that has ended."""
        if self._trying == worker.number:
            self._trying = None
            text = "the worker that tried it out has ended: reload again"
            self._refuse(ReloadRefused([Problem(path="", text=text)]))
        elif worker.number in self._awaited:
            self._no_longer_awaited(worker.number)

    def _take_up(self) -> None:
        if self._new is None:
            return
        old, self.settings = self.settings, self._new
        log.set_level(self.settings.log.level.value)
        self._outcome = tell_changed(old, self.settings)
        self._reloads.succeeded()
        self._awaited = {worker.number for worker in self._crew.workers}
        self._crew.send_all("reload", settings=packed(self.settings))

    def _no_longer_awaited(self, number: int) -> None:
        self._awaited.discard(number)
        if not self._awaited:
            self._reloads.is_failed = bool(self._outcome.problems)
            self._end(self._outcome)

    def _refuse(self, error: ReloadRefused) -> None:
        self._reloads.is_failed = True
        self._end(tell_refused(error))

    def _end(self, outcome: Outcome) -> None:
        self._new = None
        self._announced.close()
        self.report()
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(outcome.as_json())
        if self._waiting:
            self._begin()
