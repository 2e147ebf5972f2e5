"""Taking up another configuration while clients are connected: all of it, or nothing.

First everything new is made beside the old, which may fail and takes time: files are read, certificates loaded, keys
tried. Then it takes the place of the old within one step of the event loop, which can't fail. So no request meets half
of a configuration: it is sealed by the rules in force when it goes on to the broker, and an answer is opened by those
in force when its opening begins.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kveil.proxy import log
from kveil.proxy.admin.audit import audit
from kveil.proxy.admin.shown import config_digest
from kveil.proxy.config import ConfigError, KeyService, Problem, Settings
from kveil.proxy.config.changes import changed_paths, restart_problems
from kveil.proxy.context import Shared
from kveil.proxy.keys.errors import KeySetupError
from kveil.proxy.keys.opening import check_keys, check_realm, open_key_ring, open_provider
from kveil.proxy.keys.realm import open_realm
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.net.listening import Listening
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import PROVIDER_IDS, Policy
from kveil.proxy.users.errors import UsersFileError

_log = log.get_logger(__name__)

RETIRED_SECONDS: Final = 60.0
"""How long a key ring is kept open that another one took the place of: its calls under way end long before."""

Read = Callable[[], Settings]
"""Reads the configuration as it was read at the start: file, environment, flags. Raises ConfigError."""


class ReloadRefused(Exception):
    """What was to be taken up can't be. The old configuration stays."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a reload, or of what else was asked for at the admin socket."""

    changed: tuple[str, ...] = ()
    """The keys of the configuration whose values are other ones now."""
    problems: tuple[Problem, ...] = ()
    """Why nothing was changed."""

    def as_json(self) -> dict[str, Any]:
        """Return it as it goes to a worker, and over the admin socket."""
        problems = [{"path": problem.path, "text": problem.text} for problem in self.problems]
        return {"changed": list(self.changed), "problems": problems}


def read_again(read: Read, old: Settings) -> Settings:
    """Return the settings that are to take the place of the old.

    :raises ReloadRefused: they are bad, or can't be taken up by a proxy that runs.
    """
    try:
        new = read()
    except ConfigError as error:
        raise ReloadRefused(error.problems) from None
    problems = restart_problems(old, new)
    if problems:
        raise ReloadRefused(problems)
    return new


def tell_refused(error: ReloadRefused) -> Outcome:
    """Log each problem, and return what came of the reload."""
    for problem in error.problems:
        _log.error("config_reload_refused", path=problem.path, reason=problem.text)
    return Outcome(problems=error.problems)


def tell_changed(old: Settings, new: Settings) -> Outcome:
    """Log and audit what has changed, by name, and return what came of the reload."""
    changed = changed_paths(old, new)
    _log.info("config_reloaded", changed=changed)
    if changed:
        audit("config.changed", "settings", paths=changed, before=config_digest(old), after=config_digest(new))
    return Outcome(changed=changed)


def change_level(level: str) -> Outcome:
    """Log from this level on, until a reload says otherwise. Told at the more talkative of the two levels."""
    if level not in log.LEVELS:
        text = f"must be one of {', '.join(log.LEVELS)}"
        return Outcome(problems=(Problem(path="log.level", text=text),))
    before = log.level()
    if level == before:
        return Outcome()
    log.set_level(min(before, level, key=log.LEVELS.__getitem__))
    _log.info("log_level_changed", before=before, after=level)
    audit("config.changed", "log.level", paths=["log.level"])
    log.set_level(level)
    return Outcome(changed=("log.level",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """What is made new beside what works."""

    settings: Settings
    policy: Policy
    keys: KeyRing | None
    """None where the ring that is there stays, with all that it knows."""
    upstream: Upstream
    listening: Sequence[Listening]


def make_fresh(shared: Shared, settings: Settings, *, tries_keys: bool) -> Fresh:
    """Make all that a configuration needs. It reads files, and may ask key services: not for the event loop.

    :raises ReloadRefused: it can't be used.
    """
    policy = Policy(settings)
    try:
        is_other_ring = _is_other_ring(shared, settings, policy)
        if tries_keys and (is_other_ring or policy.named_keys - shared.policy.named_keys):
            check_keys(settings, policy)
        return Fresh(
            settings=settings,
            policy=policy,
            upstream=Upstream(settings),
            listening=[Listening(listener, settings) for listener in settings.listeners],
            # Last: it is the one that would have to be closed again.
            keys=open_key_ring(settings, policy, shared.metrics) if is_other_ring else None,
        )
    except KeySetupError as error:
        raise ReloadRefused([Problem(path="keys", text=line) for line in str(error).splitlines()]) from None
    except (UsersFileError, OSError, ValueError) as error:  # a file that has changed since it was checked
        raise ReloadRefused([Problem(path="", text=str(error))]) from None


def _is_other_ring(shared: Shared, settings: Settings, policy: Policy) -> bool:
    """Whether it takes another key ring. Raises KeySetupError if the key file can't be used, or isn't of this realm."""
    realm = open_realm(settings, policy)
    if realm.name != shared.keys.realm:
        msg = f"these keys belong to the realm {realm.name}, and the proxy runs for {shared.keys.realm}: restart it"
        raise KeySetupError(msg)
    check_realm(settings, realm, {PROVIDER_IDS[service] for service in policy.services})
    if KeyService.KEYFILE in policy.services:
        open_provider(KeyService.KEYFILE, settings.keys)
    hiding_key_id = realm.hiding_key.id if realm.hiding_key else None
    is_same = hiding_key_id == shared.keys.kept_hiding_key_id
    return not is_same or _ring_parts(settings, policy) != _ring_parts(shared.settings, shared.policy)


def _ring_parts(settings: Settings, policy: Policy) -> tuple[object, ...]:
    """What a key ring is made of."""
    limits = settings.limits
    return settings.keys, policy.services, limits.epoch_key_hours, limits.opened_keys, limits.refused_key_seconds


def put_in_place(shared: Shared, fresh: Fresh) -> KeyRing | None:
    """Have all connections go by the new configuration, and return the key ring that is used no more."""
    retired = None
    if fresh.keys is None:
        shared.keys.reload()
    else:
        retired, shared.keys = shared.keys, fresh.keys
        shared.connect_authority()
    if shared.announced_keys is not None:
        shared.announced_keys.reload()
    shared.settings, shared.policy = fresh.settings, fresh.policy
    shared.awaited_keys.clear()  # each by a rule that may not hold any more
    shared.topic_settings.live(fresh.settings.limits.topic_settings_seconds)
    log.set_level(fresh.settings.log.level.value)
    return retired


class Retired:
    """Key rings that are used no more."""

    def __init__(self) -> None:
        self._closing: dict[asyncio.Task[None], KeyRing] = {}

    def add(self, keys: KeyRing) -> None:
        """Close one when its last calls have ended."""
        task = asyncio.get_running_loop().create_task(self._close_later(keys))
        self._closing[task] = keys
        task.add_done_callback(lambda done: self._closing.pop(done, None))

    async def _close_later(self, keys: KeyRing) -> None:
        await asyncio.sleep(RETIRED_SECONDS)
        await keys.close()

    async def close(self) -> None:
        """Close all of them now."""
        closing = dict(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*(keys.close() for keys in closing.values()))
