"""What the control topic must have of its authority."""

from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.record import IdentityRecord, sign_body
from kveil.protocol.identity.signing import Signed
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState
from kveil.proxy.identity.handing import handed_records


def everything(keys: Identity, state: AuthorityState) -> list[Signed]:
    """All of it, the checkpoint last: what it lists is there then. Raises IdentityError."""
    handed = handed_records(keys, state, None)
    return [_identity(keys, state), *(one.signed for one in state.members), *handed, state.latest.signed]


def owed(keys: Identity, state: AuthorityState, reader: AuthorityReader) -> list[Signed]:
    """What the topic doesn't have yet, or any more. Raises IdentityError."""
    handed = handed_records(keys, state, reader)
    records = [*(one.signed for one in state.members), *handed, state.latest.signed]
    missing = [record for record in records if not reader.has(record)]
    return missing if reader.identity(keys.id) is not None else [_identity(keys, state), *missing]


def _identity(keys: Identity, state: AuthorityState) -> Signed:
    return sign_body(IdentityRecord(realm=state.realm, keys=keys.public), keys)
