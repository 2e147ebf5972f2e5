"""What `kveil check --as --from --listener` tells: who may connect, produce and consume, and by which rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from kveil.proxy.config import Listener, Settings
    from kveil.proxy.policy import Policy

_WORDS = {"produce": "producers", "consume": "consumers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whom to decide on. None where nothing was said."""

    principal: str | None = None
    address: str | None = None
    listener: str | None = None

    @property
    def is_put(self) -> bool:
        """Whether anything was asked."""
        return self.principal is not None or self.address is not None or self.listener is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDecision:
    """One thing that is allowed or not. `topic` is None where it is about connecting."""

    listener: str
    what: str
    topic: str | None
    allowed: bool
    reason: str

    @property
    def sentence(self) -> str:
        """The decision for people."""
        about = "" if self.topic is None else f"{self.topic}: "
        return f"{about}at {self.listener}, may {self.what}: {'YES' if self.allowed else 'NO'} ({self.reason})"


def decide_access(
    settings: "Settings", policy: "Policy", question: Question, topics: list[str]
) -> list[AccessDecision]:
    """Every decision that the question asks for.

    :raises ConfigError: no listener has that name, or the address is none.
    """
    found = []
    for listener in _listeners(settings, question.listener):
        found += list(_connect(settings, listener, question))
        for topic in topics:
            found += list(_use(policy, listener, question, topic))
    return found


def _listeners(settings: "Settings", label: str | None) -> list["Listener"]:
    from kveil.proxy.config import ConfigError, Problem

    found = [one for one in settings.listeners if label in (None, one.name, str(one.address))]
    if not found:
        known = ", ".join(one.label for one in settings.listeners)
        raise ConfigError([Problem(path="--listener", text=f"there is no listener {label}; there are: {known}")])
    return found


def _connect(settings: "Settings", listener: "Listener", question: Question) -> Iterator[AccessDecision]:
    from kveil.proxy.config import ConfigError, Problem
    from kveil.proxy.networks import AllowedAddresses

    if question.address is not None:
        try:
            admitted_by = AllowedAddresses(settings, listener).admitted_by(question.address)
        except ValueError as error:
            raise ConfigError([Problem(path="--from", text=f"{error}")]) from None
        yield AccessDecision(
            listener=listener.label,
            what=f"connect from {question.address}",
            topic=None,
            allowed=admitted_by is not None,
            reason=admitted_by or "not in the listener's allow",
        )
    if question.principal is not None and listener.sasl is not None:
        yield _login(listener.label, listener.sasl.users, question.principal)


def _login(label: str, users: "Path", principal: str) -> AccessDecision:
    from kveil.proxy.users.users_store import read_users_file

    content, _ = read_users_file(users)
    known = content.find(principal) is not None
    reason = f"{users} {'has' if known else 'lacks'} this user"
    return AccessDecision(listener=label, what=f"log in as {principal}", topic=None, allowed=known, reason=reason)


def _use(policy: "Policy", listener: "Listener", question: Question, topic: str) -> Iterator[AccessDecision]:
    from kveil.proxy.config import Direction
    from kveil.proxy.policy import Use

    rule = policy.rule_for(topic)
    # Where a listener doesn't ask who its clients are, none of them is anybody.
    principal = question.principal if listener.authenticates else None
    others = {Use.PRODUCE: Direction.CONSUME, Use.CONSUME: Direction.PRODUCE}
    for use in Use:
        named = rule.producers if use is Use.PRODUCE else rule.consumers
        place = f"{_WORDS[use]} of {policy.matched_by(topic)}"
        if listener.direction is others[use]:
            allowed, reason = False, f"the listener is for the other direction: {listener.direction}"
        elif named is None:
            allowed, reason = True, f"no {place}: everybody"
        elif not listener.authenticates:
            allowed, reason = False, f"{place} names who may, and the listener doesn't know who its clients are"
        else:
            allowed, reason = rule.admits(use, principal), place
        yield AccessDecision(listener=listener.label, what=use.value, topic=topic, allowed=allowed, reason=reason)
