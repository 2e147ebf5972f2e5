"""Fetch from a hostile broker: nothing plain, moved or changed reaches the client (R2, R5)."""

import pytest
import structlog

from kveil.protocol.kafka.record_batch import CONTROL, TRANSACTIONAL
from kveil.proxy.apis.opening import UNOPENED, FetchedRecords, Room
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.keys.errors import KeyRefused, KeyUnavailable
from kveil.proxy.needs import OpeningKeyNeed
from tests.support.conversation import make_shared
from tests.support.fetching import fetch, fetch_one
from tests.support.records import at_offset, client_batch, headers_of, legacy, marker, sealed, tampered
from tests.vectors.reference import Batch, record

CORRUPT = ErrorCode.CORRUPT_MESSAGE
ONE, TWO, THREE = (client_batch(count) for count in (1, 2, 3))


def refused_as(talk, records, event="batch_unopened"):
    """The log line of records that must be refused and leave nothing."""
    assert fetch_one(talk, records) == (CORRUPT, b"")
    return talk.log.of(event)[-1]


class TestPlainInDisguise:
    """R2: a broker could dress plain data as any of these."""

    def test_a_plain_batch(self, converse, fresh_log_limits):
        assert "no envelope" in refused_as(converse(), at_offset(ONE, 3))["reason"]

    def test_is_accepted_where_the_rule_says_so(self, converse):
        talk = converse(topics=[{"match": "t", "accept_plain": True}])
        assert fetch_one(talk, at_offset(ONE, 3)) == (0, at_offset(ONE, 3))

    @pytest.mark.parametrize("magic", [0, 1])
    @pytest.mark.parametrize("accept_plain", [False, True])
    def test_an_old_format(self, converse, fresh_log_limits, magic, accept_plain):
        talk = converse(topics=[{"match": "t", "accept_plain": accept_plain}])
        assert f"magic {magic}" in refused_as(talk, legacy(magic))["reason"]

    def test_a_magic_that_is_not_there_yet(self, converse, fresh_log_limits):
        assert "magic 3" in refused_as(converse(), Batch(b"", 1, magic=3).encode())["reason"]

    @pytest.mark.parametrize("content", [record(0, b"\0\0\0\1", b"plain data"), record(0, None, b"plain"), b"plain"])
    @pytest.mark.parametrize("accept_plain", [False, True])
    def test_under_the_control_bit(self, converse, fresh_log_limits, content, accept_plain):
        talk = converse(topics=[{"match": "t", "accept_plain": accept_plain}])
        assert fetch_one(talk, marker(content=content)) == (CORRUPT, b"")

    def test_more_than_one_record_under_the_control_bit(self, converse):
        assert fetch_one(converse(), client_batch(2, attributes=0x20, producer_id=7)) == (CORRUPT, b"")

    @pytest.mark.parametrize("attributes", [0, TRANSACTIONAL | CONTROL])
    def test_behind_an_empty_batch(self, converse, fresh_log_limits, attributes):
        hidden = Batch(record(0, None, b"plain"), 0, last_offset_delta=0, attributes=attributes).encode()
        assert "count 0" in refused_as(converse(), hidden)["reason"]

    @pytest.mark.parametrize("commit", [True, False])
    def test_real_markers_pass(self, converse, writer, commit):
        talk = converse()
        records = sealed(writer, "t", 0, ONE) + marker(commit=commit, offset=1)
        assert fetch_one(talk, records) == (0, at_offset(ONE, 0) + marker(commit=commit, offset=1))

    @pytest.mark.parametrize("attributes", [0, TRANSACTIONAL, TRANSACTIONAL | CONTROL])
    def test_real_empty_batches_pass(self, converse, writer, attributes):
        """The log cleaner keeps the header of a producer's last batch, also of a marker."""
        empty = Batch(b"", 0, base_offset=5, last_offset_delta=3, attributes=attributes).encode()
        assert fetch_one(converse(), empty + sealed(writer, "t", 0, ONE, offset=9)) == (0, empty + at_offset(ONE, 9))

    def test_in_a_plain_topic_all_of_it_passes(self, converse):
        talk = converse(topics=[{"match": "logs", "seal": "none"}])
        for records in (at_offset(ONE, 3), legacy(1), b"cut"):
            assert fetch(talk, {"logs": {0: records}})["logs", 0] == (0, records)


