"""The admin port of a command that runs until it is stopped: `kveil authority run` and `kveil keeper run`."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kveil.proxy.admin.audit import recorded_by
from kveil.proxy.admin.identity_events import IdentityEvents
from kveil.proxy.admin.metrics import Samples
from kveil.proxy.config import Settings
from kveil.proxy.net.admin_socket import bind_admin


@asynccontextmanager
async def command_port(
    settings: Settings, samples: Callable[[], Samples], trouble: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Serve it for the length of a block, if there is one. `trouble` says why the command can't do its work.

    :raises ConfigError: the port is taken.
    """
    sockets = bind_admin(settings)
    if not sockets:
        yield
        return
    from kveil.proxy.admin.site import CommandSite  # an HTTP server, which few need

    events = IdentityEvents()

    def all_samples() -> Samples:
        return {**samples(), **events.samples(), "kveil_cpu_seconds_total": time.process_time()}

    site = CommandSite(all_samples, trouble)
    with recorded_by(events.record) as before:
        events.hand_on = before
        await site.start(sockets)
        try:
            yield
        finally:
            await site.stop()
