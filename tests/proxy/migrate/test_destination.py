"""What the rules and settings of both topics must be."""

import pytest

from kveil.proxy.config import Mode, load
from kveil.proxy.migrate.cluster import Topic
from kveil.proxy.migrate.destination import Configs, check_destination, check_rules, mode_for, settings_for
from kveil.proxy.migrate.errors import MigrateRefused
from kveil.proxy.policy import Policy

POLICY = Policy(
    load(
        None,
        {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_TOPICS": "[{match: 'p*', seal: none}, {match: c, mode: batch}]"},
    )
)
NOTHING = Configs(all={}, own={})


@pytest.mark.parametrize(("source", "dest", "to_plain"), [("p1", "s1", False), ("s1", "s2", False), ("s1", "p1", True)])
def test_rules_that_fit(source, dest, to_plain):
    check_rules(POLICY, source, dest, to_plain=to_plain)


@pytest.mark.parametrize(
    ("source", "dest", "to_plain", "reason"),
    [
        ("p1", "p2", False, "both plain"),
        ("p1", "p2", True, "both plain"),
        ("s1", "p1", False, "--to-plain"),
        ("s1", "s2", True, "seal: none"),
        ("p1", "s1", True, "seal: none"),
        ("s1", "s1", False, "same topic"),
    ],
)
def test_rules_that_do_not(source, dest, to_plain, reason):
    with pytest.raises(MigrateRefused, match=reason) as refused:
        check_rules(POLICY, source, dest, to_plain=to_plain)
    assert refused.value.exit_code == 2


def topic(partitions: int) -> Topic:
    return Topic(name="t", topic_id="", leaders=dict.fromkeys(range(partitions), 0), replicas=1)


@pytest.mark.parametrize(
    ("partitions", "source", "dest", "reason"),
    [
        (1, {}, {}, "keep their partitions"),
        (3, {}, {}, "keep their partitions"),
        (2, {}, {"message.timestamp.type": "LogAppendTime"}, "timestamps"),
        (2, {"cleanup.policy": "delete"}, {"cleanup.policy": "delete,compact"}, "compacted"),
    ],
)
def test_a_destination_that_cannot_take_the_records(partitions, source, dest, reason):
    with pytest.raises(MigrateRefused, match=reason):
        check_destination(topic(2), topic(partitions), Configs(all=source, own={}), Configs(all=dest, own={}))


def test_one_that_can():
    compacted = Configs(all={"cleanup.policy": "compact"}, own={})
    check_destination(topic(2), topic(2), compacted, NOTHING)
    check_destination(topic(2), topic(2), compacted, compacted)


class TestSettings:
    def test_the_sources_own_are_kept(self):
        own = {"retention.ms": "1000", "cleanup.policy": "compact", "min.insync.replicas": "2"}
        made = settings_for(Configs(all=own | {"segment.ms": "5"}, own=own), Mode.RECORD)
        assert own.items() <= made.items()
        assert "segment.ms" not in made

    @pytest.mark.parametrize(("mode", "limit"), [(None, 1000), (Mode.BATCH, 1000 + 125 + 4096), (Mode.RECORD, 4000)])
    def test_there_is_room_for_what_sealing_adds(self, mode, limit):
        configs = Configs(all={"max.message.bytes": "1000"}, own={})
        assert settings_for(configs, mode)["max.message.bytes"] == str(limit)

    def test_a_limit_stays_a_number_of_kafkas(self):
        configs = Configs(all={"max.message.bytes": str(2**31 - 1)}, own={})
        assert settings_for(configs, Mode.RECORD)["max.message.bytes"] == str(2**31 - 1)

    def test_timestamps_are_the_producers(self):
        own = {"message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": "7"}
        made = settings_for(Configs(all=own, own=own), Mode.BATCH)
        assert (made["message.timestamp.type"], made["message.timestamp.after.max.ms"]) == ("CreateTime", "7")

    def test_what_names_brokers_or_codecs_is_left(self):
        own = {"compression.type": "gzip", "leader.replication.throttled.replicas": "0:1"}
        assert settings_for(Configs(all=own, own=own), Mode.BATCH).keys() == {
            "message.timestamp.type",
            "max.message.bytes",
        }


@pytest.mark.parametrize(
    ("name", "cleanup", "mode"),
    [
        ("p1", "delete", None),
        ("s1", "delete", Mode.BATCH),
        ("s1", "compact", Mode.RECORD),
        ("s1", "delete, compact", Mode.RECORD),
        ("c", "compact", Mode.BATCH),
    ],
)
def test_the_mode(name, cleanup, mode):
    assert mode_for(POLICY, name, Configs(all={"cleanup.policy": cleanup}, own={})) == mode
