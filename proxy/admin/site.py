"""The admin port: what is asked for over HTTP, from this machine alone.

| path | what it answers |
|---|---|
| `/` | the status page |
| `/events` | its parts again and again, as server-sent events |
| `/livez` | 200 while the event loop runs |
| `/readyz` | 200 or 503, and which check failed, as JSON |
| `/metrics` | Prometheus' text format |
| `/config` | the settings in force, as JSON |

It changes nothing, so it asks for no login. A web page of another host must not read it by giving its own name this
machine's address: requests that name another host than this machine are refused.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from kveil.proxy.admin.exposition import CONTENT_TYPE, exposition
from kveil.proxy.admin.overview import POINT_SECONDS
from kveil.proxy.admin.page import page, parts
from kveil.proxy.admin.readiness import Readiness
from kveil.proxy.admin.shown_settings import shown
from kveil.proxy.config import HostPort, Settings
from kveil.proxy.log import get_logger

_log = get_logger(__name__)

Look = Callable[[], Awaitable[dict[str, Any]]]
"""Asks for what `Overview.look` returns."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_END_SECONDS: Final = 1.0
SHOWN_SECONDS: Final = 10.0
"""How old the page's word on cluster and keys may be."""
MOST_VIEWERS: Final = 16
"""Pages that are open at a time: each is drawn anew every two seconds, some ms for which clients wait."""


class AdminSite:
    """Serves the admin port, at sockets that listen, or to clients that somebody else has accepted."""

    def __init__(self, settings: Settings, readiness: Readiness, look: Look) -> None:
        self._settings = settings
        self._readiness = readiness
        self._look = look
        app = web.Application(middlewares=[_guard])
        self._ending = asyncio.Event()
        self._viewers = 0
        for path, handler in {
            "/": self._page,
            "/style.css": self._style,
            "/page.js": self._script,
            "/events": self._events,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/config": self._config,
        }.items():
            app.router.add_get(path, handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_SECONDS, handle_signals=False)

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Serve from now on."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def take(self, sock: socket.socket) -> None:
        """Serve a client that was accepted."""
        sock.setblocking(False)
        if self._runner.server is None:
            sock.close()
            return
        await asyncio.get_running_loop().connect_accepted_socket(self._runner.server, sock)

    async def stop(self) -> None:
        """Serve no more."""
        self._ending.set()
        await self._runner.cleanup()

    async def _page(self, _request: web.Request) -> web.Response:
        look, readiness = await asyncio.gather(self._look(), self._readiness.check(SHOWN_SECONDS))
        return web.Response(text=page(self._settings, look, readiness), content_type="text/html")

    async def _style(self, _request: web.Request) -> web.Response:
        return web.Response(text=_asset("style.css"), content_type="text/css")

    async def _script(self, _request: web.Request) -> web.Response:
        return web.Response(text=_asset("page.js"), content_type="text/javascript")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._viewers >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable(text="too many pages are open\n")
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        self._viewers += 1
        try:
            await response.prepare(request)
            while not self._ending.is_set():
                look, readiness = await asyncio.gather(self._look(), self._readiness.check(SHOWN_SECONDS))
                await response.write(b"data: %s\n\n" % json.dumps(parts(look, readiness)).encode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), POINT_SECONDS)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._viewers -= 1
        return response

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        found = await self._readiness.check()
        return web.json_response(found, status=200 if found["ready"] else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        look = await self._look()
        return web.Response(body=exposition(look["samples"]), headers={"Content-Type": CONTENT_TYPE})

    async def _config(self, _request: web.Request) -> web.Response:
        return web.json_response(shown(self._settings), dumps=lambda value: json.dumps(value, indent=2))


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


@web.middleware
async def _guard(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """Refuse other hosts' names, and put the headers on that keep a browser from doing more than it should."""
    try:
        response = await handler(request) if _names_this_machine(request.host) else _refused()
    except web.HTTPException as error:
        error.headers.update(_HEADERS)
        raise
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        _log.exception("admin_request_failed", path=request.path)
        response = web.Response(status=500, text="this failed: see the log of the proxy\n")
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response


def _refused() -> web.Response:
    return web.Response(status=403, text="the admin port is for this machine alone: name it localhost or 127.0.0.1\n")


def _names_this_machine(host: str) -> bool:
    name = host if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else f"{host}:80"
    try:
        return HostPort.parse(name).is_loopback
    except ValueError:
        return False
