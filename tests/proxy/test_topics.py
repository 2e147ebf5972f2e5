"""What is known of topics."""

import pytest

from kveil.proxy import topics
from kveil.proxy.topics import SettingsCache, TopicNames, TopicSettings
from tests.support.conversation import COMPACTED, DELETED

ID, OTHER = bytes(range(16)), bytes(range(1, 17))


class TestNames:
    def test_the_first_name_stays(self):
        names = TopicNames()
        assert names.find(ID) is None
        assert names.learn(ID, "orders") == "orders"
        assert names.learn(ID, "plain") == "orders"
        assert names.find(ID) == "orders"

    def test_a_topic_may_come_back_under_a_new_id(self):
        names = TopicNames()
        names.learn(ID, "orders")
        assert names.learn(OTHER, "orders") == "orders"
        assert names.id_of("orders") == OTHER

    def test_the_id_before_does_not_come_back(self):
        """A broker that lags behind may name it once more."""
        names = TopicNames()
        assert names.id_of("orders") is None
        for topic_id in (ID, OTHER, ID):
            names.learn(topic_id, "orders")
        assert names.id_of("orders") == OTHER
        names.learn(OTHER, "plain")
        assert names.id_of("plain") is None

    def test_each_client_for_itself(self):
        names = TopicNames()
        names.give(("127.0.0.1", "a"), ID)
        assert names.was_given(("127.0.0.1", "a"), ID)
        assert not names.was_given(("127.0.0.1", "b"), ID)
        assert not names.was_given(("127.0.0.1", "a"), OTHER)

    def test_memory_is_bounded(self, monkeypatch):
        monkeypatch.setattr(topics, "MAX_NAMES", 3)
        names = TopicNames()
        for number in range(10):
            names.learn(bytes([number]) * 16, f"t{number}")
            names.give("client", bytes([number]) * 16)
        assert [names.find(bytes([number]) * 16) for number in range(4)] == ["t0", "t1", "t2", None]
        assert names.learn(bytes(16), "again") == "t0"  # what is known keeps its name
        assert [names.was_given("client", bytes([number]) * 16) for number in (6, 7, 9)] == [False, True, True]


class TestSettings:
    def test_are_bounded(self, monkeypatch):
        monkeypatch.setattr(topics, "MAX_SETTINGS", 2)
        cache, found = SettingsCache(60), TopicSettings()
        for topic in ("a", "b", "a"):
            cache.learn(topic, found, 0)
        assert [cache.find(topic, 1) for topic in ("a", "b")] == [found, found]
        cache.learn("c", found, 0)
        assert [cache.find(topic, 1) for topic in ("a", "b", "c")] == [None, None, found]

    def test_live_for_a_time(self):
        cache = SettingsCache(60)
        assert cache.find("t", 0) is None
        cache.learn("t", DELETED, 100)
        assert cache.find("t", 159.9) is DELETED
        assert cache.find("t", 160) is None

    def test_are_dropped_by_name(self):
        cache = SettingsCache(60)
        cache.learn("t", DELETED, 0)
        cache.learn("u", DELETED, 0)
        cache.drop(["t", "unknown"])
        assert (cache.find("t", 1), cache.find("u", 1)) == (None, DELETED)

    def test_that_somebody_changes_are_told(self):
        told = []
        cache = SettingsCache(60, told.append)
        cache.learn("t", DELETED, 0)
        cache.drop(["t"])
        cache.drop([])
        cache.learn("t", DELETED, 0)
        cache.forget(["t"])
        cache.doubt("t", 1, sealed_at=0.5)
        assert told == [["t"]]
        assert cache.find("t", 1) is None

    def test_are_doubted_once_in_their_lifetime(self):
        cache = SettingsCache(60)
        cache.learn("t", DELETED, 0)
        assert cache.doubt("t", 1, sealed_at=0.5)
        assert cache.find("t", 1) is None
        cache.learn("t", DELETED, 1)
        assert not cache.doubt("t", 2, sealed_at=1.5)
        assert cache.doubt("u", 2, sealed_at=1.5)
        assert cache.doubt("t", 62, sealed_at=61)

    def test_are_doubted_for_every_batch_that_was_sealed_by_them(self):
        cache = SettingsCache(60)
        assert cache.doubt("t", 1, sealed_at=0.2)
        cache.learn("t", DELETED, 1.1)
        assert cache.doubt("t", 2, sealed_at=0.5)
        assert cache.find("t", 2) is DELETED

    @pytest.mark.parametrize(
        ("policy", "compacted"), [("delete", False), ("compact", True), ("compact,delete", True), ("", False)]
    )
    def test_compaction(self, policy, compacted):
        assert TopicSettings(cleanup_policy=frozenset(policy.split(","))).is_compacted is compacted
        assert (COMPACTED.is_compacted, DELETED.is_compacted) == (True, False)