class TestUnopenable:
    @pytest.fixture
    def stored(self, writer):
        return (
            sealed(writer, "t", 0, ONE, offset=10),
            sealed(writer, "t", 0, TWO, offset=11),
            sealed(writer, "t", 0, THREE, offset=13),
        )

    def test_tampered_first(self, converse, fresh_log_limits, stored):
        first, second, _ = stored
        line = refused_as(converse(), tampered(first) + second)
        assert (line["topic"], line["partition"], line["first_offset"], line["last_offset"]) == ("t", 0, 10, 10)
        assert (line["level"], line["next_good_offset"]) == ("error", 11)

    def test_good_ones_before_it_are_delivered(self, converse, fresh_log_limits, stored):
        first, second, third = stored
        talk = converse()
        assert fetch_one(talk, first + tampered(second) + third) == (0, at_offset(ONE, 10))
        (line,) = talk.log.of("batch_unopened")
        assert (line["first_offset"], line["last_offset"], line["next_good_offset"]) == (11, 12, 13)

    def test_no_next_good_offset(self, converse, fresh_log_limits, stored):
        first, second, _ = stored
        assert refused_as(converse(), tampered(first) + tampered(second))["next_good_offset"] is None

    def test_other_partitions_and_topics_go_on(self, converse, writer, stored):
        other = sealed(writer, "u", 1, ONE)
        found = fetch(converse(), {"t": {0: tampered(stored[0]), 2: sealed(writer, "t", 2, ONE)}, "u": {1: other}})
        assert {place: code for place, (code, _) in found.items()} == {("t", 0): CORRUPT, ("t", 2): 0, ("u", 1): 0}

    def test_the_cut_tail_is_dropped(self, converse, stored):
        first, second, _ = stored
        for cut in (1, 11, 17, 61, len(second) - 1):
            assert fetch_one(converse(), first + second[:cut]) == (0, at_offset(ONE, 10))
        assert fetch_one(converse(), first[:40]) == (0, b"")

    def test_copied_to_another_partition_or_topic(self, converse, stored):
        found = fetch(converse(), {"t": {1: stored[0]}, "u": {0: stored[0]}})
        assert found == {("t", 1): (CORRUPT, b""), ("u", 0): (CORRUPT, b"")}

    def test_a_key_that_the_rule_does_not_list(self, converse, fresh_log_limits, writer):
        eu = make_shared(writer.settings.keys.path.parent, topics=[{"match": "*", "key": "eu"}])
        line = refused_as(converse(), sealed(eu, "t", 0, ONE))
        assert "'eu'" in line["reason"]
        allowed = converse(topics=[{"match": "*", "accept_keys": ["eu"]}])
        assert fetch_one(allowed, sealed(eu, "t", 0, ONE)) == (0, at_offset(ONE, 0))

    def test_a_key_of_another_file(self, converse, fresh_log_limits, tmp_path_factory):
        stranger = make_shared(tmp_path_factory.mktemp("stranger"))
        assert fetch_one(converse(), sealed(stranger, "t", 0, ONE)) == (CORRUPT, b"")

    def test_a_length_that_no_batch_has(self, converse, fresh_log_limits, stored):
        talk = converse()
        nonsense = bytes(8) + b"\xff\xff\xff\xff" + bytes(60)
        assert fetch_one(talk, stored[0] + nonsense) == (0, at_offset(ONE, 10))
        assert talk.log.of("batch_unopened")[0]["first_offset"] is None
        assert fetch_one(converse(), nonsense) == (CORRUPT, b"")

    def test_every_byte_counts(self, converse, stored):
        first, talk = stored[0], converse()
        for at in [*range(16, 57), *range(57, len(first), 7)]:  # what stands before is the broker's own
            damaged = first[:at] + bytes((first[at] ^ 0x55,)) + first[at + 1 :]
            code, records = fetch_one(talk, damaged)
            if code == 0:  # the broker's checksum, its timestamp type and its timestamps: nothing of the client's
                assert records[61:] == at_offset(ONE, 10)[61:], at
            else:
                assert (code, records) == (CORRUPT, b"")

    def test_one_text_stands_for_all_reasons(self, converse, stored):
        talk = converse()
        rule = talk.shared.policy.rule_for("t")
        for records in (tampered(stored[0]), at_offset(ONE, 3), legacy(1), marker(content=b"plain"), bytes(80)):
            found = FetchedRecords(memoryview(records), topic="t", partition=0, rule=rule, connection=talk.connection)
            found.needs(dict.fromkeys(found.needs({}), KeyRefused("not here")))
            with pytest.raises(Refused) as refused:
                found.open(Room())
            assert (refused.value.code, refused.value.reason) == (CORRUPT, UNOPENED)

    def test_no_key_for_now(self, converse, monkeypatch, stored, writer):
        talk = converse()

        async def unwrap(*_):
            raise KeyUnavailable("the key service is down")

        known = sealed(talk.shared, "t", 0, TWO, offset=3)
        monkeypatch.setattr(talk.shared.keys, "unwrap", unwrap)
        assert fetch_one(talk, stored[0]) == (ErrorCode.KAFKA_STORAGE_ERROR, b"")
        assert fetch_one(talk, known + stored[0]) == (0, at_offset(TWO, 3))

    def test_a_key_is_asked_for_once(self, converse, stored):
        talk = converse()
        fetch_one(talk, b"".join(stored))
        fetch_one(talk, b"".join(stored))
        assert [type(need) for need in talk.needed] == [OpeningKeyNeed]


