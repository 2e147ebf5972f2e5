"""What the control topic must have of its authority."""

from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.record import IdentityRecord, sign_body
from kveil.protocol.identity.signing import Signed
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState


def everything(keys: Identity, state: AuthorityState) -> list[Signed]:
    """All of it, the checkpoint last: what it lists is there then."""
    identity = sign_body(IdentityRecord(realm=state.realm, keys=keys.public), keys)
    return [identity, *(one.signed for one in state.members), state.latest.signed]


def owed(keys: Identity, state: AuthorityState, reader: AuthorityReader) -> list[Signed]:
    """What the topic doesn't have yet, or any more."""
    identity, *rest = everything(keys, state)
    missing = [record for record in rest if not reader.has(record)]
    return missing if reader.identity(keys.id) is not None else [identity, *missing]
