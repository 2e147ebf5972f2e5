"""Whether clients can be served: a broker answers, and whoever keeps the keys does."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from kveil.proxy.admin.audit_trail import Trail
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import KeyService
from kveil.proxy.context import Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.provider import KeyProvider
from kveil.proxy.net.own_client import own_client
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import SERVICES

CHECK_SECONDS: Final = 3.0
"""What answers later than this doesn't answer, for whoever asks."""
BELIEVED_SECONDS: Final = 1.0
"""Probes that come faster get the last answer: they must not load brokers and key services."""


class Readiness:
    """Finds out, at most once a second. `is_ending` says whether the process takes no clients any more."""

    def __init__(
        self, shared: Shared, upstream: Upstream, is_ending: Callable[[], bool], trail: Trail | None = None
    ) -> None:
        self._shared = shared
        self._upstream = upstream
        self._is_ending = is_ending
        self._trail = trail if trail is not None and trail.is_required else None
        self._checking: asyncio.Task[dict[str, Any]] | None = None
        self._checked_at = 0.0

    async def check(self, believed_seconds: float = BELIEVED_SECONDS) -> Mapping[str, Any]:
        """Return `{"ready": ..., "checks": {name: {"ok": ..., "reason": ...}}}`, no older than so many seconds."""
        now = time.monotonic()
        task = self._checking
        if task is None or (task.done() and now - self._checked_at >= believed_seconds):
            task = self._checking = asyncio.create_task(self._check())
            self._checked_at = now
        found = await asyncio.shield(task)
        if not self._is_ending():
            return found
        serving = {"ok": False, "reason": "the proxy is about to end"}
        return {"ready": False, "checks": {**found["checks"], "serving": serving}}

    async def _check(self) -> dict[str, Any]:
        providers = self._shared.keys.providers.values()
        names = ["upstream", *(f"keys: {SERVICES[provider.id]}" for provider in providers)]
        reasons = await asyncio.gather(self._upstream_reason(), *map(_keys_reason, providers))
        announced = self._shared.announced_keys
        if announced is not None:
            names.append(f"keys: {KeyService.IDENTITIES}")
            reasons.append(announced.trouble(seals=self._shared.seals))
        checks = {
            name: {"ok": reason is None, **({} if reason is None else {"reason": reason})}
            for name, reason in zip(names, reasons, strict=True)
        }
        if self._trail is not None:
            reason = self._trail.trouble
            checks["audit"] = {"ok": reason is None, **({} if reason is None else {"reason": reason})}
        return {"ready": all(check["ok"] for check in checks.values()), "checks": checks}

    async def _upstream_reason(self) -> str | None:
        """Return why no broker can be asked, None if one answered."""
        # The check is a client of its own, which isn't to be counted among the real ones.
        shared = replace(self._shared, metrics=Metrics())
        try:
            async with asyncio.timeout(CHECK_SECONDS), own_client(shared, upstream=self._upstream) as client:
                await client.look()
        except TimeoutError:
            return f"no broker answered within {CHECK_SECONDS:g} s"
        except QuestionFailed as error:
            return str(error)
        return None


async def _keys_reason(provider: KeyProvider) -> str | None:
    """Return why the keys can't be used, None if they can."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await provider.health()
    except TimeoutError:
        return f"{provider.place} didn't answer within {CHECK_SECONDS:g} s"
    except KeyUnavailable as error:
        return str(error)
    except Exception as error:
        return f"{provider.place} failed with {type(error).__name__}"  # a library's own text may hold anything
    return None
