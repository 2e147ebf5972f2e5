"""What a certificate says, read off the certificate itself (RFC 5280, 4.1): no library of the proxy's tells it."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
_MOST_BYTES: Final = 1024 * 1024
_NAMES: Final = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O", b"\x55\x04\x0b": "OU"}
"""The parts of a name that people know it by, by their object identifiers (X.520)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is of use to people. The time is Unix time."""

    subject: str
    issuer: str
    expires: float


def read_certificate(certificate: bytes) -> Certificate:
    """Return what a certificate in DER says. Raises ValueError or IndexError if it is none."""
    _, _, issuer, _, subject = _fields(certificate)[:5]
    return Certificate(subject=_name(subject[1]), issuer=_name(issuer[1]), expires=_not_after(certificate))


def _name(name: bytes) -> str:
    return ", ".join(_known_parts(name)) or "a name without CN, O and OU"


def _known_parts(name: bytes) -> Iterator[str]:
    for _, part in _parts(name):
        for _, pair in _parts(part):
            (_, identifier), (_, value) = _parts(pair)
            if identifier in _NAMES:
                text = value.decode("utf-8", "replace")
                yield f"{_NAMES[identifier]}={''.join(c if c.isprintable() else '?' for c in text)}"


def expiry_of(path: Path) -> float | None:
    """Return when the first certificate of a PEM file expires, in Unix time; None if that can't be told."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("ascii", "replace")
        begin, end = text.index(_BEGIN), text.index(_END)
        return _not_after(ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)]))
    except (OSError, ValueError, IndexError):
        return None


def _not_after(certificate: bytes) -> float:
    validity = _fields(certificate)[3][1]
    tag, value = _parts(validity)[1]
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # years of two digits, 1950 to 2049 (4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _fields(certificate: bytes) -> list[tuple[int, bytes]]:
    """Return serialNumber, signature, issuer, validity, subject and what follows."""
    body = _parts(_parts(certificate)[0][1])[0][1]  # Certificate -> tbsCertificate
    return [part for part in _parts(body) if part[0] != _VERSION]


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of the DER values that stand one after the other."""
    found, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        found.append((tag, data[at : at + length]))
        at += length
    return found
