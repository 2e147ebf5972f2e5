"""The key-hiding key of a realm, as its authority keeps it and hands it to those who may produce or consume.

The authority keeps it as it hands it out: wrapped, for its own keys. So it is as safe as those are, it is in every
backup of the directory, and on the topic too, from where an authority takes it whose backup is older.
"""

import secrets
from typing import Final

from kveil.protocol.envelope.key_schedule import HIDING_KEY_LENGTH
from kveil.protocol.identity.credential import Role
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.hiding import Handed, hand_out
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.signing import Signed
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState, Member
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.keys.keyfile import HidingKey

_ROLES: Final = {Role.PRODUCE, Role.CONSUME}


def new_hiding_key(keys: Identity, realm: str, taken_over: HidingKey | None = None) -> Signed:
    """A new one, or that of a key file, for the authority itself. Raises IdentityError."""
    try:
        if taken_over is not None:
            return hand_out(realm, taken_over.secret, taken_over.id, keys.public, keys)
        return hand_out(realm, secrets.token_bytes(HIDING_KEY_LENGTH), None, keys.public, keys)
    except ProtocolError as error:
        raise IdentityError(error.reason) from None


def found_or_new(keys: Identity, realm: str, reader: AuthorityReader) -> Signed:
    """The one that the topic has for this authority, or a new one where the realm has none. Raises IdentityError."""
    if (own := reader.hiding()) is not None:
        return own
    known = sorted(name.id.hex() for name in reader.view.handed_out())
    if known:
        raise IdentityError(
            f"the realm has a key-hiding key, {known[0]}, and this authority's directory, from a backup, hasn't: "
            "restore it from a newer one. Another key is not made: the same record keys would be hidden in two ways, "
            "and compaction would keep both. Until then nobody new is let in; revoking works"
        )
    return new_hiding_key(keys, realm)


def handed_records(keys: Identity, state: AuthorityState, reader: AuthorityReader | None) -> list[Signed]:
    """What hands the key to members that the topic doesn't have it for, or to all where it wasn't read.

    :raises IdentityError: the authority can't open its own.
    """
    if state.hiding is None:
        return []
    own = Handed.from_map(state.hiding.fields)
    made = [] if reader is not None and reader.has(state.hiding) else [state.hiding]
    wanted = [one for one in state.members if _needs_it(one)]
    if reader is not None:
        wanted = [one for one in wanted if own.key not in reader.view.handed_to(one.credential.subject)]
    if not wanted:
        return made
    try:
        secret = own.open(keys)
        made += [hand_out(state.realm, secret, own.key.id, one.credential.keys, keys) for one in wanted]
    except ProtocolError as error:
        raise IdentityError(f"the authority's key-hiding key can't be handed out: {error.reason}") from None
    return made


def _needs_it(member: Member) -> bool:
    """A keeper sees no record."""
    return any(grant.role in _ROLES for grant in member.credential.grants)
