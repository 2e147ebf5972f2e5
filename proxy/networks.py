"""Which addresses may connect to a listener: its `allow` list, whose groups are in `networks`."""

import ipaddress
from collections.abc import Iterator

from kveil.proxy.config import Listener, Settings
from kveil.proxy.config.values import is_network

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AllowedAddresses:
    """The allow-list of one listener."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._everyone = listener.allow is None
        self._networks = tuple(_networks(settings, listener))

    def admitted_by(self, host: str) -> str | None:
        """What lets an address in, in words; None if nothing does.

        :raises ValueError: it isn't an address.
        """
        address = ipaddress.ip_address(host.partition("%")[0])  # a link-local address comes with its interface
        if self._everyone:
            return "no allow-list"
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return next((words for words, network in self._networks if address in network), None)


def _networks(settings: Settings, listener: Listener) -> Iterator[tuple[str, _Network]]:
    for entry in listener.allow or ():
        if is_network(entry):
            yield f"allow {entry}", ipaddress.ip_network(entry)
        else:
            for member in settings.networks[entry]:
                yield f"allow {entry}: {member}", ipaddress.ip_network(member)
