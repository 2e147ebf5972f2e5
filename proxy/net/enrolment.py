"""Enrolling this node: its identity is made, asked for on the control topic, and believed once it is a member."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kveil.protocol.identity.enrolment import Enrolment, request_enrolment
from kveil.protocol.identity.identity import Identity, PublicKeys
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.record import IdentityRecord, encode_record, sign_body
from kveil.protocol.identity.signing import Signed
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import View
from kveil.proxy.admin.audit import audit
from kveil.proxy.config import Settings
from kveil.proxy.identity.authority_state import grants_to_json
from kveil.proxy.identity.enrolling import Enrolled, NodeReader, RealmFinder, authority_keys, outcome, silence
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.identity_file import Protection, create_identity, has_identity, read_identity
from kveil.proxy.identity.node_files import CheckpointMark, Membership, NodeFiles
from kveil.proxy.net.control import ControlUnusable, control_topic


class Whom(NamedTuple):
    """Whom a node wants to belong to."""

    realm: str
    authority: bytes
    kept: Kept | None = None
    """The oldest checkpoint that may be believed, if the ticket has told."""
    ticket: Ticket | None = None


class NoAnswer(IdentityError):
    """Nothing came of it in time; it may be tried again."""

    exit_code = 1


async def find_realm(settings: Settings, authority: bytes) -> Whom:
    """The realm of an authority. Raises IdentityError."""
    finder = RealmFinder(authority)
    async with control_topic(settings, finder):
        pass
    if finder.realm is None:
        authority_keys(View(realm="that nobody has told", authority=authority))
    return Whom(finder.realm or "", authority)


async def enrol(
    settings: Settings,
    directory: Path,
    protection: Protection,
    whom: Whom,
    *,
    name: str | None = None,
    seconds: float,
    tell: Callable[[bytes], None],
) -> Enrolled:
    """Become a member, and have it on disk. `tell` hears the fingerprint as soon as it is asked for.

    :raises IdentityError: it can't be.
    """
    files = NodeFiles(directory)
    reader = NodeReader(View(realm=whom.realm, authority=whom.authority, kept=whom.kept))
    changed = asyncio.Event()
    reader.when_changed = changed.set
    async with control_topic(settings, reader) as log:
        keys = authority_keys(reader.view)
        node = identity_for(directory, protection, keys)
        ticket_id = None if whom.ticket is None else whom.ticket.key().id
        enrolled = outcome(reader.view, node.id, None, int(time.time()))
        if enrolled is None:
            await log.append([encode_record(_asking(node, whom, keys, name))])
            tell(node.id)
        try:
            async with asyncio.timeout(seconds):
                while enrolled is None:
                    changed.clear()
                    enrolled = outcome(reader.view, node.id, ticket_id, int(time.time()))
                    if enrolled is None:
                        await changed.wait()
        except TimeoutError:
            text = silence(node.id, reader.refused, by_ticket=ticket_id is not None, seconds=seconds)
            raise NoAnswer(text) from None
    files.enrol(Membership(whom.realm, whom.authority), CheckpointMark(*enrolled.kept))
    credential = enrolled.credential
    audit(
        "identity.enrolled",
        credential.name,
        realm=whom.realm,
        fingerprint=node.id.hex(),
        serial=credential.serial,
        grants=grants_to_json(credential.grants),
    )
    return enrolled


def check_not_enrolled(directory: Path) -> None:
    """Raises IdentityError if the node belongs to a realm."""
    if NodeFiles(directory).is_enrolled:
        raise IdentityError(
            f"the identity in {directory} is enrolled already. It may do more by `kveil authority grant` with its "
            "fingerprint (`kveil identity show`); --identity names another directory for another identity"
        )


def identity_for(directory: Path, protection: Protection, realm_keys: PublicKeys) -> Identity:
    """The node's identity, made of the realm's kind of keys if there is none. Raises IdentityError."""
    if not has_identity(directory):
        made = Identity.generate(suite=realm_keys.suite, sign_twice=realm_keys.signs_twice)
        create_identity(directory, made, protection)
    node = read_identity(directory, protection)
    if node.suite is not realm_keys.suite or node.public.signs_twice is not realm_keys.signs_twice:
        raise IdentityError(
            f"the identity in {directory} has other kinds of keys than the realm: move it away, and it is made anew"
        )
    return node


def own_record(node: Identity, realm: str) -> Signed:
    """What tells an authority the keys behind a fingerprint."""
    return sign_body(IdentityRecord(realm=realm, keys=node.public), node)


def _asking(node: Identity, whom: Whom, keys: PublicKeys, name: str | None) -> Signed | Enrolment:
    return own_record(node, whom.realm) if whom.ticket is None else request_enrolment(whom.ticket, node, keys, name)


async def read_view(settings: Settings, whom: Whom) -> NodeReader:
    """The control topic as it is now. Raises ControlUnusable, or IdentityError."""
    reader = NodeReader(View(realm=whom.realm, authority=whom.authority, kept=whom.kept))
    async with control_topic(settings, reader):
        authority_keys(reader.view)
    return reader


__all__ = ["ControlUnusable", "NoAnswer", "Whom", "enrol", "find_realm", "identity_for", "own_record", "read_view"]
