"""Writes `identity/records.json`: `python -m tests.vectors.identity_generate`.

What is sealed or signed post-quantum is random each time, so the file isn't made again and compared: it is kept, and a
library that reads its drafts otherwise one day doesn't open it any more.
"""

import json
from pathlib import Path

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.enrolment import request_enrolment
from kveil.protocol.identity.ticket import Ticket
from tests.support.realm import NOW, Realm, consumes, keeps, produces, value_of

HERE = Path(__file__).parent / "identity"
SECRET = bytes(range(32))
HIDING_KEY = bytes(range(32, 64))


def realm_of(suite: KemSuite, twice: bool) -> dict[str, object]:
    """A realm's records, and the private keys that open them."""
    realm = Realm(suite=suite, twice=twice)
    producer, reader = realm.node("producer", produces()), realm.node("reader", consumes())
    keeper = realm.node("keeper", keeps())
    checkpoint = realm.checkpoint()
    announced = realm.announce(producer, SECRET, reader, keeper)
    records = [
        realm.identity,
        *(node.credential for node in (producer, reader, keeper)),
        checkpoint,
        announced,
        realm.regrant(keeper, announced, SECRET, reader),
        realm.beacon(producer),
        realm.hand(reader, HIDING_KEY),
    ]
    ticket = Ticket(realm="demo", authority=realm.authority.id, secret=SECRET, checkpoint=realm.kept, expires=NOW + 600)
    enrolment = request_enrolment(ticket, reader.keys, realm.authority.public, "reader")
    return {
        "suite": int(suite),
        "signs_twice": twice,
        "authority": realm.authority.to_private_bytes().hex(),
        "reader": reader.keys.to_private_bytes().hex(),
        "authority_id": realm.authority.id.hex(),
        "reader_id": reader.keys.id.hex(),
        "epoch_key": SECRET.hex(),
        "hiding_key": HIDING_KEY.hex(),
        "hiding_key_id": derive_hiding_key_id(HIDING_KEY, realm="demo").hex(),
        "kid": announced.fields[5].hex(),
        "ticket": ticket.to_text(),
        "ticket_id": ticket.key().id.hex(),
        "ticket_public": ticket.key().public.hex(),
        "enrolment": enrolment.to_bytes().hex(),
        "records": [value_of(record).hex() for record in records],
    }


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    made = [realm_of(suite, twice) for suite in KemSuite for twice in (False, True)]
    (HERE / "records.json").write_text(json.dumps(made, indent=1) + "\n")
