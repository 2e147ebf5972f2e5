"""`kveil check --cluster`: which key each of the cluster's topics gets, and whether it is there."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import typer

from kveil.proxy.cli.check import Decision, decide, sentence
from kveil.proxy.cli.telling import still_at
from kveil.proxy.config import Settings
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.keys.opening import describe_keys, key_calls, open_providers
from kveil.proxy.keys.provider import KeyDescription
from kveil.proxy.net.topic_scan import Topic, list_topics
from kveil.proxy.policy import KeyRef, Policy
from kveil.proxy.server import share

FAILED: Final = 1

_Keys = Mapping[KeyRef, KeyDescription | str]


def check_cluster(settings: Settings, policy: Policy, named: Sequence[str], realm: str, *, as_json: bool) -> int:
    """Show what happens to the topics of the cluster, or to those of them that are named. Returns the exit code."""
    try:
        with still_at("asking the cluster for its topics, and for the key of each"):
            topics, keys = asyncio.run(_look(settings, policy, named))
    except QuestionFailed as error:
        typer.echo(f"kveil: {error}", err=True)
        return FAILED
    rows = [(topic, decide(policy, topic.name), _problem(policy, topic.name, keys)) for topic in topics]
    unused = {key: said for key, said in keys.items() if key in policy.named_keys and isinstance(said, str)}
    missing = sorted(set(named) - {topic.name for topic in topics})
    ok = not (unused or missing or any(problem for _, _, problem in rows))
    if as_json:
        shown = {
            "ok": ok,
            "realm": realm,
            "topics": [_as_json(*row) for row in rows],
            "keys": {str(key): said for key, said in unused.items()},
            "missing_topics": missing,
        }
        typer.echo(json.dumps(shown, indent=2))
    else:
        lines = [_as_text(*row) for row in rows]
        lines += [f"WARNING key {key} can't be used: {said}" for key, said in unused.items()]
        lines += [f"WARNING {name}: the cluster has no such topic, or doesn't show it" for name in missing]
        typer.echo("\n".join([f"realm {realm}", *lines]))
    return 0 if ok else FAILED


async def _look(settings: Settings, policy: Policy, named: Sequence[str]) -> tuple[list[Topic], _Keys]:
    """The topics, and each of their keys."""
    topics = await list_topics(share(settings))
    if named:
        topics = [topic for topic in topics if topic.name in named]
    wanted = set(policy.named_keys)
    for topic in topics:
        rule = policy.rule_for(topic.name)
        wanted |= rule.accept_keys if rule.seal else frozenset()
    async with key_calls(open_providers(settings, policy), settings.keys) as calls:
        return topics, await describe_keys(calls, wanted)


def _problem(policy: Policy, topic: str, keys: _Keys) -> str | None:
    """Why the topic can't be sealed, None if it can or is plain."""
    rule = policy.rule_for(topic)
    said = keys.get(rule.key) if rule.seal else None
    return said if isinstance(said, str) else None


def _as_json(topic: Topic, decision: Decision, problem: str | None) -> dict[str, Any]:
    return {**asdict(decision), "internal": topic.is_internal, "problem": problem}


def _as_text(topic: Topic, decision: Decision, problem: str | None) -> str:
    internal = ", internal" if topic.is_internal and not decision.decided_by.startswith("internal") else ""
    if problem is not None:
        return f"WARNING {sentence(decision)}{internal}: NO KEY: {problem}"
    return f"ok      {sentence(decision)}{internal}"
