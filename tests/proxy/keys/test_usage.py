"""Which key versions envelopes need: counted for each partition, whoever wrote them, and without a key."""

import pytest

from kveil.proxy.keys import usage
from kveil.proxy.keys.keyfile import rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.keys.usage import Found, KeyVersionRef, Usage
from tests.support.conversation import COMPACTED, Conversation, key_file, make_shared
from tests.support.producing import PRODUCE, sent
from tests.support.records import at_offset, client_batch, legacy, marker, produced, sealed, tampered

T = 1_700_000_000_000
FIRST, SECOND = KeyVersionRef(1, "default", "1"), KeyVersionRef(1, "eu", "2")
TWO, THREE = client_batch(2), client_batch(3)


@pytest.fixture
def versions(tmp_path):
    """Two proxies that seal under a key each, the second's rotated once."""
    change_key_file(key_file(tmp_path), lambda content: rotate_key(content, "eu"))
    return make_shared(tmp_path), make_shared(tmp_path, topics=[{"match": "*", "key": "eu"}])


def counted(*batches: tuple[int, bytes]) -> Usage:
    found = Usage()
    for partition, batch in batches:
        found.add(partition, memoryview(bytearray(batch)))
    return found


def records_of(found: Usage) -> dict[KeyVersionRef, dict[int, tuple[int, int]]]:
    return {
        key: {partition: (each.batches, each.records) for partition, each in spans.items()}
        for key, spans in found.keys.items()
    }


def test_batches_are_counted_by_key_and_partition(versions):
    first, second = versions
    found = counted(
        (0, sealed(first, "t", 0, TWO)),
        (0, sealed(first, "t", 0, THREE, offset=2)),
        (0, sealed(second, "t", 0, THREE, offset=5)),
        (1, sealed(second, "t", 1, TWO)),
    )
    assert records_of(found) == {FIRST: {0: (2, 5)}, SECOND: {0: (1, 3), 1: (1, 2)}}
    assert (found.plain, found.unreadable) == ({}, {})


def test_the_oldest_and_the_newest_are_told(versions):
    batches = [client_batch(2, base_timestamp=T + late, max_timestamp=T + late + 1) for late in (500, 0, 900)]
    found = counted(*((0, sealed(versions[0], "t", 0, batch, offset=10 * n)) for n, batch in enumerate(batches)))
    assert found.keys[FIRST][0] == Found(
        batches=3, records=6, first_offset=0, last_offset=21, oldest=T + 1, newest=T + 901
    )


def test_record_mode_is_counted_alike(tmp_path, versions):
    sections = []
    for shared in versions:
        talk = Conversation(tmp_path, shared=shared)
        talk.settings["t"] = COMPACTED
        talk.client(PRODUCE, 9, produced({"t": {0: TWO}}))
        sections.append(sent(talk)["t", 0])
    found = counted((0, sections[0]), (0, at_offset(sections[1], 2)))
    assert records_of(found) == {FIRST: {0: (1, 2)}, SECOND: {0: (1, 2)}}


def test_plain_batches_are_counted_apart(versions):
    found = counted((3, at_offset(TWO, 0)), (3, sealed(versions[0], "t", 3, TWO, offset=2)))
    assert found.plain[3].records == 2
    assert records_of(found) == {FIRST: {3: (1, 2)}}


def test_what_holds_no_records_is_passed_over():
    found = counted((0, marker(offset=1)), (0, legacy(1)), (0, legacy(0)))
    assert (found.keys, found.plain, found.unreadable) == ({}, {}, {})


def test_nothing_is_opened(versions):
    """A batch that was changed still says whose key it needs; one whose envelope is cut says nothing."""
    good = sealed(versions[0], "t", 0, TWO)
    assert records_of(counted((0, tampered(good)))) == {FIRST: {0: (1, 2)}}
    place = good.index(b"\xc5KV") + 3
    wrong = good[:place] + b"\x09" + good[place + 1 :]
    found = counted((0, wrong))
    assert found.keys == {}
    assert found.unreadable[0].batches == 1


def test_names_that_a_broker_makes_up_take_bounded_memory(monkeypatch, versions):
    monkeypatch.setattr(usage, "MOST_KEYS", 3)
    good = sealed(versions[0], "t", 0, TWO)
    named = good.index(b"\x00\x07default") + 2
    made_up = [good[:named] + b"defaul%d" % n + good[named + 7 :] for n in range(5)]
    found = counted(*((0, batch) for batch in made_up))
    assert len(found.keys) == 3
    assert found.unreadable[0].batches == 2
