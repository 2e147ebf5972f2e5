"""One worker: a server whose connections come from the parent."""

import asyncio
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kveil.proxy import log
from kveil.proxy.addresses import Brokers, Endpoint
from kveil.proxy.admin.status import status_of
from kveil.proxy.agreed_names import NAME_LENGTH, AgreedNames
from kveil.proxy.config import Settings
from kveil.proxy.keys.opening import check_keys
from kveil.proxy.net.accepting import Take
from kveil.proxy.net.doors import Arrival
from kveil.proxy.policy import Policy
from kveil.proxy.reload import Outcome, ReloadRefused, tell_refused
from kveil.proxy.reloader import FAILED
from kveil.proxy.server import Server, run_loop, share
from kveil.proxy.topics import SettingsCache
from kveil.proxy.workers.channel import Message
from kveil.proxy.workers.link import ParentLink
from kveil.proxy.workers.reloading import unpacked
from kveil.proxy.workers.shared_state import MAX_HOST_LENGTH, NAMES_AT_ONCE, SharedNames, endpoint_of

if TYPE_CHECKING:
    from kveil.proxy.admin.site import AdminSite

_log = log.get_logger(__name__)

REPORT_SECONDS = 1.0
"""How often the parent hears of a worker's load and metrics."""

ORPHANED = 1
"""The exit code of a worker without a parent. Nobody is there to see it."""


def run_worker(settings: Settings, number: int, sock: socket.socket, *, checks_keys: bool) -> int:
    """Serve until the parent says otherwise, and return the exit code. `sock` is the channel.

    :raises ConfigError, KeySetupError, UsersFileError: a file can't be used.
    """
    log.bind_everywhere(worker=number)
    if checks_keys:
        check_keys(settings, Policy(settings))
    run_loop(_Worker(settings, sock).run())
    return 0


class _Worker:
    """The server, and its source of connections."""

    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self._link = ParentLink(sock, self._hear, _end_at_once)
        self._shared = replace(
            share(settings),
            brokers=Brokers(self._tell_broker),
            topic_names=AgreedNames(SharedNames(self._link.ask)),
            topic_settings=SettingsCache(settings.limits.topic_settings_seconds, self._tell_dropped),
        )
        self._take: Take | None = None
        self._site: AdminSite | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Serve, then drain."""
        self._server = Server(self._shared)
        if self._shared.settings.admin.is_on:
            self._site = self._server.admin_site(partial(self._link.ask, "look"), self)
            await self._site.start()
        self._link.start()
        reporting = asyncio.get_running_loop().create_task(self._report_often())
        await self._server.run(self)
        reporting.cancel()
        if self._site is not None:
            await self._site.stop()
        self._report()
        await self._link.flushed()

    # The source of connections -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Have nothing to open: the parent has the ports."""

    def start(self, take: Take) -> None:
        """Take connections from now on."""
        self._take = take
        self._link.tell("ready", realm=self._shared.keys.realm)

    def close(self) -> None:
        """Take no more."""
        self._take = None

    # What the parent says ----------------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        values = message.values
        match message.kind:
            case "take":
                self._serve(message)
            case "admin" if message.sock is not None and self._site is not None:
                self._begin(self._site.take(message.sock))
            case "broker":
                self._shared.brokers.hear(*endpoint_of(values))
            case "drop":
                self._shared.topic_settings.forget(values["topics"])
            case "try_out":
                self._begin(self._take_up("tried", self._server.try_out(unpacked(values["settings"]))))
            case "reload":
                new = unpacked(values["settings"])
                self._begin(self._take_up("reloaded", self._server.reload(new, tries_keys=False)))
            case "level":
                log.set_level(values["level"])
            case "drain":
                self._server.stop()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)

    async def _take_up(self, kind: str, work: Coroutine[Any, Any, None]) -> None:
        """Try settings out or take them up, one after the other, and tell the parent what was in the way."""
        outcome = Outcome()
        async with self._turn:
            try:
                await work
            except ReloadRefused as error:
                outcome = Outcome(problems=error.problems) if kind == "tried" else tell_refused(error)
            except Exception:
                _log.exception("config_reload_failed")
                outcome = Outcome(problems=(FAILED,))
            if kind == "reloaded":
                self._server.reloads.is_failed = bool(outcome.problems)
                if not outcome.problems:
                    self._server.reloads.succeeded()
        self._link.tell(kind, problems=outcome.as_json()["problems"])

    # What can be asked of the parent ------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Have all workers reload, and return what came of it."""
        answer: dict[str, Any] = await self._link.ask("ask_reload")
        return answer

    async def change_level(self, level: str) -> dict[str, Any]:
        """Have all workers log from this level on."""
        answer: dict[str, Any] = await self._link.ask("ask_level", level=level)
        return answer

    def _serve(self, message: Message) -> None:
        values, sock = message.values, message.sock
        when_ended = partial(self._link.tell, "ended", number=values["number"])
        if sock is None or self._take is None:
            if sock is not None:
                sock.close()
            when_ended()
            return
        self._take(Arrival(values["place"], values["node_id"], sock, values["host"]), when_ended)

    # What it is told ---------------------------------------------------------------------------------------------

    def _tell_broker(self, node_id: int, endpoint: Endpoint) -> None:
        if len(endpoint.host) <= MAX_HOST_LENGTH:
            self._link.tell("broker", node_id=node_id, host=endpoint.host, port=endpoint.port)

    def _tell_dropped(self, topics: Sequence[str]) -> None:
        possible = [topic for topic in topics if len(topic) <= NAME_LENGTH]
        for start in range(0, len(possible), NAMES_AT_ONCE):
            self._link.tell("drop", topics=possible[start : start + NAMES_AT_ONCE])

    async def _report_often(self) -> None:
        while True:
            self._report()
            await asyncio.sleep(REPORT_SECONDS)

    def _report(self) -> None:
        survey = self._server.survey
        status = None if self._site is None else status_of(survey)
        self._link.tell("report", cpu_seconds=time.process_time(), samples=survey.samples(), status=status)


def _end_at_once() -> None:
    """Without the parent nobody ends this process, and its ports may be another one's already."""
    _log.error("parent_lost")
    os._exit(ORPHANED)
