"""All connections of a process: relays them, drains, ends."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import uvloop

from kveil.proxy import log
from kveil.proxy.addresses import Brokers
from kveil.proxy.admin.audit import audit
from kveil.proxy.admin.audit_trail import Trail
from kveil.proxy.admin.metrics import Metrics, Reloads, for_log
from kveil.proxy.admin.overview import POINT_SECONDS, Overview
from kveil.proxy.admin.shown import config_digest
from kveil.proxy.admin.status import status_of
from kveil.proxy.admin.survey import Survey
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Settings
from kveil.proxy.context import Connection, Shared
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.opening import open_announced_keys, open_key_ring, open_record_keys
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.net.accepting import Accepting, Take
from kveil.proxy.net.admin_socket import bind_admin
from kveil.proxy.net.doors import Arrival
from kveil.proxy.net.listening import Listening
from kveil.proxy.net.relay import Relay
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import Policy
from kveil.proxy.process import keep_freed_memory, take_open_files
from kveil.proxy.reload import Fresh, Read, Retired, make_fresh, put_in_place
from kveil.proxy.reloader import Reloader
from kveil.proxy.systemd import ServiceManager
from kveil.proxy.topics import SettingsCache, TopicNames
from kveil.proxy.tracing import open_tracer

if TYPE_CHECKING:
    from kveil.proxy.admin.site import AdminSite, Control, Look
    from kveil.proxy.net.audit_topic import AuditTopic

_log = log.get_logger(__name__)

BEGIN_SECONDS = 10.0
"""How long a start waits for the control topic. What can't be known by then is found out when a key is needed."""

_T = TypeVar("_T")

AUDIT_SECONDS = 1.5
"""How much longer than `limits.drain_seconds` the last audit events may take to their sinks: less than the supervisor
waits for a worker."""


def serve(settings: Settings, read: Read) -> int:
    """Run until SIGTERM or SIGINT, and return the exit code. `read` reads the settings again for a reload.

    :raises ConfigError: a port is taken, or a file can't be used.
    :raises KeySetupError: the keys can't be used.
    """
    keep_freed_memory()
    take_open_files(settings)
    run_loop(_serve(share(settings), read))
    _log.info("stopped")
    return 0


