"""What an authority says of a producer that it ends, by the topic as it is; and an authority's directory for it."""

from collections.abc import Iterable
from pathlib import Path

from kveil.protocol.identity.checkpoint import Ended
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState, latest_of, member_of
from kveil.proxy.identity.authority_store import AuthorityStore
from tests.support.members import Members
from tests.support.realm import DAY, Node, Realm


def state_of(realm: Realm, *members: Node) -> AuthorityState:
    """What its authority knows."""
    return AuthorityState(
        realm=realm.name,
        lease_seconds=DAY,
        serial=realm.serial,
        latest=latest_of(realm.checkpoints[-1]),
        members=tuple(member_of(one.credential) for one in members),
    )


def authority_of(members: Members, *nodes: Node) -> Path:
    """A directory for `kveil authority`, which goes on from here with these members."""
    directory = members.folder / "authority"
    AuthorityStore(directory).create(members.realm.authority, state_of(members.realm, *nodes), None)
    return directory


def end_of(realm: Realm, node: Node, records: Iterable[tuple[bytes | None, bytes | None]]) -> Ended:
    """As `kveil authority revoke` finds it."""
    reader = AuthorityReader(realm.authority.public, state_of(realm))
    for key, value in records:
        reader.apply(0, key, value)
    reader.heard()
    return reader.end_of(node.keys.id)
