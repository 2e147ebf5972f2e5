"""SCRAM (RFC 5802, RFC 7677), the server's side: what is stored of a password, and the two rounds of a login.

    client-first   n,,n=alice,r=C              -> server-first   r=CS,s=SALT,i=ITERATIONS
    client-final   c=biws,r=CS,p=PROOF         -> server-final   v=SIGNATURE

Passwords are UTF-8 as they stand, without SASLprep, as Kafka's own clients and brokers have it. Channel binding is not
offered: Kafka's clients know none.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from kveil.protocol.sasl.server.errors import LoginRefused

_GS2_HEADERS = ("n", "y")
"""The client knows no channel binding; the client knows it and thinks that the server doesn't."""
_NONCE_MOST = 512
"""Characters of a client's nonce. Clients send some 30."""


class ScramHash(StrEnum):
    """The hash of a mechanism, as hashlib calls it."""

    SHA_256 = "sha256"
    SHA_512 = "sha512"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScramCredential:
    """What a server keeps of a password: it proves a login, and doesn't log in by itself."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_credential(hash_name: ScramHash, password: bytes, *, salt: bytes, iterations: int) -> ScramCredential:
    """Return what is kept of a password (RFC 5802, section 3)."""
    salted = hashlib.pbkdf2_hmac(hash_name, password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    return ScramCredential(
        salt=salt,
        iterations=iterations,
        stored_key=hashlib.new(hash_name, client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", hash_name),
    )


def is_password(hash_name: ScramHash, credential: ScramCredential, password: bytes) -> bool:
    """Whether this is the password, after the full work of `make_credential`."""
    found = make_credential(hash_name, password, salt=credential.salt, iterations=credential.iterations)
    return hmac.compare_digest(found.stored_key, credential.stored_key)


class ScramServer:
    """One login. `find` gives a user's credential, and for an unknown one another that no password fits."""

    def __init__(self, hash_name: ScramHash, find: Callable[[str], ScramCredential], nonce: str) -> None:
        self._hash = hash_name
        self._find = find
        self._nonce = nonce
        self._credential: ScramCredential | None = None
        self._gs2_header = ""
        self._transcript = ""
        self.user = ""

    def first(self, token: bytes) -> bytes:
        """Return the server-first message.

        :raises LoginRefused: the token isn't a client-first message that can be served.
        """
        message = _text(token)
        binding, acts_as, bare = _split(message, 3)
        if binding not in _GS2_HEADERS:
            raise LoginRefused("a SCRAM token that asks for channel binding")
        self._gs2_header = f"{binding},{acts_as},"
        name, nonce = _first_two(bare)
        self.user = _name(_value(name, "n"))
        if acts_as and _name(_value(acts_as, "a")) != self.user:
            raise LoginRefused("a SCRAM token of one user who wants to act as another")
        client_nonce = _value(nonce, "r")
        if not 0 < len(client_nonce) <= _NONCE_MOST or not client_nonce.isascii() or not client_nonce.isprintable():
            raise LoginRefused("a SCRAM token with an unusable nonce")
        self._credential = found = self._find(self.user)
        self._nonce = client_nonce + self._nonce
        answer = f"r={self._nonce},s={b64encode(found.salt).decode()},i={found.iterations}"
        self._transcript = f"{bare},{answer}"
        return answer.encode()

    def final(self, token: bytes) -> bytes:
        """Return the server-final message: the client knows the password.

        :raises LoginRefused: it doesn't, or the token isn't a client-final message.
        """
        credential = self._credential
        if credential is None:
            raise LoginRefused("a SCRAM login that begins with its end")
        message = _text(token)
        without_proof, comma, proof = message.rpartition(",")
        binding, nonce = _first_two(without_proof)
        if not comma or _decoded(_value(binding, "c")) != self._gs2_header.encode():
            raise LoginRefused("a SCRAM token that changes its header")
        if _value(nonce, "r") != self._nonce:
            raise LoginRefused("a SCRAM token with another nonce")
        transcript = f"{self._transcript},{without_proof}".encode()
        signature = hmac.digest(credential.stored_key, transcript, self._hash)
        client_key = _xor(_decoded(_value(proof, "p")), signature)
        if not hmac.compare_digest(hashlib.new(self._hash, client_key).digest(), credential.stored_key):
            raise LoginRefused("a wrong name or password")
        proof_of_ours = hmac.digest(credential.server_key, transcript, self._hash)
        return b"v=" + b64encode(proof_of_ours)


def _text(token: bytes) -> str:
    try:
        return str(token, "utf-8")
    except UnicodeDecodeError:
        raise LoginRefused("a SCRAM token that is not UTF-8") from None


def _split(text: str, count: int) -> list[str]:
    parts = text.split(",", count - 1)
    if len(parts) < count:
        raise LoginRefused("a SCRAM token that ends early")
    return parts


def _first_two(text: str) -> tuple[str, str]:
    """The attributes that must be there; what follows are extensions, and none is known."""
    first, rest = _split(text, 2)
    return first, rest.partition(",")[0]


def _value(attribute: str, name: str) -> str:
    if not attribute.startswith(f"{name}="):
        raise LoginRefused(f"a SCRAM token without {name}= in its place")
    return attribute[2:]


def _name(text: str) -> str:
    """A name with its escapes undone: =2C is a comma and =3D an equals sign, and there is no other."""
    if text.count("=") != text.count("=2C") + text.count("=3D"):
        raise LoginRefused("a SCRAM token with a name that is escaped wrongly")
    return text.replace("=2C", ",").replace("=3D", "=")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise LoginRefused("a SCRAM token that is not base64 where it should be") from None


def _xor(one: bytes, other: bytes) -> bytes:
    if len(one) != len(other):
        raise LoginRefused("a SCRAM token with a proof of a wrong length")
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
