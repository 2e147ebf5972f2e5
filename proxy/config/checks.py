"""What must hold between settings: rules can be reached, certificates load, and what listeners need."""

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kveil.proxy.config.audit import Audit
from kveil.proxy.config.choices import KeyService
from kveil.proxy.config.errors import Problem
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.listener_checks import LISTENER_CHECKS, Check, reason_of
from kveil.proxy.config.record_key_checks import check_record_keys
from kveil.proxy.config.topic_rules import TopicRule
from kveil.proxy.config.upstream import Upstream, UpstreamTls
from kveil.proxy.config.values import TOPIC_PLACE

_TAKEN: Final = frozenset(
    {"_kveil.keys", "__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
)
_DESCRIBED: Final = frozenset({KeyService.VAULT, KeyService.GCP, KeyService.AZURE, KeyService.PKCS11})


def cross_checks(sections: Mapping[str, Any]) -> list[Problem]:
    """Every check whose parts are right by themselves."""
    return [
        problem
        for needed, check in _CHECKS
        if all(name in sections for name in needed)
        for problem in check(*(sections[name] for name in needed))
    ]


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """TLS to the cluster: certificate and host name always checked. Raises OSError if a file doesn't load."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    if tls.cert:
        # Without an answer OpenSSL would ask for the passphrase on the terminal.
        password = tls.key_password.read().reveal() if tls.key_password else b""
        context.load_cert_chain(tls.cert, tls.key, password=password)
    return context


def _check_certificates(upstream: Upstream) -> Iterator[Problem]:
    tls = upstream.tls
    if tls is None:
        return
    trust_only = tls.model_copy(update={"cert": None, "key": None})
    try:
        client_context(trust_only)
    except OSError as error:
        yield Problem(path="upstream.tls.ca", text=f"{tls.ca} holds no usable PEM certificate ({reason_of(error)})")
        return
    try:
        client_context(tls)
    except OSError as error:
        text = f"certificate and key don't load ({reason_of(error)}): PEM is needed, and a key that belongs to it"
        yield Problem(path="upstream.tls.cert", text=text)


def _check_token_roots(upstream: Upstream) -> Iterator[Problem]:
    login = upstream.own_login
    if login is None or login.ca is None:
        return
    try:
        client_context(UpstreamTls(ca=login.ca))
    except OSError as error:
        text = f"{login.ca} holds no usable PEM certificate ({reason_of(error)})"
        yield Problem(path=f"upstream.{upstream.own_login_key}.ca", text=text)


def _check_rules(topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for place, rule in enumerate(topics):
        shadow = seen.get(rule.match, seen.get("*"))
        if shadow is not None:
            text = f"is never reached: topics[{shadow}] matches first; put the narrower rule before it"
            yield Problem(path=f"topics[{place}].match", text=text)
        seen.setdefault(rule.match, place)


def _check_key_services(keys: Keys, topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    """Each provider that is named must be described. What AWS needs it has from its own chain of settings."""
    named = {keys.service: "keys.provider"}
    for place, rule in enumerate(topics):
        for name in (rule.key, *rule.accept_keys):
            if name is not None and name.provider is not None:
                named.setdefault(name.provider, f"topics[{place}]")
    if keys.default.provider is not None:
        named.setdefault(keys.default.provider, "keys.default")
    for service, where in named.items():
        if service in _DESCRIBED and getattr(keys, service) is None:
            yield Problem(
                path=f"keys.{service}", text=f"is missing: {where} names {service}, and this says where it is"
            )
        if service is KeyService.MODULE and keys.service is not service:
            yield Problem(
                path=where, text="names a key of module, which is the class that keys.provider names: it names none"
            )


def _check_audit_topic(audit: Audit) -> Iterator[Problem]:
    if audit.topic is not None and audit.topic in _TAKEN:
        yield Problem(path="audit.topic", text=f"{audit.topic} has a purpose of its own: name another topic")


def _check_identities(keys: Keys, topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    """Identities have one key a topic, which has the topic's name."""
    named = [("keys.default", keys.default)]
    for place, rule in enumerate(topics):
        named += [(f"topics[{place}].key", rule.key)] if rule.key is not None else []
        named += [(f"topics[{place}].accept_keys", name) for name in rule.accept_keys]
    for place, rule in enumerate(topics):
        services = {name.provider or keys.service for name in (rule.key or keys.default, *rule.accept_keys)}
        if rule.sealed_by is not None and services != {KeyService.IDENTITIES}:
            text = "names identities, and keys of others too open this topic: whoever has those can seal for anybody"
            yield Problem(path=f"topics[{place}].sealed_by", text=text)
    for where, name in named:
        if (name.provider or keys.service) is KeyService.IDENTITIES and name.name != TOPIC_PLACE:
            text = f"{name}: with identities each topic has the one key of its name: write identities:{TOPIC_PLACE}"
            yield Problem(path=where, text=text)


def _check_workers(workers: int) -> Iterator[Problem]:
    if workers > 1 and not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
        yield Problem(path="workers", text="this system can't hand sockets to processes of one program: leave it at 1")


_CHECKS: Final[tuple[tuple[tuple[str, ...], Check], ...]] = (
    (("upstream",), _check_certificates),
    (("upstream",), _check_token_roots),
    *LISTENER_CHECKS,
    (("topics",), _check_rules),
    (("keys", "topics"), _check_key_services),
    (("keys", "topics"), check_record_keys),
    (("audit",), _check_audit_topic),
    (("keys", "topics"), _check_identities),
    (("workers",), _check_workers),
)
