"""What differs between two configurations, and which of it a running proxy can take up."""

import re
from collections.abc import Iterator
from typing import Any, Final

from kveil.proxy.config.choices import KeyPer, KeyService
from kveil.proxy.config.errors import Problem
from kveil.proxy.config.models import Settings

# Keys, with all that is below them, that are taken up by a reload. docs/configuration.md tells of them.
MAY_CHANGE: Final = re.compile(
    r"(topics|presets|skip|keys|upstream\.(tls|sasl|own_sasl|proxy|proxy_password)|listeners\[\d+\]\.(tls|sasl)\.\w+|log\.level|"
    r"limits\.(frame_bytes|connect_timeout_seconds|login_seconds|drain_seconds|topic_settings_seconds|epoch_key_hours|"
    r"opened_keys|refused_key_seconds))(?!\w)"
)
# Whether somebody logs in, and who is believed, hold for a connection from its first frame to its last.
_STAYS: Final = re.compile(r"(upstream\.sasl|listeners\[\d+\]\.tls\.client_ca)$")
# What those keys were made with that live on a topic of the proxy's own.
_OF_OWN_TOPICS: Final = re.compile(r"keys(?!\w)|limits\.(epoch_key_hours|opened_keys|refused_key_seconds)$")
_RESTART: Final = "can't change while the proxy runs: restart it to take this up, or put the old value back"


def changed_paths(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys whose values differ, as in `topics[1].seal`; a list of another length by its own name alone."""
    return tuple(_differences(old.model_dump(mode="json"), new.model_dump(mode="json"), ""))


def restart_problems(old: Settings, new: Settings) -> list[Problem]:
    """Every change that a running proxy can't take up."""
    stays = [_STAYS, _OF_OWN_TOPICS] if any(_own_topics(old)) else [_STAYS]
    found = [
        Problem(path=path, text=_RESTART)
        for path in changed_paths(old, new)
        if not MAY_CHANGE.match(path) or any(pattern.match(path) for pattern in stays)
    ]
    if _own_topics(old) != _own_topics(new):
        text = f"the first rule with key_per: record_key or keys of identities, and the last one's going, {_RESTART}"
        found.append(Problem(path="topics", text=text))
    return found


def _own_topics(settings: Settings) -> tuple[bool, bool]:
    """Whether record keys have keys, and whether identities do: each has a topic that is followed from the start."""
    named = [name for rule in settings.topics for name in (rule.key, *rule.accept_keys) if name]
    return (
        any(rule.key_per is KeyPer.RECORD_KEY for rule in settings.topics),
        KeyService.IDENTITIES in {settings.keys.service, *(name.provider for name in (settings.keys.default, *named))},
    )


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """Yield the paths of what differs. Names only: a value may be what nobody else is to see."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            below = f"{path}.{name}" if path else name
            if name in old and name in new:
                yield from _differences(old[name], new[name], below)
            else:
                yield below
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}[{place}]")
    elif old != new:
        yield path
