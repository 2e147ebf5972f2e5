"""An authority in memory, with a topic that its records go to, and nodes that come with tickets."""

from dataclasses import dataclass, field

from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Answer, Enrolment, request_enrolment
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.record import decode_record, encode_record
from kveil.protocol.identity.signing import Signed
from kveil.protocol.identity.ticket import Ticket
from kveil.proxy.identity.authority import Approve, Authority, new_state
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState
from kveil.proxy.identity.owed import owed
from tests.support.realm import NOW, identity

LEASE = 86_400


@dataclass
class Desk:
    """What `kveil authority` does with files and a cluster, without either. `state` is the disk, `values` the topic."""

    keys: Identity = field(default_factory=lambda: identity("authority"))
    now: int = NOW
    values: list[bytes] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state: AuthorityState = new_state(self.keys, "demo", LEASE, self.now)

    def reader(self) -> AuthorityReader:
        """The topic as the authority reads it now."""
        reader = AuthorityReader(self.keys.public, self.state)
        for value in self.values:
            reader.apply(0, None, value)
        reader.heard()
        return reader

    def step(self) -> Authority:
        """A step that begins now."""
        return Authority(self.keys, self.state, self.now)

    def finish(self, step: Authority, *, publishes: bool = True, force: bool = False) -> None:
        """Disk first, then the topic; without `publishes` it is killed in between."""
        step.renew()
        step.close(force=force)
        self.state = step.state
        self.events += [(event.kind, event.subject) for event in step.events]
        if publishes:
            self.put(*step.answers)
            self.publish()

    def publish(self) -> list[Signed]:
        """What the topic lacks."""
        records = owed(self.keys, self.state, self.reader())
        self.put(*records)
        return records

    def put(self, *records: Signed | Enrolment) -> None:
        self.values += [encode_record(record)[1] for record in records]

    def redeem(
        self, ticket: Ticket, node: Identity, *, name: str | None = None, approve: Approve | None = None
    ) -> None:
        """A node comes with a ticket, and the authority lets it in or not."""
        enrolment = request_enrolment(ticket, node, self.keys.public, name)
        self.put(enrolment)
        self.answer(enrolment, approve)

    def answer(self, enrolment: Enrolment, approve: Approve | None = None, *, publishes: bool = True) -> None:
        step = self.step()
        step.redeem(enrolment, self.reader(), approve)
        self.finish(step, publishes=publishes)

    def names(self) -> list[str]:
        return sorted(one.credential.name for one in self.state.members)

    def bodies(self, kind: type[Credential] | type[Checkpoint] | type[Answer]) -> list[object]:
        """What stands on the topic of one kind."""
        records = [decode_record(value, "demo") for value in self.values]
        return [one.body for one in records if not isinstance(one, Enrolment) and isinstance(one.body, kind)]


def ended(desk: Desk, node: Identity) -> Ended | None:
    """What the newest checkpoint says of a producer's end."""
    return next((one for one in desk.state.latest.checkpoint.ended if one.id == node.id), None)
