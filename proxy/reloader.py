"""Reloads of the only process, one after the other: at SIGHUP, or as the admin socket asks."""

import asyncio
from typing import Any, Protocol

from kveil.proxy import log
from kveil.proxy.admin.metrics import Reloads
from kveil.proxy.config import Problem, Settings
from kveil.proxy.reload import Outcome, Read, ReloadRefused, change_level, read_again, tell_changed, tell_refused
from kveil.proxy.systemd import ServiceManager

_log = log.get_logger(__name__)

FAILED = Problem(path="", text="the reload failed, and the old configuration stays: see the log of the proxy")
"""What is told of a defect of ours."""


class Reloaded(Protocol):
    """Whose settings are replaced."""

    @property
    def settings(self) -> Settings:
        """Those in force."""
        ...

    @property
    def reloads(self) -> Reloads:
        """How reloading went."""
        ...

    async def reload(self, settings: Settings, *, tries_keys: bool) -> None:
        """Go by these settings from now on. Raises ReloadRefused."""


class Reloader:
    """Reads the configuration again with `read`."""

    def __init__(self, server: Reloaded, read: Read, manager: ServiceManager) -> None:
        self._server = server
        self._read = read
        self._manager = manager
        self._turn = asyncio.Lock()
        self._begun: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """Reload, and tell what comes of it in the log alone."""
        task = asyncio.get_running_loop().create_task(self.reload())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def reload(self) -> dict[str, Any]:
        """Reload, and return what came of it."""
        async with self._turn:
            with self._manager.reloading():
                return (await self._reload()).as_json()

    async def change_level(self, level: str) -> dict[str, Any]:
        """Log from this level on, until the next reload."""
        return change_level(level).as_json()

    async def _reload(self) -> Outcome:
        old, reloads = self._server.settings, self._server.reloads
        try:
            new = await asyncio.to_thread(read_again, self._read, old)
            await self._server.reload(new, tries_keys=True)
        except ReloadRefused as error:
            reloads.is_failed = True
            return tell_refused(error)
        except Exception:
            reloads.is_failed = True
            _log.exception("config_reload_failed")
            return Outcome(problems=(FAILED,))
        reloads.succeeded()
        return tell_changed(old, new)
