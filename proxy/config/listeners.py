"""The shape of a listener: where clients connect, who they must be, and where they find each broker."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from kveil.proxy.config.choices import Addressing, Direction, SaslMechanism
from kveil.proxy.config.fields import Address, AdvertisedHost, AllowEntry, Name, ReadableFile, Reference, list_or_commas
from kveil.proxy.config.section import Section
from kveil.proxy.config.values import MAX_PARTITION, MAX_PORT, HostPort

NodeId = Annotated[int, Field(ge=0, le=MAX_PARTITION)]
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]

DEFAULT_ADDRESS = HostPort(host="127.0.0.1", port=5000)


class ListenerTls(Section):
    """TLS to the clients. With `client_ca` they must show a certificate that it signed."""

    cert: ReadableFile
    """PEM file of the listener's certificate, with its chain."""
    key: ReadableFile | None = None
    """PEM file of the certificate's private key, if it isn't in `cert`."""
    key_password: Reference | None = None
    """Reference to the private key's passphrase: `file:PATH` or `env:NAME`."""
    client_ca: ReadableFile | None = None
    """PEM file of the roots that clients' certificates must come from. Without it clients need none."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version spoken: `1.2` or `1.3`."""


class ListenerSasl(Section):
    """Clients log in here, with a name and password of the users file."""

    users: Path
    """The users file, made by `kveil users add`. Read again when it changes."""
    mechanisms: Annotated[tuple[SaslMechanism, ...], list_or_commas, Field(min_length=1)] = tuple(SaslMechanism)
    """The mechanisms offered, of these three."""


class Listener(Section):
    """One place where clients connect."""

    address: Address = DEFAULT_ADDRESS
    """Where clients connect. `localhost` is 127.0.0.1 and ::1. Other than loopback needs `tls`, and `sasl` or
    `tls.client_ca`."""
    name: Name | None = None
    """What it is called in the log and for `kveil check --listener`."""
    direction: Direction = Direction.BOTH
    """`both`; `produce` hands out no opened record; `consume` refuses Produce."""
    advertised: AdvertisedHost | None = None
    """The host that clients are told for every broker. Without it, the host of `address`. Needed with 0.0.0.0 and
    `[::]`."""
    addressing: Addressing = Addressing.PORTS
    """`ports`: each broker has a port of its own. `loopback`, on Linux: each has a loopback address of its own, on the
    listener's port."""
    nodes: dict[NodeId, Port] = Field(default_factory=dict)
    """Like `nodes`, for this listener alone."""
    allow: Annotated[tuple[AllowEntry, ...], list_or_commas, Field(min_length=1)] | None = None
    """Addresses that may connect: addresses, networks in CIDR form, and names of `networks`. Without it, every
    address."""
    tls: ListenerTls | None = None
    """TLS to the clients. `null` is off. Changed files are taken up by the next handshake."""
    sasl: ListenerSasl | None = None
    """Clients log in at the listener, and their logins end here. `null`: they are passed on."""

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        """A listener that other machines reach has TLS, and asks its clients who they are."""
        if not self.address.is_loopback and (self.tls is None or not self.authenticates):
            raise _fault(
                "address",
                f"{self.address} can be reached from other machines, and whoever reaches it reads plaintext: that "
                "needs TLS and client authentication, which are tls, and sasl or tls.client_ca; "
                "or use a loopback address such as 127.0.0.1 or [::1]",
            )
        if self.address.is_wildcard and self.advertised is None:
            raise _fault("advertised", f"is needed with {self.address}, which is no address that clients connect to")
        if self.addressing is Addressing.LOOPBACK and self.advertised is not None:
            raise _fault("advertised", "has no meaning with addressing: loopback; remove one of the two")
        return self

    @property
    def advertised_host(self) -> str:
        """The host that clients are told for every broker."""
        return self.advertised or self.address.host

    @property
    def authenticates(self) -> bool:
        """Whether clients must prove who they are to the proxy itself."""
        return self.sasl is not None or (self.tls is not None and self.tls.client_ca is not None)

    @property
    def label(self) -> str:
        """What it is called where people read."""
        return self.name or str(self.address)


def _fault(key: str, text: str) -> ValidationError:
    """A fault of several keys together, told at one of them."""
    line = InitErrorDetails(type="value_error", loc=(key,), input=None, ctx={"error": ValueError(text)})
    return ValidationError.from_exception_data("Listener", [line], hide_input=True)
