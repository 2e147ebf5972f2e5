"""Types of single fields: what each accepts, and the sentence for what it doesn't."""

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator

from kveil.proxy.config.values import (
    ForwardProxy,
    HostPort,
    KeyName,
    PlainText,
    SecretRef,
    Skip,
    check_network,
    check_topic,
    is_network,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?!\[\]-]{1,249}")
_REGION: Final = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
# RFC 7628, 3.1
_SOCKET_PATH_BYTES: Final = 107
_EXTENSION: Final = re.compile(r"[A-Za-z]+")
_EXTENSION_VALUE: Final = re.compile(r"[\x20-\x7e]+")
MAX_PRINCIPAL: Final = 1024
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def check_name(name: str) -> str:
    """`name` if it can be the name of a key or of a realm."""
    if not _NAME.fullmatch(name):
        msg = "must be 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise ValueError(msg)
    return name


def _group_name(name: str) -> str:
    if is_network(name):
        msg = "reads like an address: a group needs a name that doesn't"
        raise ValueError(msg)
    return check_name(name)


def _allow_entry(text: str) -> str:
    return check_network(text) if is_network(text) else check_name(text)


def _principal(name: str) -> str:
    if not 0 < len(name) <= MAX_PRINCIPAL or not name.isprintable():
        msg = f"must be a user's name or a certificate's subject, 1 to {MAX_PRINCIPAL} characters that can be seen"
        raise ValueError(msg)
    return name


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = "must be text"
        raise ValueError(msg)
    return value


def _host_port(value: object) -> HostPort:
    return value if isinstance(value, HostPort) else HostPort.parse(_text(value))


def _secret_ref(value: object) -> SecretRef:
    if isinstance(value, SecretRef):
        return value
    ref = SecretRef.parse(_text(value))
    ref.read()  # A secret that isn't there is found now, not at the first connection.
    return ref


def _skip(value: object) -> Skip:
    return value if isinstance(value, Skip) else Skip.parse(_text(value))


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        msg = "can match no topic: names have letters, digits, '.', '_' and '-'; a pattern may add * ? [ ] !"
        raise ValueError(msg)
    return value


def _advertised(value: str) -> str:
    if not _HOST.fullmatch(value):
        msg = "must be a host name or an IPv4 address without a port: ports follow from the listener's address"
        raise ValueError(msg)
    return value


def _readable_file(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            msg = f"{path} is not a file"
            raise ValueError(msg)
        path.open("rb").close()
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise ValueError(msg) from None
    return path


def _split(value: object) -> object:
    """A list may be written as one string with commas, as Kafka's own tools have it."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _null_as_text(value: object) -> object:
    return "null" if value is None else value  # as YAML has it


def _passthrough(value: object) -> object:
    if value == "passthrough":
        return None
    if isinstance(value, str):
        msg = "must be passthrough, or a map that says how the proxy logs in, as in {mechanism: PLAIN, username: ...}"
        raise ValueError(msg)
    return value


def _name_or_ref(value: object) -> PlainText | SecretRef:
    if isinstance(value, PlainText):
        return value
    if isinstance(value, str) and value and not value.startswith(("file:", "env:")):
        return PlainText(text=value)
    return _secret_ref(value)


def _forward_proxy(value: object) -> ForwardProxy:
    return value if isinstance(value, ForwardProxy) else ForwardProxy.parse(_text(value))


def _key_name(value: object) -> KeyName:
    return value if isinstance(value, KeyName) else KeyName.parse(_text(value))


def _service_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        msg = "must be a URL, as in https://vault.example.net:8200"
        raise ValueError(msg)
    if parts.scheme == "http" and not HostPort(host=parts.hostname, port=1).is_loopback:
        msg = "must begin with https:// unless it is on this host: keys travel there"
        raise ValueError(msg)
    return value.rstrip("/")


def _token_endpoint(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.fragment:
        msg = "must be a URL, as in https://login.example.net/oauth2/token"
        raise ValueError(msg)
    if parts.username or parts.password:
        msg = "must not have a user or a password in it: they belong to client_id and client_secret"
        raise ValueError(msg)
    if parts.scheme == "http" and not HostPort(host=parts.hostname, port=1).is_loopback:
        msg = "must begin with https:// unless it is on this host: the client's secret is sent there"
        raise ValueError(msg)
    return value


def _extensions(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _EXTENSION.fullmatch(name) or name == "auth" or not text or not _EXTENSION_VALUE.fullmatch(text):
            msg = f"{name!r} can't be an extension: names have letters only and are not auth, values are printable"
            raise ValueError(msg)
    return value


def _region(value: str) -> str:
    if not _REGION.fullmatch(value):
        msg = "must be the name of an AWS region, as in eu-central-1"
        raise ValueError(msg)
    return value


_as_text = PlainSerializer(str, return_type=str)

Name = Annotated[str, AfterValidator(check_name)]
Topic = Annotated[str, AfterValidator(check_topic)]
Pattern = Annotated[str, AfterValidator(_pattern)]
AdvertisedHost = Annotated[str, AfterValidator(_advertised)]


def _socket_path(path: Path) -> Path:
    """One that a Unix socket may have (unix(7))."""
    if not path.is_absolute():
        msg = "must be an absolute path, as in /run/kveil/admin.sock"
        raise ValueError(msg)
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        msg = f"is too long for a socket: at most {_SOCKET_PATH_BYTES} bytes"
        raise ValueError(msg)
    return path


SocketPath = Annotated[Path, AfterValidator(_socket_path)]
ReadableFile = Annotated[Path, AfterValidator(_readable_file)]
Address = Annotated[HostPort, PlainValidator(_host_port), _as_text]
Reference = Annotated[SecretRef, PlainValidator(_secret_ref), _as_text]
NameOrReference = Annotated[SecretRef | PlainText, PlainValidator(_name_or_ref), _as_text]
ProxyAddress = Annotated[ForwardProxy, PlainValidator(_forward_proxy), _as_text]
ServiceUrl = Annotated[str, AfterValidator(_service_url)]
KeyReference = Annotated[KeyName, PlainValidator(_key_name), _as_text]
TokenUrl = Annotated[str, AfterValidator(_token_endpoint)]
Extensions = Annotated[dict[str, str], AfterValidator(_extensions)]
Region = Annotated[str, AfterValidator(_region)]
Principal = Annotated[str, AfterValidator(_principal)]
GroupName = Annotated[str, AfterValidator(_group_name)]
AllowEntry = Annotated[str, AfterValidator(_allow_entry)]
SkippedRange = Annotated[Skip, PlainValidator(_skip), _as_text]

list_or_commas = BeforeValidator(_split)
AddressGroup = Annotated[tuple[Annotated[str, AfterValidator(check_network)], ...], list_or_commas]
none_if_passthrough = BeforeValidator(_passthrough)
null_as_text = BeforeValidator(_null_as_text)
