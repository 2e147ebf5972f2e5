"""What must hold between settings: ports don't collide, rules can be reached, certificates load."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kveil.proxy.config.errors import Problem
from kveil.proxy.config.models import BrokerPorts, Listener, TopicRule, Upstream, UpstreamTls
from kveil.proxy.config.values import MAX_PORT


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
        yield Problem(path="upstream.tls.ca", text=f"{tls.ca} holds no usable PEM certificate ({_reason(error)})")
        return
    try:
        client_context(tls)
    except OSError as error:
        text = f"certificate and key don't load ({_reason(error)}): PEM is needed, and a key that belongs to it"
        yield Problem(path="upstream.tls.cert", text=text)


def _check_token_roots(upstream: Upstream) -> Iterator[Problem]:
    if upstream.sasl is None or upstream.sasl.ca is None:
        return
    try:
        client_context(UpstreamTls(ca=upstream.sasl.ca))
    except OSError as error:
        text = f"{upstream.sasl.ca} holds no usable PEM certificate ({_reason(error)})"
        yield Problem(path="upstream.sasl.ca", text=text)


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror) or "unreadable"


def _check_nodes(listeners: tuple[Listener, ...], ports: BrokerPorts, nodes: dict[int, int]) -> Iterator[Problem]:
    maps = [("nodes", nodes), *((f"listeners[{i}].nodes", one.nodes) for i, one in enumerate(listeners))]
    for path, given in maps:
        for node in sorted(given):
            if node < ports.count:
                text = f"ids below {ports.count} have their port already: bootstrap port + 1 + id"
                yield Problem(path=f"{path}[{node}]", text=text)


def _check_ports(listeners: tuple[Listener, ...], ports: BrokerPorts, nodes: dict[int, int]) -> Iterator[Problem]:
    """Every port that any listener needs, each at most once on its host."""
    taken: dict[tuple[str, int], str] = {}
    for place, listener in enumerate(listeners):
        here = f"listeners[{place}]"
        first, last = listener.address.port, listener.address.port + ports.count
        if last > MAX_PORT:
            text = f"needs ports {first} to {last}, and {MAX_PORT} is the last: lower it, or broker_ports.count"
            yield Problem(path=f"{here}.address", text=text)
            continue
        wanted = [(port, f"{here}.address") for port in range(first, last + 1)]
        own = f"{here}.nodes" if listener.nodes else "nodes"
        wanted += [(port, f"{own}[{node}]") for node, port in (listener.nodes or nodes).items()]
        yield from _claim(wanted, _hosts(listener), here, taken)


def _claim(
    wanted: list[tuple[int, str]], hosts: tuple[str, ...], listener: str, taken: dict[tuple[str, int], str]
) -> Iterator[Problem]:
    """Takes the ports for a listener. Of several that a key can't have, the first is told."""
    told: set[str] = set()
    for port, path in wanted:
        owner = next((taken[host, port] for host in hosts if (host, port) in taken), None)
        if owner is not None and path not in told:
            told.add(path)
            text = f"{listener} needs port {port} for this, which belongs to {owner} already: choose another"
            yield Problem(path=path, text=text)
        for host in hosts:
            taken.setdefault((host, port), path)


def _hosts(listener: Listener) -> tuple[str, ...]:
    """Localhost means either of the two loopback addresses."""
    host = listener.address.host.lower()
    return ("127.0.0.1", "::1") if host == "localhost" else (host,)


def _check_rules(topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for place, rule in enumerate(topics):
        shadow = seen.get(rule.match, seen.get("*"))
        if shadow is not None:
            text = f"is never reached: topics[{shadow}] matches first; put the narrower rule before it"
            yield Problem(path=f"topics[{place}].match", text=text)
        seen.setdefault(rule.match, place)


_Check = Callable[..., Iterator[Problem]]
_CHECKS: Final[tuple[tuple[tuple[str, ...], _Check], ...]] = (
    (("upstream",), _check_certificates),
    (("upstream",), _check_token_roots),
    (("listeners", "broker_ports", "nodes"), _check_nodes),
    (("listeners", "broker_ports", "nodes"), _check_ports),
    (("topics",), _check_rules),
)
