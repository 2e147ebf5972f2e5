"""All checks, in the order in which one is the ground of the next."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from kveil.proxy.addresses import Endpoint
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Settings
from kveil.proxy.context import Shared
from kveil.proxy.doctor import canary, certificates, cluster, files, keys, reached, topics
from kveil.proxy.doctor.examination import Check
from kveil.proxy.doctor.findings import Finding, Level, failure, ok, skipped
from kveil.proxy.doctor.reach import Reached, reach
from kveil.proxy.keys.errors import KeySetupError
from kveil.proxy.keys.realm import Realm
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import Policy
from kveil.proxy.server import share
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users_store import check_users

CONFIGURATION: Final = "configuration"
UPSTREAM: Final = "upstream"
BROKERS: Final = "brokers"
USERS: Final = "users"

_AT_ONCE_SECONDS: Final = 5.0
"""For what doesn't leave this host."""
_REACH_SECONDS: Final = 30.0
"""All brokers at the same time, each a few steps of `reach.STEP_SECONDS`."""
_LOGIN_SECONDS: Final = 30.0
"""A token may have to be fetched first."""
_KEYS_SECONDS: Final = 60.0
"""Three tries, each as long as keys.call_timeout_seconds says, which are 5 unless set."""
_QUESTION_SECONDS: Final = 15.0
_CANARY_SECONDS: Final = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the user wants to be looked at."""

    config: Path | None = None
    topics: Sequence[str] = ()
    canary: bool = True
    canary_topic: str | None = None
    """None for a temporary one."""


@dataclass(slots=True)
class Examined:
    """One configuration, and what the checks have learnt for those behind them."""

    settings: Settings
    order: Order
    policy: Policy = field(init=False)
    shared: Shared = field(init=False)
    reached: list[Reached] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Rules that name who may don't bind who has the configuration and the keys.
        for_all = {"producers": None, "consumers": None}
        rules = tuple(rule.model_copy(update=for_all) for rule in self.settings.topics)
        open_to_all = self.settings.model_copy(update={"topics": rules, "workers": 1})
        self.policy = Policy(open_to_all)
        try:
            self.shared = share(open_to_all)
        except KeySetupError:  # which the check of the keys tells, and no other needs one
            self.shared = share(open_to_all, _ring_without_keys)

    def checks(self) -> list[Check]:
        """Return what there is to do."""
        needs_keys = ("keys",) if self.order.canary else ()
        return [
            Check(name=CONFIGURATION, look=self._configuration, seconds=_AT_ONCE_SECONDS),
            Check(name=files.CHECK, look=self._files, seconds=_AT_ONCE_SECONDS),
            Check(name=USERS, look=self._users, seconds=_AT_ONCE_SECONDS),
            Check(name=certificates.CHECK, look=self._certificates, seconds=_AT_ONCE_SECONDS),
            Check(name=keys.CHECK, look=self._keys, seconds=_KEYS_SECONDS),
            Check(name=UPSTREAM, look=self._upstream, seconds=_REACH_SECONDS),
            Check(name=cluster.APIS, look=self._apis, seconds=_AT_ONCE_SECONDS, needs=(UPSTREAM,)),
            Check(name=cluster.LOGIN, look=self._login, seconds=_LOGIN_SECONDS, needs=(UPSTREAM,)),
            Check(name=cluster.PLACES, look=self._places, seconds=_AT_ONCE_SECONDS, needs=(cluster.LOGIN,)),
            Check(name=BROKERS, look=self._brokers, seconds=_REACH_SECONDS, needs=(cluster.LOGIN,)),
            Check(name=topics.CHECK, look=self._topics, seconds=_QUESTION_SECONDS, needs=(cluster.LOGIN,)),
            Check(name=canary.CHECK, look=self._canary, seconds=_CANARY_SECONDS, needs=(cluster.LOGIN, *needs_keys)),
        ]

    async def close(self) -> None:
        """Let go of key services."""
        await self.shared.keys.close()

    async def _configuration(self) -> list[Finding]:
        """Whoever came here has settings without a fault."""
        return [ok(CONFIGURATION, f"{self.order.config or 'what the environment and the options say'} can be used")]

    async def _files(self) -> list[Finding]:
        return files.look_at_files(self.settings, self.order.config)

    async def _users(self) -> list[Finding]:
        return look_at_users(self.settings)

    async def _certificates(self) -> list[Finding]:
        return certificates.look_at_own(self.settings, time.time())

    async def _keys(self) -> list[Finding]:
        named = [*self.order.topics, *([self.order.canary_topic] if self.order.canary_topic else [])]
        return await keys.look_at_keys(self.settings, self.policy, named)

    async def _upstream(self) -> list[Finding]:
        places = [Endpoint(address.host, address.port) for address in self.settings.upstream.bootstrap]
        self.reached = list(await asyncio.gather(*(reach(place, self.settings) for place in places)))
        now = time.time()
        found = [finding for each in self.reached for finding in reached.judge(each, self.settings, now)]
        if not any(each.is_well for each in self.reached):
            return found
        # One of them is enough to find the others by.
        return [replace(each, level=Level.WARNING) if each.level is Level.FAILURE else each for each in found]

    async def _apis(self) -> list[Finding]:
        return cluster.judge_apis(next(each.versions for each in self.reached if each.versions is not None))

    async def _login(self) -> list[Finding]:
        return await cluster.look_at_login(self.shared)

    async def _places(self) -> list[Finding]:
        return cluster.judge_places(self.settings, self.shared.brokers.all())

    async def _brokers(self) -> list[Finding]:
        """Go to each broker where it says that it is, unless the configuration names it there."""
        known = {each.endpoint for each in self.reached if each.is_well}
        brokers = {node: place for node, place in sorted(self.shared.brokers.all().items()) if place not in known}
        if not brokers:
            return [ok(BROKERS, "each is where the configuration says")]
        found = await asyncio.gather(*(reach(place, self.settings) for place in brokers.values()))
        prefixed = [(f"broker {node} ", each) for node, each in zip(brokers, found, strict=True)]
        now = time.time()
        return [one for prefix, each in prefixed for one in reached.judge(each, self.settings, now, prefix=prefix)]

    async def _topics(self) -> list[Finding]:
        return await topics.look_at_topics(self.shared, self.order.topics)

    async def _canary(self) -> list[Finding]:
        if not self.order.canary:
            return [skipped(canary.CHECK, "not sent, as told")]
        return await canary.look_at_canary(self.shared, self.order.canary_topic)


def look_at_users(settings: Settings) -> list[Finding]:
    """Read the users files."""
    if not any(listener.sasl for listener in settings.listeners):
        return []
    try:
        check_users(settings)
    except UsersFileError as error:
        return [failure(USERS, str(error), "mend the file, or make it with `kveil users add`")]
    return [ok(USERS, "every users file can be used")]


def _ring_without_keys(settings: Settings, _policy: Policy, metrics: Metrics) -> KeyRing:
    """Return a ring that seals and opens nothing."""
    return KeyRing({}, Realm(name="", hiding_key=None), settings.keys, settings.limits, metrics=metrics)
