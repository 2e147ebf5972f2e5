"""Small values that stand in the configuration as text: addresses, references to secrets, skipped offsets."""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from kveil.proxy.config.choices import KeyService
from kveil.proxy.secret import Secret

MAX_OFFSET: Final = 2**63 - 1
MAX_PARTITION: Final = 2**31 - 1
MAX_PORT: Final = 65_535
# A password or a passphrase; anything larger is the wrong file.
MAX_SECRET_BYTES: Final = 64 * 1024
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def check_topic(name: str) -> str:
    """`name` if Kafka would accept it as a topic's name."""
    if not _TOPIC.fullmatch(name):
        msg = "no topic can have this name: Kafka allows letters, digits, '.', '_' and '-', at most 249 of them"
        raise ValueError(msg)
    return name


def is_glob(match: str) -> bool:
    """Whether a rule's pattern may match several topics."""
    return _TOPIC.fullmatch(match) is None


def is_network(text: str) -> bool:
    """Whether this is meant as an address or a network, be it right or wrong."""
    return "/" in text or ":" in text or not text.strip("0123456789.")


def check_network(text: str) -> str:
    """`text` if it is an address, or a network in CIDR form."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        msg = f"{text!r} is no address and no network such as 10.1.0.0/16 or fd00::/8 ({error})"
        raise ValueError(msg) from None
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """Where something listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "HostPort":
        """From `host:port` or `[v6]:port`."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host:
            msg = f"{text!r} has no port: write host:port"
            raise ValueError(msg)
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= MAX_PORT):
            msg = f"{text!r} has no usable port: 1 to {MAX_PORT}"
            raise ValueError(msg)
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            msg = f"{text!r} is ambiguous: write an IPv6 address in brackets, as in [::1]:9092"
            raise ValueError(msg)
        if not host or any(c.isspace() or c in "/@,[]" for c in host):
            msg = f"{text!r} is no host and port: write host:port"
            raise ValueError(msg)
        return cls(host=host, port=int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name is believed only if it is localhost."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """Where a secret is kept, `file:PATH` or `env:NAME`. It never stands in the configuration itself."""

    kind: str
    place: str

    @classmethod
    def parse(cls, text: str) -> "SecretRef":
        """From its text. The message never repeats the text, which may be the secret itself."""
        kind, _, place = text.partition(":")
        if kind not in {"file", "env"} or not place:
            msg = "must be a reference, file:PATH or env:NAME: a secret is never written into the configuration"
            raise ValueError(msg)
        return cls(kind=kind, place=place)

    def read(self, environ: Mapping[str, str] = os.environ) -> Secret:
        """The secret. One newline at a file's end is not part of it."""
        if self.kind == "env":
            if self.place not in environ:
                msg = f"the environment variable {self.place} is not set"
                raise ValueError(msg)
            return Secret(environ[self.place].encode())
        try:
            with Path(self.place).open("rb") as file:
                value = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            msg = f"{self.place}: {error.strerror}"
            raise ValueError(msg) from None
        if len(value) > MAX_SECRET_BYTES:
            msg = f"{self.place} is larger than {MAX_SECRET_BYTES} bytes: that is no password"
            raise ValueError(msg)
        return Secret(value.removesuffix(b"\n").removesuffix(b"\r"))

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """A name that is no secret and stands in the configuration itself, where a reference may stand too."""

    text: str

    def read(self) -> Secret:
        """The text, as a reference gives it."""
        return Secret(self.text.encode())

    def __str__(self) -> str:
        return self.text


TOPIC_PLACE: Final = "{topic}"
"""What stands in a key's name for the name of the topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """A key-encryption key: a provider, None for the one of `keys.provider`, and a name, where `{topic}` may stand."""

    provider: KeyService | None
    name: str

    @classmethod
    def parse(cls, text: str) -> "KeyName":
        """From `name` or `provider:name`."""
        before, colon, name = text.rpartition(":")
        known = ", ".join(KeyService)
        if colon and before not in set(KeyService):
            msg = f"{before!r} is no provider of keys; there are: {known}"
            raise ValueError(msg)
        if not _KEY_NAME.fullmatch(name.replace(TOPIC_PLACE, "x")):
            msg = (
                "must be a key's name: 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit, with "
                "{topic} for the topic's name, and a provider and a colon before it if it isn't that of keys.provider"
            )
            raise ValueError(msg)
        return cls(provider=KeyService(before) if colon else None, name=name)

    @property
    def is_template(self) -> bool:
        """Whether it is another key for each topic."""
        return TOPIC_PLACE in self.name

    def may_be(self, name: str) -> bool:
        """Whether this is the name for some topic."""
        return re.fullmatch(".+".join(map(re.escape, self.name.split(TOPIC_PLACE))), name) is not None

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}" if self.provider else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardProxy:
    """What stands between this host and the cluster. It resolves the brokers' names."""

    scheme: str
    username: str | None
    address: HostPort

    @classmethod
    def parse(cls, text: str) -> "ForwardProxy":
        """From `http://host:port` or `socks5://host:port`, with `user@` before the host where it wants a login."""
        scheme, _, rest = text.strip().partition("://")
        if scheme not in {"http", "socks5"}:
            msg = "must begin with http:// (HTTP CONNECT) or socks5://, as in http://proxy.example.net:3128"
            raise ValueError(msg)
        username, at, address = rest.removesuffix("/").rpartition("@")
        if ":" in username:  # not repeated: behind the colon stands a password
            msg = "must not have a password in it: write user@host:port, and its reference to upstream.proxy_password"
            raise ValueError(msg)
        if at and not username:
            msg = "has no user before the @"
            raise ValueError(msg)
        return cls(scheme=scheme, username=unquote(username) or None, address=HostPort.parse(address))

    def __str__(self) -> str:
        return f"{self.scheme}://{f'{quote(self.username)}@' if self.username else ''}{self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Records that an operator steps over on purpose: offsets `first` to `last`, both included."""

    topic: str
    partition: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "Skip":
        """From `topic/partition/from-to`, or `topic/partition/offset` for a single one."""
        found = re.fullmatch(r"([^/]+)/([0-9]{1,10})/([0-9]{1,19})(?:-([0-9]{1,19}))?", text)
        if not found:
            msg = f"{text!r} is no place in a topic: write topic/partition/from-to, as in orders/3/1200-1207"
            raise ValueError(msg)
        first = int(found[3])
        last = first if found[4] is None else int(found[4])
        if last > MAX_OFFSET or int(found[2]) > MAX_PARTITION:
            msg = f"{text!r} names a partition or an offset that is larger than Kafka's numbers go"
            raise ValueError(msg)
        if last < first:
            msg = f"{text!r} names no offsets: from must not be after to"
            raise ValueError(msg)
        return cls(topic=check_topic(found[1]), partition=int(found[2]), first=first, last=last)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.first}-{self.last}"
