"""What must hold between the settings of listeners: places don't collide, groups exist, certificates load."""

import ipaddress
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Final

from kveil.proxy.config.choices import Addressing
from kveil.proxy.config.errors import Problem
from kveil.proxy.config.listeners import Listener, ListenerTls
from kveil.proxy.config.models import Admin, BrokerPorts
from kveil.proxy.config.topic_rules import TopicRule
from kveil.proxy.config.values import MAX_PORT, HostPort, is_network

Check = Callable[..., Iterator[Problem]]
LOCALHOST: Final = ("127.0.0.1", "::1")
_LAST_LOOPBACK: Final = ipaddress.IPv4Address("127.255.255.254")
_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - named to be found out

_Place = tuple[str, int, str]
"""Host, port, and the key that wants them."""


def server_context(tls: ListenerTls) -> ssl.SSLContext:
    """TLS to the clients. Raises OSError or ValueError if a file or the passphrase can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    # A resumed session would be believed without a look at the certificate.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    # Without an answer OpenSSL would ask for the passphrase on the terminal.
    password = tls.key_password.read().reveal() if tls.key_password else b""
    context.load_cert_chain(tls.cert, tls.key, password=password)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cafile=tls.client_ca)
    return context


def hosts_of(listener: Listener) -> tuple[str, ...]:
    """The hosts that a listener binds."""
    return hosts_at(listener.address)


def hosts_at(address: HostPort) -> tuple[str, ...]:
    """The hosts that an address stands for: localhost means either of the two loopback addresses."""
    host = address.host.lower()
    return LOCALHOST if host == "localhost" else (host,)


def reason_of(error: Exception) -> str:
    """What OpenSSL or the system said."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason
    return (error.strerror if isinstance(error, OSError) else str(error)) or "unreadable"


def _check_server_certificates(listeners: tuple[Listener, ...]) -> Iterator[Problem]:
    for place, listener in enumerate(listeners):
        if listener.tls is None:
            continue
        own = listener.tls.model_copy(update={"client_ca": None})
        try:
            server_context(own)
        except (OSError, ValueError) as error:
            text = f"certificate and key don't load ({reason_of(error)}): PEM is needed, and a key that belongs to it"
            yield Problem(path=f"listeners[{place}].tls.cert", text=text)
            continue
        try:
            server_context(listener.tls)
        except (OSError, ValueError) as error:
            text = f"{listener.tls.client_ca} holds no usable PEM certificate ({reason_of(error)})"
            yield Problem(path=f"listeners[{place}].tls.client_ca", text=text)


def _check_groups(listeners: tuple[Listener, ...], networks: dict[str, tuple[str, ...]]) -> Iterator[Problem]:
    for place, listener in enumerate(listeners):
        for entry in listener.allow or ():
            if not is_network(entry) and entry not in networks:
                known = f"there are: {', '.join(networks)}" if networks else "there are none"
                text = f"names {entry}, which is no group of networks ({known}) and no address"
                yield Problem(path=f"listeners[{place}].allow", text=text)


def _check_principals(listeners: tuple[Listener, ...], topics: tuple[TopicRule, ...]) -> Iterator[Problem]:
    if any(listener.authenticates for listener in listeners):
        return
    for place, rule in enumerate(topics):
        for key in ("producers", "consumers"):
            if getattr(rule, key) is not None:
                text = (
                    "would refuse everybody: no listener knows who its clients are; "
                    "give one sasl or tls.client_ca, or leave this out"
                )
                yield Problem(path=f"topics[{place}].{key}", text=text)


def _check_addressing(listeners: tuple[Listener, ...], ports: BrokerPorts) -> Iterator[Problem]:
    for place, listener in enumerate(listeners):
        if listener.addressing is not Addressing.LOOPBACK:
            continue
        path = f"listeners[{place}].addressing"
        first = _first_loopback(listener)
        if sys.platform != "linux":
            yield Problem(path=path, text="loopback is for Linux alone, where all of 127.0.0.0/8 is there: use ports")
        elif first is None:
            text = f"loopback needs an address in 127.0.0.0/8, or localhost; this one is {listener.address}"
            yield Problem(path=path, text=text)
        elif int(first) + ports.count > int(_LAST_LOOPBACK):
            text = f"needs {ports.count} addresses after {first}, and {_LAST_LOOPBACK} is the last: begin lower"
            yield Problem(path=path, text=text)


