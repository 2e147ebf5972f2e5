"""What an authority decides: who is a member, for how long, and what the next checkpoint says.

    authority = Authority(keys, state, now)
    authority.grant(...); authority.revoke(...); authority.redeem(...)
    authority.close()                       # signs the next checkpoint if anything changed, or it is time
    -> authority.state                      # to be on disk first
    -> authority.answers, authority.events  # to be published then, and told

Nothing here reads, writes or waits. Times are seconds since 1970.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from kveil.protocol.identity.checkpoint import Ended
from kveil.protocol.identity.credential import Grant
from kveil.protocol.identity.enrolment import Answer, Enrolment, Reason, Request, open_enrolment
from kveil.protocol.identity.record import sign_body
from kveil.protocol.identity.ticket import Ticket
from kveil.proxy.identity.authority_state import ROLE_WORDS, IssuedTicket, grants_to_json
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.roll import NameTaken, Roll, joined, new_state, produces

__all__ = ["Approve", "Authority", "NameTaken", "Topic", "new_state", "produces"]

# For how long a ticket that was used is known again, and one that wasn't.
_USED_SECONDS: Final = 90 * 86_400
_UNUSED_SECONDS: Final = 86_400

Approve = Callable[[str, bytes, tuple[Grant, ...]], bool]
"""Whether a person lets somebody in: name, id, grants."""


class Topic(Protocol):
    """What the authority must know of the control topic."""

    def has_answer(self, ticket_id: bytes, node: bytes) -> bool:
        """Whether a node was told already why it got no credential."""
        ...

    def end_of(self, producer: bytes) -> Ended:
        """How far a producer's announcements and batches went, as far as the topic says."""
        ...


class Authority(Roll):
    """The roll, and who comes onto it by a ticket."""

    def issue_ticket(self, grants: Sequence[Grant], seconds: int, uses: int, name: str | None) -> Ticket:
        """A ticket for whoever has it first."""
        if name is not None and self.state.named(name) is not None:
            raise NameTaken(f"there is a member {name} already: --name gives another name")
        self._forget_tickets()
        expires = self._now + seconds
        ticket = Ticket.make(
            realm=self.state.realm, authority=self._keys.id, checkpoint=self.state.latest.kept, expires=expires
        )
        key = ticket.key()
        issued = IssuedTicket(
            id=key.id,
            public=key.public,
            grants=joined((), grants),
            issued=self._now,
            expires=expires,
            uses=uses,
            name=name,
        )
        self.state = replace(self.state, tickets=(*self.state.tickets, issued))
        self._event(
            "ticket.issued", key.id.hex(), expires=expires, uses=uses, name=name, grants=grants_to_json(issued.grants)
        )
        return ticket

    def redeem(self, enrolment: Enrolment, topic: "Topic", approve: Approve | None = None) -> None:
        """Let somebody in who came with a ticket, or answer why not. Raises Refused or Malformed for a forged one."""
        self.check_hiding_key()
        request = open_enrolment(enrolment, self._keys, self.state.realm)
        if topic.has_answer(request.ticket_id, request.keys.id):
            return
        ticket = next((one for one in self.state.tickets if one.id == request.ticket_id), None)
        if ticket is None:
            if self.state.member(request.keys.id) is None and not self.state.was_revoked(request.keys.id):
                self._answer(request, Reason.NOT_KNOWN)
            return
        request.check_ticket(ticket.public)
        if request.keys.id in ticket.used_by:
            return  # what it got is among the members, unless that was revoked
        if ticket.is_used_up:
            self._used_again(request, ticket, topic)
        elif self._now > ticket.expires:
            self._answer(request, Reason.EXPIRED)
        else:
            self._let_in(request, ticket, approve)

    def _let_in(self, request: Request, ticket: IssuedTicket, approve: Approve | None) -> None:
        name = request.name or ticket.name
        try:
            self._check_keys(request.keys)
        except IdentityError:
            self._answer(request, Reason.REFUSED)
            return
        if self.state.was_revoked(request.keys.id):
            self._answer(request, Reason.REFUSED)
            return
        member = self.state.member(request.keys.id)
        if member is None and name is not None and self.state.named(name) is not None:
            self._answer(request, Reason.NAME_TAKEN)
            return
        shown = name or f"{ROLE_WORDS[ticket.grants[0].role]}-{request.keys.id.hex()[:8]}"
        if approve is not None and not approve(shown, request.keys.id, ticket.grants):
            self._put(replace(ticket, uses=len(ticket.used_by)))  # whoever has it, it isn't whom it was for
            self._answer(request, Reason.REFUSED)
            return
        try:
            self.grant(request.keys, ticket.grants, None if member is not None else name)
        except NameTaken:
            self._answer(request, Reason.NAME_TAKEN)
            return
        except IdentityError:
            self._answer(request, Reason.REFUSED)
            return
        self._put(replace(ticket, used_by=(*ticket.used_by, request.keys.id)))
        self._event("ticket.redeemed", ticket.id.hex(), fingerprint=request.keys.id.hex(), name=shown)

    def _used_again(self, request: Request, ticket: IssuedTicket, topic: "Topic") -> None:
        """Somebody else has the ticket too, and nobody can tell which of them it was for."""
        if not ticket.used_by:
            self._answer(request, Reason.REFUSED)  # a person said no to whoever came with it
            return
        self._answer(request, Reason.USED)
        self._event(
            "identity.alarm",
            ticket.id.hex(),
            kind="ticket-reused",
            fingerprint=request.keys.id.hex(),
            used_by=[one.hex() for one in ticket.used_by],
        )
        if ticket.uses == 1 and (member := self.state.member(ticket.used_by[0])) is not None:
            self._revoke(member, topic.end_of(member.credential.subject) if produces(member) else None)

    def _answer(self, request: Request, reason: Reason) -> None:
        answer = Answer(realm=self.state.realm, ticket_id=request.ticket_id, node=request.keys.id, reason=reason)
        self.answers.append(sign_body(answer, self._keys))
        self._event(
            "ticket.refused",
            request.ticket_id.hex(),
            fingerprint=request.keys.id.hex(),
            reason=reason.name.lower().replace("_", "-"),
        )

    def _put(self, ticket: IssuedTicket) -> None:
        tickets = tuple(ticket if one.id == ticket.id else one for one in self.state.tickets)
        self.state = replace(self.state, tickets=tickets)

    def _forget_tickets(self) -> None:
        kept = tuple(
            one
            for one in self.state.tickets
            if self._now <= one.expires + (_USED_SECONDS if one.used_by or not one.uses else _UNUSED_SECONDS)
        )
        self.state = replace(self.state, tickets=kept)
