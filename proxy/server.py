"""The process: listens, relays, drains, ends."""

import asyncio
import ctypes
import gc
import resource
import signal
import sys
import time
from contextlib import suppress
from functools import partial

import uvloop

from kveil.proxy import log
from kveil.proxy.addresses import Brokers
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Settings
from kveil.proxy.config.listener_checks import hosts_of
from kveil.proxy.context import Connection, Shared
from kveil.proxy.keys.opening import open_key_ring
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.listening import Listening
from kveil.proxy.net.relay import Relay
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import Policy
from kveil.proxy.topics import SettingsCache, TopicNames

_log = log.get_logger(__name__)

OTHER_OPEN_FILES = 64
"""The event loop's own, the key file, certificates, and the connections that are being sent away."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 32 * 1024 * 1024
"""glibc's highest threshold. By default it gives each freed block over 128 KiB back to the kernel, and the next
batch pays for it with page faults: sealing 0.9 MB takes a third of the time without them."""


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, and return the exit code.

    :raises ConfigError: a port is taken, or a file can't be used.
    :raises KeyFileError: the keys can't be used.
    """
    _keep_freed_memory()
    _take_open_files(settings)
    uvloop.run(Server(share(settings)).run())
    return 0


def share(settings: Settings) -> Shared:
    """Return what all connections of a process have in common, with nothing learnt yet.

    :raises KeyFileError: the keys can't be used.
    """
    policy = Policy(settings)
    return Shared(
        settings=settings,
        policy=policy,
        keys=open_key_ring(settings, policy),
        brokers=Brokers(),
        budget=BufferBudget(settings.limits.buffered_bytes),
        topic_names=TopicNames(),
        topic_settings=SettingsCache(settings.limits.topic_settings_seconds),
        now=time.monotonic,
        unix_time=time.time,
    )


def _keep_freed_memory() -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _take_open_files(settings: Settings) -> None:
    """Take as many open files as the system gives: many begin at 1,024, and each connection needs two.

    Without them the event loop closes new connections unheard, far below the configured limit.
    """
    ports = sum(len(hosts_of(listener)) for listener in settings.listeners) * (1 + settings.broker_ports.count)
    needed = 2 * settings.limits.max_connections + ports + OTHER_OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        _log.warning(
            "open_files_limited", open_files=hard, needed=needed, why="limits.max_connections can't be reached"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):  # macOS has a limit of its own below the one it names
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Server:
    """All listeners and relays of a process."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._upstream = Upstream(shared.settings)
        self._relays: set[Relay] = set()
        self._listening: list[Listening] = []
        self._connections = 0
        self._empty = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._listen()
        gc.freeze()  # what start-up made stays: the garbage collector is not to look at it
        await self._stopping.wait()
        await self._drain()

    def _reload(self) -> None:
        _log.info("reloading")
        self._shared.keys.reload()
        for listening in self._listening:
            listening.reload()

    # Listening ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        settings = self._shared.settings
        self._listening = [Listening(listener, settings) for listener in settings.listeners]
        for listening in self._listening:
            listening.start(partial(self._accept, listening))
            _log.info(
                "listening",
                **listening.described(),
                upstream=[str(endpoint) for endpoint in self._upstream.bootstrap],
                realm=self._shared.keys.realm,
            )

    def _accept(self, listening: Listening, node_id: int | None) -> Leg | None:
        """Return the leg of one more client, unless there are too many."""
        most = self._shared.settings.limits.max_connections
        if len(self._relays) >= most:
            log.log_limited(_log.warning, "too_many_connections", max_connections=most)
            return None
        self._connections += 1
        listener = listening.listener
        names = {"listener": listener.name} if listener.name else {}
        connection = Connection(
            shared=self._shared,
            log=_log.bind(connection=self._connections, **names),
            direction=listener.direction,
            ports=listening.places,
            host=listener.advertised_host,
            node_id=node_id,
            listener_login=listening.new_login(),
        )
        relay = Relay(connection, self._upstream, self)
        self.relay_started(relay)  # from here on, so that a client in its TLS handshake counts too
        return relay.client

    def relay_started(self, relay: Relay) -> None:
        """Keep the relay."""
        self._relays.add(relay)
        self._empty.clear()

    def relay_ended(self, relay: Relay) -> None:
        """Forget the relay."""
        self._relays.discard(relay)
        if not self._relays:
            self._empty.set()

    # Ending ------------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Take no more connections and requests, and wait for the answers that are under way."""
        _log.info("draining", connections=len(self._relays))
        for listening in self._listening:
            listening.close()
        for relay in list(self._relays):
            relay.drain()
        if self._relays:
            self._empty.clear()
            try:
                async with asyncio.timeout(self._shared.settings.limits.drain_seconds):
                    await self._empty.wait()
            except TimeoutError:
                _log.warning("drain_timed_out", connections=len(self._relays))
        for relay in list(self._relays):
            relay.abort()
        _log.info("stopped")
