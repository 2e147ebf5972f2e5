"""Records for the control topic as a file, so that whoever signed them needn't reach the cluster.

    {"format": "kveil-records", "version": 1, "realm": NAME, "records": [base64, ...]}

Nothing in it is secret: it is what the topic will show to all.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.record import Record, decode_record, encode_record
from kveil.protocol.identity.signing import Signed
from kveil.proxy.identity.errors import IdentityError

FORMAT: Final = "kveil-records"
VERSION: Final = 1


class RecordsFile(NamedTuple):
    """Its content, of which no signature was looked at."""

    realm: str
    records: list[Record]


def encode_records(realm: str, records: Sequence[Signed]) -> bytes:
    """The file's text."""
    values = [base64.b64encode(encode_record(record)[1]).decode() for record in records]
    return json.dumps({"format": FORMAT, "version": VERSION, "realm": realm, "records": values}, indent=1).encode()


def decode_records(data: bytes) -> RecordsFile:
    """From the file's text. Raises IdentityError."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise IdentityError("is no file of records that this program knows")
        realm = document["realm"]
        found = [decode_record(base64.b64decode(one, validate=True), realm) for one in document["records"]]
    except (KeyError, TypeError, ValueError, RecursionError, binascii.Error):
        raise IdentityError("is no file of records: `--out` of a command makes one") from None
    except ProtocolError as error:
        raise IdentityError(f"has a record that can't be used: {error.reason}") from None
    return RecordsFile(realm, [one for one in found if not isinstance(one, Enrolment)])
