"""`kveil check`: is the configuration usable, and what would happen to a topic."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from kveil.proxy.cli.access import AccessDecision
    from kveil.proxy.config import ConfigError, Listener, Settings
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.policy import Policy
    from kveil.proxy.users.errors import UsersFileError

app = command_app()

WRONG_CONFIG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens to one topic, in words. `mode` and `key` are None where nothing is sealed."""

    topic: str
    decided_by: str
    sealed: bool
    mode: str | None
    key: str | None
    accept_keys: list[str]
    accept_plain: bool
    plain_before: dict[int, int]


@app.command()
def check(
    topics: Annotated[list[str] | None, typer.Argument(metavar="TOPIC", help="Topics to decide on.")] = None,
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    listen: options.Listen = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    principal: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Decide for this user or certificate's subject.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="Decide for a client at this address.")
    ] = None,
    listener: Annotated[
        str | None, typer.Option("--listener", metavar="NAME", help="Decide for this listener. [all of them]")
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Decide on the cluster's topics, and ask for the key of each.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check the configuration and the keys, and show what would happen to the topics named."""
    from kveil.proxy import log
    from kveil.proxy.cli.access import Question, decide_access
    from kveil.proxy.config import ConfigError
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.keys.opening import check_keys
    from kveil.proxy.policy import Policy
    from kveil.proxy.users.errors import UsersFileError
    from kveil.proxy.users.users_store import check_users

    flags = Flags(config=config, upstream=upstream, listen=listen, keys=keys, tls=tls, tls_ca=tls_ca)
    try:
        settings = settings_from(flags)
        log.configure(settings.log.format.value, "error")
        if cluster:  # which asks for the named keys itself, and tells of topics without one
            settings = settings.model_copy(update={"keys": settings.keys.model_copy(update={"lazy": True})})
        policy = Policy(settings)
        realm = check_keys(settings, policy).name
        check_users(settings)
        question = Question(principal=principal, address=address, listener=listener)
        if cluster and question.is_put:
            raise typer.BadParameter("--cluster is about keys: it decides for nobody in particular")
        access = decide_access(settings, policy, question, topics or []) if question.is_put else []
    except (ConfigError, KeySetupError, UsersFileError) as error:
        if not as_json:
            raise
        typer.echo(json.dumps({"ok": False, "problems": _problems(error)}, indent=2))
        raise typer.Exit(WRONG_CONFIG) from None
    if cluster:
        from kveil.proxy.cli.cluster_check import check_cluster

        raise typer.Exit(check_cluster(settings, policy, topics or [], realm, as_json=as_json))
    decisions = [decide(policy, topic) for topic in topics or ()]
    typer.echo(_as_json(realm, decisions, access) if as_json else _as_text(settings, realm, decisions, access))


def decide(policy: "Policy", topic: str) -> Decision:
    """What `policy` makes of `topic`."""
    rule = policy.rule_for(topic)
    return Decision(
        topic=topic,
        decided_by=policy.matched_by(topic),
        sealed=rule.seal,
        mode=rule.mode.value if rule.seal else None,
        key=str(rule.key) if rule.seal else None,
        accept_keys=sorted(map(str, rule.accept_keys)) if rule.seal else [],
        accept_plain=rule.accept_plain,
        plain_before=dict(rule.plain_before),
    )


def _problems(error: "ConfigError | KeySetupError | UsersFileError") -> list[dict[str, str]]:
    from kveil.proxy.keys.errors import KeySetupError

    found = getattr(error, "problems", None)
    if found is None:
        path = "keys" if isinstance(error, KeySetupError) else "listeners[].sasl.users"
        return [{"path": path, "text": str(error)}]
    return [{"path": problem.path, "text": problem.text} for problem in found]


def _as_json(realm: str, decisions: list[Decision], access: "list[AccessDecision]") -> str:
    from dataclasses import asdict

    found: dict[str, object] = {"ok": True, "realm": realm, "topics": [asdict(one) for one in decisions]}
    if access:
        found["access"] = [asdict(one) for one in access]
    return json.dumps(found, indent=2)


def _as_text(settings: "Settings", realm: str, decisions: list[Decision], access: "list[AccessDecision]") -> str:
    lines = ["The configuration can be used.", f"realm {realm}, keys in {_keys_place(settings)}"]
    lines += [_listener(one) for one in settings.listeners]
    lines.append(f"upstream {', '.join(map(str, settings.upstream.bootstrap))}, {_transport(settings)}")
    lines += [sentence(one) for one in decisions]
    lines += [one.sentence for one in access]
    return "\n".join(lines)


def _keys_place(settings: "Settings") -> str:
    from kveil.proxy.config import KeyService

    keys = settings.keys
    if keys.service is KeyService.IDENTITIES:
        return f"{keys.provider}, this one's in {settings.identity.path}"
    return str(keys.path) if keys.service is KeyService.KEYFILE else keys.provider


def _listener(one: "Listener") -> str:
    extra = [f"TLS {one.tls.min_version} or later"] if one.tls is not None else []
    extra += ["client certificates"] if one.tls is not None and one.tls.client_ca is not None else []
    extra += [f"login by {', '.join(one.sasl.mechanisms)}"] if one.sasl is not None else []
    extra += [f"for {', '.join(one.allow)} only"] if one.allow is not None else []
    name = f"{one.name} " if one.name else ""
    return ", ".join([f"listener {name}{one.address}", str(one.direction), *extra])


def _transport(settings: "Settings") -> str:
    return "without TLS" if settings.upstream.tls is None else f"TLS {settings.upstream.tls.min_version} or later"


def sentence(one: Decision) -> str:
    """The decision as a line."""
    if not one.sealed:
        return f"{one.topic}: PLAIN ({one.decided_by})"
    extra = ", plain records are read too" if one.accept_plain else ""
    extra += ", plain records before the offsets of plain_before are read too" if one.plain_before else ""
    retired = [name for name in one.accept_keys if name != one.key]
    opens = f", opens {', '.join(retired)} too" if retired else ""
    return f"{one.topic}: sealed, mode {one.mode}, key {one.key}{opens}{extra} ({one.decided_by})"
