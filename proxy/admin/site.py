"""The admin port: what is asked for over HTTP, from this machine alone.

| path | what it answers |
|---|---|
| `/` | the status page |
| `/events` | its parts again and again, as server-sent events |
| `/livez` | 200 while the event loop runs |
| `/readyz` | 200 or 503, and which check failed, as JSON |
| `/metrics` | Prometheus' text format |
| `/config` | the settings in force, as JSON |
| `POST /reload` | reads the configuration again, says what came of it; at the socket only |
| `PUT /log-level` | sets the level of the log until a reload; at the socket only |

Nothing can be changed at the port, so it asks for no login. A web page of another host must not read it by giving its
own name this machine's address: requests that name another host than this machine are refused. The socket is a file
that only the proxy's own user can open.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from kveil.proxy.admin.exposition import CONTENT_TYPE, exposition
from kveil.proxy.admin.metrics import Samples
from kveil.proxy.admin.overview import POINT_SECONDS
from kveil.proxy.admin.page import page, parts
from kveil.proxy.admin.readiness import Readiness
from kveil.proxy.admin.shown import shown_text
from kveil.proxy.config import HostPort
from kveil.proxy.context import Shared
from kveil.proxy.log import get_logger

_log = get_logger(__name__)

Look = Callable[[], Awaitable[dict[str, Any]]]
"""Asks for what `Overview.look` returns."""


class Control(Protocol):
    """What can be changed. The answers are `Outcome`s, as JSON can hold them."""

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again."""
        ...

    async def change_level(self, level: str) -> dict[str, Any]:
        """Log from this level on."""
        ...


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

    def __init__(self, shared: Shared, readiness: Readiness, look: Look, control: Control) -> None:
        self._shared = shared
        self._control = control
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
        app.router.add_post("/reload", self._reload)
        app.router.add_put("/log-level", self._log_level)
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
        return web.Response(text=page(self._shared.settings, look, readiness), content_type="text/html")

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
        return web.Response(text=shown_text(self._shared.settings), content_type="application/json")

    async def _reload(self, request: web.Request) -> web.Response:
        if not _is_by_socket(request):
            return _not_here()
        return _answered(await self._control.reload())

    async def _log_level(self, request: web.Request) -> web.Response:
        if not _is_by_socket(request):
            return _not_here()
        return _answered(await self._control.change_level(await request.text()))


class CommandSite:
    """Serves `/livez`, `/readyz` and `/metrics` of a command that has no clients."""

    def __init__(self, samples: Callable[[], Samples], trouble: Callable[[], str | None]) -> None:
        self._samples = samples
        self._trouble = trouble
        app = web.Application(middlewares=[_guard])
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_SECONDS, handle_signals=False)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve from now on."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._trouble()
        control = {"ok": reason is None, **({} if reason is None else {"reason": reason})}
        found = {"ready": reason is None, "checks": {"control": control}}
        return web.json_response(found, status=200 if reason is None else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=exposition(self._samples()), headers={"Content-Type": CONTENT_TYPE})


def _is_by_socket(request: web.Request) -> bool:
    """Whether who asks could open the admin socket, which the file system decides."""
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def _not_here() -> web.Response:
    return web.Response(status=403, text="nothing can be changed at this port: ask at admin.socket\n")


def _answered(outcome: dict[str, Any]) -> web.Response:
    return web.json_response(outcome, status=409 if outcome["problems"] else 200)


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
