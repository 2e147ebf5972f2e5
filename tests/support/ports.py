"""Ports that are free and stay ours until they are released.

A port that is merely looked up can be taken by anyone before its user binds it. Here the socket stays bound,
without listening, and with SO_REUSEADDR: Linux then gives the port to nobody who asks for any free port
(neither bind to 0 nor an outgoing connection), while a program that names it and sets SO_REUSEADDR too, as
the JVM and asyncio do, may listen on it, stop, and listen again.
"""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Below the ports that systems give to outgoing connections: after some thousand of those, no hundred of them in a row
# are free for a minute.
_LOWEST, _EPHEMERAL = 10_000, 32_768


def _bound_socket(port: int = 0) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    return held


@contextmanager
def reserved_ports(count: int) -> Iterator[list[int]]:
    """Hold that many loopback ports."""
    with ExitStack() as stack:
        yield [stack.enter_context(_bound_socket()).getsockname()[1] for _ in range(count)]


def _bound_run(count: int) -> list[socket.socket]:
    """Bind `count` ports in a row, or raise when one of them is taken."""
    first = random.randrange(_LOWEST, _EPHEMERAL - count)
    with ExitStack() as stack:
        held = []
        for port in range(first, first + count):
            _check_free(port)
            held.append(stack.enter_context(_bound_socket(port)))
        stack.pop_all()
    return held


def _check_free(port: int) -> None:
    """Raise where anybody else has bound the port, who may hold it as it is held here."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", port))


@contextmanager
def reserved_port_range(count: int) -> Iterator[int]:
    """Hold that many ports in a row, and give the first: a proxy's bootstrap port and its broker ports."""
    for attempt in range(100):
        try:
            held = _bound_run(count)
            break
        except OSError:
            if attempt == 99:
                raise
    with ExitStack() as stack:
        for each in held:
            stack.enter_context(each)
        yield held[0].getsockname()[1]
