"""Records as a file: what an offline authority hands over."""

import base64
import json

import pytest

from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.hiding import Handed
from kveil.protocol.identity.record import IdentityRecord
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.owed import everything
from kveil.proxy.identity.records_file import decode_records, encode_records
from tests.support.realm_desk import Desk


@pytest.fixture
def data():
    desk = Desk()
    return encode_records("demo", everything(desk.keys, desk.state))


def test_they_come_back(data):
    content = decode_records(data)
    assert content.realm == "demo"
    assert [type(one.body) for one in content.records] == [IdentityRecord, Handed, Checkpoint]


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{}", b"\xff", b'{"format": "kveil-records"}'])
def test_another_file(wrong):
    with pytest.raises(IdentityError, match="is no file of records"):
        decode_records(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"version": 2},
        {"records": ["%"]},
        {"records": [base64.b64encode(b"x").decode()]},
        {"realm": "x"},
    ],
    ids=str,
)
def test_what_can_not_be_used(data, change):
    with pytest.raises(IdentityError, match=r"is no file of records|a record that can't be used"):
        decode_records(json.dumps(json.loads(data) | change).encode())