def _first_loopback(listener: Listener) -> ipaddress.IPv4Address | None:
    try:
        address = ipaddress.IPv4Address(hosts_of(listener)[0])
    except ValueError:
        return None
    return address if address.is_loopback else None


def _check_nodes(listeners: tuple[Listener, ...], ports: BrokerPorts, nodes: dict[int, int]) -> Iterator[Problem]:
    maps = [("nodes", nodes), *((f"listeners[{i}].nodes", one.nodes) for i, one in enumerate(listeners))]
    for path, given in maps:
        for node in sorted(given):
            if node < ports.count:
                text = f"ids below {ports.count} have their port already: bootstrap port + 1 + id"
                yield Problem(path=f"{path}[{node}]", text=text)


def _check_ports(listeners: tuple[Listener, ...], ports: BrokerPorts, nodes: dict[int, int]) -> Iterator[Problem]:
    """Every place that any listener needs, each at most once."""
    taken: dict[int, list[tuple[str, str]]] = {}
    for place, listener in enumerate(listeners):
        here = f"listeners[{place}]"
        first, last = listener.address.port, listener.address.port + ports.count
        if listener.addressing is Addressing.PORTS and last > MAX_PORT:
            text = f"needs ports {first} to {last}, and {MAX_PORT} is the last: lower it, or broker_ports.count"
            yield Problem(path=f"{here}.address", text=text)
            continue
        yield from _claim(_places(listener, here, ports, nodes), here, taken)


def _places(listener: Listener, here: str, ports: BrokerPorts, nodes: dict[int, int]) -> list[_Place]:
    """What a listener binds. `here` is its path."""
    first, last = listener.address.port, listener.address.port + ports.count
    own = f"{here}.nodes" if listener.nodes else "nodes"
    wanted = [(port, f"{own}[{node}]") for node, port in (listener.nodes or nodes).items()]
    if listener.addressing is Addressing.PORTS:
        wanted = [*((port, f"{here}.address") for port in range(first, last + 1)), *wanted]
    else:
        wanted = [(first, f"{here}.address"), *wanted]
    places = [(host, port, path) for port, path in wanted for host in hosts_of(listener)]
    start = _first_loopback(listener)
    if listener.addressing is Addressing.LOOPBACK and start is not None:
        places += [(str(start + 1 + node), first, f"{here}.address") for node in range(ports.count)]
    return places


def _check_admin(
    admin: Admin, listeners: tuple[Listener, ...], ports: BrokerPorts, nodes: dict[int, int]
) -> Iterator[Problem]:
    address = admin.address
    if address is None:
        return
    for place, listener in enumerate(listeners):
        for host, port, path in _places(listener, f"listeners[{place}]", ports, nodes):
            if port == address.port and any(_overlap(host, other) for other in hosts_at(address)):
                yield Problem(path="admin.address", text=f"port {port} belongs to {path} already: choose another")
                return


def _claim(wanted: list[_Place], listener: str, taken: dict[int, list[tuple[str, str]]]) -> Iterator[Problem]:
    """Takes the places for a listener. Of several that a key can't have, the first is told."""
    told: set[str] = set()
    for host, port, path in wanted:
        owner = next((owner for other, owner in taken.get(port, ()) if _overlap(host, other)), None)
        if owner is not None and path not in told:
            told.add(path)
            text = f"{listener} needs port {port} for this, which belongs to {owner} already: choose another"
            yield Problem(path=path, text=text)
        taken.setdefault(port, []).append((host, path))


def _overlap(one: str, other: str) -> bool:
    """Whether two hosts can't have the same port: equal, or one stands for all of its kind."""
    same_kind = (":" in one) == (":" in other)
    return one == other or (same_kind and (one in _ANY or other in _ANY))


LISTENER_CHECKS: Final[tuple[tuple[tuple[str, ...], Check], ...]] = (
    (("listeners",), _check_server_certificates),
    (("listeners", "networks"), _check_groups),
    (("listeners", "topics"), _check_principals),
    (("listeners", "broker_ports"), _check_addressing),
    (("listeners", "broker_ports", "nodes"), _check_nodes),
    (("listeners", "broker_ports", "nodes"), _check_ports),
    (("admin", "listeners", "broker_ports", "nodes"), _check_admin),
)
