"""What an authority must not forget, and the file's text: `state.json` beside its keys.

    {"format": "kveil-authority", "version": 1, "realm", "lease_seconds", "serial",
     "checkpoint": base64 of the newest, as signed, "members": [base64 of each live credential, as signed],
     "revoked": [{"id", "name", "serial", "at"}],
     "tickets": [{"id", "public", "grants", "issued", "expires", "uses", "name", "used_by"}],
     "hiding": base64 of the key-hiding key, as handed to the authority itself, or null}

No secret is in it: of tickets only what tells who has them; the key-hiding key is wrapped for the authority's own keys.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.credential import Credential, Grant, History, Role
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.identity import PublicKeys
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.signing import RecordType, Signed, read_signed
from kveil.proxy.identity.errors import IdentityError

FORMAT: Final = "kveil-authority"
VERSION: Final = 1
_DAMAGED: Final = "is damaged: restore the authority's directory from a backup"


class Member(NamedTuple):
    """A live credential."""

    credential: Credential
    signed: Signed


class Latest(NamedTuple):
    """The newest checkpoint."""

    checkpoint: Checkpoint
    signed: Signed

    @property
    def kept(self) -> Kept:
        """What nodes keep of it."""
        return Kept(self.checkpoint.number, self.signed.hash)


class Revoked(NamedTuple):
    """Somebody who was a member."""

    id: bytes
    name: str
    serial: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedTicket:
    """What is known of a ticket. Times are seconds since 1970."""

    id: bytes
    public: bytes = field(repr=False)
    grants: tuple[Grant, ...]
    issued: int
    expires: int
    uses: int
    name: str | None
    used_by: tuple[bytes, ...] = ()

    @property
    def is_used_up(self) -> bool:
        """Whether nobody else may come with it."""
        return len(self.used_by) >= self.uses


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityState:
    """All of it. Each change is a new one."""

    realm: str
    lease_seconds: int
    serial: int
    """Of the newest credential."""
    latest: Latest
    members: tuple[Member, ...] = ()
    revoked: tuple[Revoked, ...] = ()
    tickets: tuple[IssuedTicket, ...] = ()
    hiding: Signed | None = None
    """The key-hiding key, handed to the authority itself. None if none was made yet."""

    def member(self, subject: bytes) -> Member | None:
        """The live member with this id."""
        return next((one for one in self.members if one.credential.subject == subject), None)

    def named(self, name: str) -> Member | None:
        """The live member with this name."""
        return next((one for one in self.members if one.credential.name == name), None)

    def was_revoked(self, subject: bytes) -> bool:
        """Whether this identity was a member and may not be one again."""
        return any(one.id == subject for one in self.revoked)


def encode_state(state: AuthorityState) -> bytes:
    """The file's text."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "realm": state.realm,
        "lease_seconds": state.lease_seconds,
        "serial": state.serial,
        "checkpoint": _to_text(state.latest.signed.cose),
        "members": [_to_text(one.signed.cose) for one in state.members],
        "revoked": [{**one._asdict(), "id": one.id.hex()} for one in state.revoked],
        "tickets": [_ticket_to_json(one) for one in state.tickets],
        "hiding": None if state.hiding is None else _to_text(state.hiding.cose),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def decode_state(data: bytes, keys: PublicKeys) -> AuthorityState:
    """From the file's text. What it holds as signed must be by these keys. Raises IdentityError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise IdentityError(_DAMAGED) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise IdentityError("is no state of an authority")
    if document.get("version") != VERSION:
        raise IdentityError(f"has version {document.get('version')!r}, and this program knows {VERSION} only")
    try:
        return _decode(document, keys)
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, ProtocolError):
        raise IdentityError(_DAMAGED) from None


def member_of(signed: Signed) -> Member:
    """A member, from its credential. Raises Malformed."""
    return Member(Credential.from_map(signed.fields), signed)


def latest_of(signed: Signed) -> Latest:
    """A checkpoint, from its record. Raises Malformed."""
    return Latest(Checkpoint.from_map(signed.fields), signed)


def grants_to_json(grants: tuple[Grant, ...]) -> list[dict[str, object]]:
    """For people and machines: the words of the command line."""
    return [
        {
            "role": ROLE_WORDS[grant.role],
            "topics": list(grant.patterns),
            **({"history": HISTORY_WORDS[grant.history]} if grant.role is Role.CONSUME else {}),
        }
        for grant in grants
    ]


ROLE_WORDS: Final = {Role.PRODUCE: "producer", Role.CONSUME: "consumer", Role.KEEPER: "keeper"}
HISTORY_WORDS: Final = {History.NONE: "none", History.FROM_JOIN: "from-join", History.ALL: "all"}
_ROLES: Final = {word: role for role, word in ROLE_WORDS.items()}
_HISTORIES: Final = {word: history for history, word in HISTORY_WORDS.items()}


def grant_of(role: str, topics: tuple[str, ...], history: str | None = None) -> Grant:
    """A grant, in the words of the command line. Raises IdentityError."""
    if role not in _ROLES:
        raise IdentityError(f"--role {role}: must be one of {', '.join(_ROLES)}")
    if history is not None and history not in _HISTORIES:
        raise IdentityError(f"--history {history}: must be one of {', '.join(_HISTORIES)}")
    default = History.FROM_JOIN if role == "consumer" else History.NONE
    try:
        return Grant(role=_ROLES[role], patterns=topics, history=default if history is None else _HISTORIES[history])
    except ProtocolError as error:
        raise IdentityError(error.reason) from None


def _ticket_to_json(ticket: IssuedTicket) -> dict[str, object]:
    return {
        "id": ticket.id.hex(),
        "public": ticket.public.hex(),
        "grants": grants_to_json(ticket.grants),
        "issued": ticket.issued,
        "expires": ticket.expires,
        "uses": ticket.uses,
        "name": ticket.name,
        "used_by": [one.hex() for one in ticket.used_by],
    }


def _decode(document: dict[str, Any], keys: PublicKeys) -> AuthorityState:
    realm = str(document["realm"])

    def signed(kind: RecordType, text: str) -> Signed:
        made = read_signed(kind, base64.b64decode(text, validate=True), realm)
        made.verify(keys)
        return made

    return AuthorityState(
        realm=realm,
        lease_seconds=int(document["lease_seconds"]),
        serial=int(document["serial"]),
        latest=latest_of(signed(RecordType.CHECKPOINT, document["checkpoint"])),
        members=tuple(member_of(signed(RecordType.CREDENTIAL, one)) for one in document["members"]),
        revoked=tuple(
            Revoked(bytes.fromhex(one["id"]), str(one["name"]), int(one["serial"]), int(one["at"]))
            for one in document["revoked"]
        ),
        tickets=tuple(_ticket(one) for one in document["tickets"]),
        hiding=None if document.get("hiding") is None else signed(RecordType.HIDING, document["hiding"]),
    )


def _ticket(value: dict[str, Any]) -> IssuedTicket:
    return IssuedTicket(
        id=bytes.fromhex(value["id"]),
        public=bytes.fromhex(value["public"]),
        grants=tuple(grant_of(one["role"], tuple(one["topics"]), one.get("history")) for one in value["grants"]),
        issued=int(value["issued"]),
        expires=int(value["expires"]),
        uses=int(value["uses"]),
        name=None if value["name"] is None else str(value["name"]),
        used_by=tuple(bytes.fromhex(one) for one in value["used_by"]),
    )


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()
