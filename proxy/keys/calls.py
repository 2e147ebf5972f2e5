"""Calls to key services: each with a deadline, a few tries, and a breaker for when the service is down.

Wraps and unwraps have slots and breakers of their own, so that a broker which makes up keys to be unwrapped can't
stop sealing.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.keys.breaker import Breaker
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription, KeyProvider
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.policy import SERVICES

TRIES: Final = 3
FIRST_PAUSE_SECONDS: Final = 0.1
SLOTS: Final = 16
"""Calls of one kind to one service at the same time. A start with many topics needs no more, and a service no less."""

T = TypeVar("T")
_log = get_logger(__name__)


class KeyCalls:
    """The calls to one provider."""

    def __init__(
        self,
        provider: KeyProvider,
        timeout_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._wraps = _Line(provider, "wrap", timeout_seconds, metrics, clock)
        self._unwraps = _Line(provider, "unwrap", timeout_seconds, metrics, clock)
        self._looks = _Line(provider, "describe", timeout_seconds, metrics, clock)

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """As the provider's. Raises KeyDenied or KeyUnavailable."""
        return await self._wraps.run(lambda: self.provider.wrap(name, secret, context))

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """As the provider's. Raises KeyRefused, KeyDenied or KeyUnavailable."""
        return await self._unwraps.run(lambda: self.provider.unwrap(block, context))

    async def describe(self, name: str) -> KeyDescription:
        """As the provider's. Raises KeyDenied or KeyUnavailable."""
        return await self._looks.run(lambda: self.provider.describe(name))


class _Line:
    """One kind of call to one provider."""

    def __init__(
        self,
        provider: KeyProvider,
        operation: str,
        timeout_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._service = SERVICES[provider.id].value
        self._place = provider.place
        self._operation = operation
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics
        self._breaker = Breaker(clock)
        self._slots = asyncio.Semaphore(SLOTS)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call gives, after a few tries at most."""
        async with self._slots:
            for tries_left in reversed(range(TRIES)):
                # Asked before each try: others may have found out meanwhile that the service is down.
                if not self._breaker.admits():
                    msg = f"{self._service} at {self._place} doesn't answer; it is asked again in a few seconds"
                    raise KeyUnavailable(msg)
                try:
                    with self._metrics.key_call(self._service, self._operation):
                        return await self._try(call)
                except KeyUnavailable:
                    if not tries_left:
                        raise
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (TRIES - 1 - tries_left) * random.random())  # noqa: S311
        raise AssertionError

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await call()
        except (KeyRefused, KeyDenied) as error:
            self._answered("denied" if isinstance(error, KeyDenied) else "refused")
            raise
        except KeyUnavailable as error:
            self._failed(str(error))
            raise
        except TimeoutError:
            msg = f"{self._service} at {self._place} didn't answer within {self._timeout_seconds:g} s"
            self._failed(msg)
            raise KeyUnavailable(msg) from None
        except Exception as error:
            # A library's own, whose text may hold anything.
            msg = f"{self._service} at {self._place} failed with {type(error).__name__}"
            self._failed(msg)
            raise KeyUnavailable(msg) from None
        self._answered("ok")
        return found

    def _answered(self, outcome: str) -> None:
        self._metrics.key_calls[self._service, self._operation, outcome] += 1
        if self._breaker.succeeded():
            _log.info("key_service_back", service=self._service, place=self._place, operation=self._operation)

    def _failed(self, reason: str) -> None:
        self._metrics.key_calls[self._service, self._operation, "unavailable"] += 1
        is_down = self._breaker.failed()
        log_limited(
            _log.error if is_down else _log.warning,
            "key_service_down" if is_down else "key_service_failed",
            key=(self._service, self._place, self._operation),
            service=self._service,
            place=self._place,
            operation=self._operation,
            reason=reason,
        )