class TestSkipping:
    def test_gives_an_empty_batch_with_the_right_offsets(self, converse, writer):
        talk = converse(skip=["t/0/11-12"])
        first, second, third = (sealed(writer, "t", 0, b, offset=at) for b, at in ((ONE, 10), (TWO, 11), (THREE, 13)))
        code, records = fetch_one(talk, first + tampered(second) + third)
        assert code == 0
        headers = headers_of(records)
        assert [(h.base_offset, h.last_offset, h.record_count) for h in headers] == [
            (10, 10, 1),
            (11, 12, 0),
            (13, 15, 3),
        ]

    def test_is_audited(self, converse, writer):
        talk = converse(skip=["t/0/10-12"])
        with structlog.testing.capture_logs() as lines:
            fetch_one(talk, tampered(sealed(writer, "t", 0, TWO, offset=11)))
        (event,) = [
            line["cloudevent"] for line in lines if line["event"] == "audit" and "skip" in line["cloudevent"]["type"]
        ]
        assert event["subject"] == "t/0"
        assert (event["data"]["first_offset"], event["data"]["last_offset"]) == (11, 12)
        assert "tag" in event["data"]["reason"]

    def test_opens_what_can_be_opened(self, converse, writer):
        talk = converse(skip=["t/0/0-100"])
        assert fetch_one(talk, sealed(writer, "t", 0, TWO, offset=11)) == (0, at_offset(TWO, 11))

    @pytest.mark.parametrize("skip", ["t/0/11-11", "t/0/12-20", "t/1/0-100", "u/0/0-100"])
    def test_never_a_batch_that_reaches_beyond(self, converse, writer, skip):
        talk = converse(skip=[skip])
        assert fetch_one(talk, tampered(sealed(writer, "t", 0, TWO, offset=11))) == (CORRUPT, b"")