def run_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Run an event loop until the work is done, and return what came of it."""
    return uvloop.run(work)


async def _serve(shared: Shared, read: Read) -> None:
    server = Server(shared)
    manager = ServiceManager()
    reloader = Reloader(server, read, manager)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, reloader.begin)
    loop.add_signal_handler(signal.SIGUSR1, lambda: _log.info("metrics", **for_log(server.survey.samples())))
    async with _admin_port(server, shared.settings, reloader):
        await server.run(_Announced(Accepting(shared.settings, shared.keys.realm), manager))


@asynccontextmanager
async def _admin_port(server: "Server", settings: Settings, reloader: Reloader) -> AsyncIterator[None]:
    """Serve the admin port for the length of a block, if there is one.

    :raises ConfigError: the port is taken.
    """
    sockets = bind_admin(settings)
    if not sockets:
        yield
        return
    overview = Overview(keeps_history=True)

    def update() -> None:
        overview.update(os.getpid(), server.survey.samples(), status_of(server.survey))

    async def update_often() -> None:
        while True:
            update()
            await asyncio.sleep(POINT_SECONDS)

    async def look() -> dict[str, Any]:
        update()
        return overview.look()

    site = server.admin_site(look, reloader)
    await site.start(sockets)
    updating = asyncio.get_running_loop().create_task(update_often())
    try:
        yield
    finally:
        updating.cancel()
        await site.stop()


def share(settings: Settings, open_ring: Callable[[Settings, Policy, Metrics], KeyRing] = open_key_ring) -> Shared:
    """Return what all connections of a process have in common, with nothing learnt yet.

    :raises KeySetupError: the keys can't be used.
    """
    policy = Policy(settings)
    metrics = Metrics()
    keys = open_ring(settings, policy, metrics)
    return Shared(
        settings=settings,
        policy=policy,
        metrics=metrics,
        keys=keys,
        record_keys=open_record_keys(settings, policy, keys),
        announced_keys=open_announced_keys(settings, policy),
        brokers=Brokers(),
        budget=BufferBudget(settings.limits.buffered_bytes // settings.workers),
        topic_names=TopicNames(),
        topic_settings=SettingsCache(settings.limits.topic_settings_seconds),
        now=time.monotonic,
        unix_time=time.time,
    )


class Source(Protocol):
    """Where connections come from."""

    def open(self) -> None:
        """Have what it takes. Raises ConfigError: a port is taken."""

    def start(self, take: Take) -> None:
        """Take connections from now on."""

    def close(self) -> None:
        """Take no more."""


class _Announced:
    """A source that the service manager is told of. Its pings end with the loop, not before the last answer."""

    def __init__(self, source: Source, manager: ServiceManager) -> None:
        self._source = source
        self._manager = manager
        self._has_started = False

    def open(self) -> None:
        self._source.open()

    def start(self, take: Take) -> None:
        self._source.start(take)
        self._has_started = True
        self._manager.ready()
        self._ping()

    def close(self) -> None:
        if self._has_started:
            self._manager.stopping()
        self._source.close()

    def _ping(self) -> None:
        seconds = self._manager.ping_seconds
        if seconds is not None:
            self._manager.ping()
            asyncio.get_running_loop().call_later(seconds, self._ping)


class Server:
    """All relays of a process."""

    def __init__(self, shared: Shared) -> None:
        """Raises OSError, ValueError or UsersFileError if a listener's files can't be used."""
        self._shared = shared
        self._upstream = Upstream(shared.settings)
        self._listening = [Listening(listener, shared.settings) for listener in shared.settings.listeners]
        self._relays: dict[Relay, Callable[[], None]] = {}
        """Each with who wants to know when it has ended."""
        self._connections = 0
        self._trail = Trail(shared.settings.audit, self._go_on)
        self._drained_by: float | None = None
        self._tracer = open_tracer(shared.settings)
        self.survey = Survey(shared, self._upstream.own_credentials, self._relays, self._trail)
        """What can be told of this process."""
        self._retired = Retired()
        self._empty = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self, source: Source) -> None:
        """Serve until told to stop, then drain.

        :raises ConfigError: a port is taken, or the audit is required and can't be had.
        :raises KeySetupError: what this node's identity must remember was rolled back.
        """
        try:
            source.open()  # first: a second instance by mistake is no start that anybody has to answer for
            async with self._trail.recording(self._audit_topic(), self._seconds_left):
                settings = self._shared.settings
                audit("proxy.started", config_digest(settings), version=version("kveil"), workers=settings.workers)
                try:
                    await self._trail.check()
                    await self._serve(source)
                finally:
                    audit("proxy.stopped", config_digest(self._shared.settings))
        except BaseException:
            source.close()
            raise
        finally:
            await self._retired.close()
            await self._shared.keys.close()
            if self._tracer is not None:
                await self._tracer.close()

    async def _serve(self, source: Source) -> None:
        async with AsyncExitStack() as stack:
            await self._follow_topics(stack)
            source.start(self.take)
            self.survey.start()
            gc.freeze()  # what start-up made stays: the garbage collector is not to look at it
            await self._stopping.wait()
            self._drained_by = self._shared.now() + self._shared.settings.limits.drain_seconds
            source.close()
            await self.drain()
        self.survey.stop()

    def _audit_topic(self) -> "AuditTopic | None":
        settings = self._shared.settings.audit
        if settings.topic is None:
            return None
        from kveil.proxy.net.audit_topic import AuditTopic  # a client of the cluster's, which few need

        return AuditTopic(self._shared, settings.topic, settings.queue, self._upstream)

    def _seconds_left(self) -> float:
        """How long the end may take: none where nothing was served."""
        return 0.0 if self._drained_by is None else max(0.0, self._drained_by - self._shared.now()) + AUDIT_SECONDS

    async def _follow_topics(self, stack: AsyncExitStack) -> None:
        """Follow the proxy's own topics, if any rule needs them."""
        record_keys, announced_keys = self._shared.record_keys, self._shared.announced_keys
        if record_keys is None and announced_keys is None:
            return
        from kveil.proxy.net.following import following, following_announced  # a client of the cluster's, for few

        if record_keys is not None:
            await stack.enter_async_context(following(self._shared, record_keys))
        if announced_keys is not None:
            await stack.enter_async_context(following_announced(self._shared, announced_keys))
            try:
                async with asyncio.timeout(BEGIN_SECONDS):
                    await announced_keys.begin(seals=self._shared.seals)
            except (KeyUnavailable, TimeoutError) as error:
                _log.warning("control_topic_unread", reason=str(error) or "the cluster doesn't answer")

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._shared.settings

    @property
    def reloads(self) -> Reloads:
        """How reloading went."""
        return self._shared.metrics.reloads

    async def try_out(self, settings: Settings) -> None:
        """Find out whether these settings can be taken up.

        :raises ReloadRefused: they can't.
        """
        fresh = await self._make_fresh(settings, tries_keys=True)
        if fresh.keys is not None:
            await fresh.keys.close()

    async def reload(self, settings: Settings, *, tries_keys: bool) -> None:
        """Go by these settings from now on, and by keys, certificates and users as their files have them now.

        :raises ReloadRefused: they can't be taken up, and the old ones stay.
        """
        fresh = await self._make_fresh(settings, tries_keys=tries_keys)
        _log.info("reloading")
        retired = put_in_place(self._shared, fresh)
        self._upstream.take_over(fresh.upstream)
        self.survey.log_in_with(self._upstream.own_credentials)
        for listening, new in zip(self._listening, fresh.listening, strict=True):
            listening.take_over(new)
        if retired is not None:
            self._retired.add(retired)

    async def _make_fresh(self, settings: Settings, *, tries_keys: bool) -> Fresh:
        return await asyncio.to_thread(make_fresh, self._shared, settings, tries_keys=tries_keys)

    def admin_site(self, look: "Look", control: "Control") -> "AdminSite":
        """Return what the admin port serves. `look` asks for what is known of all processes."""
        from kveil.proxy.admin.readiness import Readiness
        from kveil.proxy.admin.site import AdminSite  # an HTTP server, which few need

        readiness = Readiness(self._shared, self._upstream, self._stopping.is_set, self._trail)
        return AdminSite(self._shared, readiness, look, control)

    # Connections -------------------------------------------------------------------------------------------------

    def take(self, arrival: Arrival, when_ended: Callable[[], None]) -> None:
        """Serve one more client."""
        if self.holds:
            log.log_limited(_log.warning, "audit_holds_clients", reason=self._trail.trouble)
            arrival.sock.close()
            when_ended()
            return
        listening = self._listening[arrival.place]
        self._connections += 1
        listener = listening.listener
        names = {"listener": listener.name} if listener.name else {}
        connection = Connection(
            shared=self._shared,
            log=_log.bind(connection=self._connections, **names),
            direction=listener.direction,
            ports=listening.places,
            host=listener.advertised_host,
            node_id=arrival.node_id,
            listener_login=listening.new_login(),
            tracer=self._tracer,
        )
        relay = Relay(connection, self._upstream, self)
        self._relays[relay] = when_ended  # from here on, so that a client in its TLS handshake counts too
        self._shared.metrics.connections += 1
        self._shared.metrics.connections_open += 1
        self._empty.clear()
        listening.take(arrival, relay.client)

    @property
    def holds(self) -> bool:
        """Whether nothing may pass now, since nobody would have a record of it."""
        return self._trail.holds

    def _go_on(self) -> None:
        for relay in list(self._relays):
            relay.go_on()

    def relay_ended(self, relay: Relay) -> None:
        """Forget the relay."""
        when_ended = self._relays.pop(relay, None)
        if when_ended is not None:
            self._shared.metrics.connections_open -= 1
            when_ended()
        if not self._relays:
            self._empty.set()

    # Ending ------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more requests, and wait for the answers that are under way."""
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
