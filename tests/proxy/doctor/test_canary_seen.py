"""What is said of a canary that came back, of what the broker holds, and of its clock."""

import asyncio

import pytest

from kveil.protocol.envelope.record import seal_records
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, check_produced, compressed_batch, read_header
from kveil.proxy.doctor.canary_seen import KEY, Canary, judge, judge_skew
from kveil.proxy.doctor.findings import Level
from kveil.proxy.net.own_topic import plain_batch
from tests.support.conversation import make_shared
from tests.support.records import at_offset, legacy, sealed, tampered

VALUE = b"0123456789abcdef" * 4
OFFSET = 41
AT = 1_800_000_000.0
PLAIN = at_offset(plain_batch([(KEY, VALUE)], int(AT * 1000)), OFFSET)


@pytest.fixture
def shared(tmp_path):
    return make_shared(tmp_path)


def in_batch_mode(shared):
    return sealed(shared, "orders", 0, PLAIN, offset=OFFSET)


def in_record_mode(shared, *, hidden):
    key = asyncio.run(shared.keys.renew("orders", shared.policy.rule_for("orders")))
    view = memoryview(bytearray(PLAIN))
    hiding = shared.keys.hiding_key("orders") if hidden else None
    pieces = seal_records(view, check_produced(view), key=key, partition=0, hiding=hiding)
    return at_offset(b"".join(map(bytes, pieces)), OFFSET)


def seen(stored, opened=PLAIN):
    return Canary(
        topic="orders", value=VALUE, offset=OFFSET, stored=stored, opened=opened, sent_at=AT, answered_at=AT + 0.2
    )


def stored_finding(shared, batch):
    return judge(seen(batch), shared.policy)[1]


def test_all_is_well(shared):
    opened, stored, clock = judge(seen(in_batch_mode(shared)), shared.policy)
    assert (opened.level, "in 200 ms" in opened.what) == (Level.OK, True)
    assert stored.level is Level.OK
    assert "an envelope in batch mode under keyfile:default version 1; neither key nor value" in stored.what
    assert (clock.level, "LogAppendTime" in clock.what) == (Level.SKIPPED, True)


def test_in_record_mode(shared):
    found = stored_finding(shared, in_record_mode(shared, hidden=True))
    assert (found.level, "in record mode" in found.what, "neither key nor" in found.what) == (Level.OK, True, True)


def test_a_key_that_should_be_hidden(shared):
    found = stored_finding(shared, in_record_mode(shared, hidden=False))
    assert (found.level, "the key in plaintext" in found.what) == (Level.FAILURE, True)


def test_a_key_that_may_be_seen(tmp_path):
    shared = make_shared(tmp_path, topics=[{"match": "*", "mode": "record", "keys": "clear"}])
    found = stored_finding(shared, in_record_mode(shared, hidden=False))
    assert (found.level, "the key is by its rule" in found.what) == (Level.OK, True)


@pytest.mark.parametrize("codec", [0, 1, 3, 4])
def test_plaintext_at_the_broker(shared, codec):
    """Also where somebody compressed it, so that it isn't seen in the bytes."""
    batch = PLAIN
    if codec:
        batch = b"".join(map(bytes, compressed_batch(read_header(PLAIN), codec, PLAIN[HEADER_LENGTH:])))
    found = stored_finding(shared, batch)
    assert (found.level, "plaintext" in found.what) == (Level.FAILURE, True)


@pytest.mark.parametrize(
    "batch",
    [at_offset(plain_batch([(b"k", b"other")], 0), OFFSET), legacy(1, bytes(100)), b"", PLAIN[:61]],
    ids=["plain", "legacy", "nothing", "cut"],
)
def test_what_is_no_envelope(shared, batch):
    assert stored_finding(shared, batch).level is Level.FAILURE


def test_a_topic_that_is_plain_by_its_rule(tmp_path):
    shared = make_shared(tmp_path, topics=[{"match": "*", "seal": "none"}])
    found = stored_finding(shared, PLAIN)
    assert (found.level, "topics[0] *" in found.what) == (Level.WARNING, True)


@pytest.mark.parametrize(
    "opened",
    [
        b"",
        at_offset(PLAIN, OFFSET + 1),
        at_offset(plain_batch([(KEY, VALUE[::-1])], 0), OFFSET),
        at_offset(plain_batch([(b"k", VALUE)], 0), OFFSET),
        PLAIN[:61] + b"\xff" + PLAIN[62:],
    ],
    ids=["nothing", "elsewhere", "another-value", "another-key", "nonsense"],
)
def test_a_canary_that_did_not_come_back(shared, opened):
    assert judge(seen(in_batch_mode(shared), opened), shared.policy)[0].level is Level.FAILURE


@pytest.mark.parametrize(
    ("broker", "level", "said"),
    [
        (AT, Level.OK, "within 1.0 s"),
        (AT + 0.5, Level.OK, "within 1.0 s"),
        (AT - 9, Level.OK, "within 9.0 s"),
        (AT - 10, Level.WARNING, "10 s behind"),
        (AT + 11, Level.WARNING, "10 s ahead of"),
        (AT - 300, Level.FAILURE, "300 s behind"),
        (AT + 3600, Level.FAILURE, "3599 s ahead of"),
    ],
)
def test_clocks(broker, level, said):
    """What the answer took is no skew."""
    found = judge_skew(broker, AT, AT + 1)
    assert (found.check, found.level, said in found.what) == ("clock", level, True)
    assert (found.remedy is None) == (level is Level.OK)


def test_the_brokers_time_is_read_off_what_it_stored(shared):
    """Its attribute says whose it is."""
    stored = bytearray(in_batch_mode(shared))
    stored[22] |= 8
    stored[35:43] = int((AT + 60) * 1000).to_bytes(8, "big")
    clock = judge(seen(bytes(stored)), shared.policy)[2]
    assert (clock.level, "60 s ahead of" in clock.what) == (Level.WARNING, True)


def test_a_changed_envelope_still_is_one(shared):
    """Whether it opens is told by the canary itself."""
    assert stored_finding(shared, tampered(in_batch_mode(shared))).level is Level.OK
