"""The parts of the status page, from what processes tell."""

import re
import time

import pytest

from kveil.proxy.admin.metrics import MAX_TOPICS, Metrics
from kveil.proxy.admin.overview import Overview
from kveil.proxy.admin.page import page, parts
from kveil.proxy.admin.status import MOST, status_of
from kveil.proxy.admin.survey import Survey
from tests.support.conversation import make_shared
from tests.support.producing import PRODUCE
from tests.support.records import client_batch, produced

READY = {"ready": True, "checks": {"upstream": {"ok": True}, "keys: vault": {"ok": True}}}
FAILING = {
    "ready": False,
    "checks": {"upstream": {"ok": True}, "keys: vault": {"ok": False, "reason": "sealed & shut"}},
}
TOPIC = {"topic": "orders", "decided_by": "no rule: sealed", "key": "keyfile:default"}


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


def look(*statuses, metrics: Metrics | None = None) -> dict:
    overview = Overview(keeps_history=True)
    nothing = {"topics": [], "clients": [], "refusals": []}
    overview.update(0, (metrics or Metrics()).samples(), nothing)
    for process, status in enumerate(statuses, 1):
        overview.update(process, {}, {**nothing, **status})
    return overview.look()


def test_a_topic_that_several_workers_seal():
    """The oldest key counts, and the sums."""
    metrics = Metrics()
    metrics.count_sealed("orders", 7, 1000)
    told = [
        {"topics": [{**TOPIC, "mode": None, "version": None, "age_seconds": None}]},
        {"topics": [{**TOPIC, "mode": "record", "version": "3", "age_seconds": 50}]},
        {"topics": [{**TOPIC, "mode": "record", "version": "3", "age_seconds": 4000}]},
    ]
    found = text(parts(look(*told, metrics=metrics), READY)["topics"])
    assert found.endswith(
        "orders sealed by record keyfile:default version 3 1 h 6 min 1 kB 7 records 0 B 0 records no rule: sealed"
    )


def test_a_topic_that_is_only_read():
    told = {"topics": [{**TOPIC, "mode": None, "version": None, "age_seconds": None}]}
    assert "orders opened keyfile:default" in text(parts(look(told), READY)["topics"])


def test_clients_of_several_workers():
    client = {"client_id": "billing", "address": "127.0.0.1", "principal": "CN=b"}
    told = [{"clients": [{**client, "connections": count}]} for count in (1, 2)]
    assert text(parts(look(*told), READY)["clients"]).endswith("billing 127.0.0.1 CN=b 3")


def test_like_refusals_are_one_line():
    one = {"topic": "orders", "partition": 3, "error": "CORRUPT_MESSAGE", "reason": "the tag doesn't fit"}
    now = time.time()
    told = [{"refusals": [{**one, "at": now - ago} for ago in (0, 5)]}, {"refusals": [{**one, "at": 0.0}]}]
    found = text(parts(look(*told), READY)["refusals"])
    assert found.count("CORRUPT_MESSAGE") == 1
    assert re.search(r"\d\d:\d\d:\d\d orders /3 CORRUPT_MESSAGE the tag doesn&#x27;t fit 3$", found)


def test_nothing_yet():
    found = {name: text(part) for name, part in parts(look(), READY).items()}
    assert found["topics"] == "No sealed records have passed yet."
    assert found["clients"] == "Nobody is connected."
    assert found["refusals"] == "Nothing was refused."
    assert found["state"] == "Ready"


def test_what_fails_is_named():
    metrics = Metrics()
    metrics.key_calls["vault", "wrap", "ok"] = 4
    metrics.key_calls["vault", "unwrap", "ok"] = 1
    metrics.key_calls["vault", "wrap", "unavailable"] = 2
    found = parts(look(metrics=metrics), FAILING)
    assert text(found["state"]) == "Not ready: keys: vault"
    assert "keys: vault sealed &amp; shut fails 5 ok, 2 unavailable" in text(found["keys"])


@pytest.mark.parametrize(("rules", "last"), [([], "every other topic"), ([{"match": "*", "mode": "batch"}], "*")])
def test_rules(tmp_path, rules, last):
    settings = make_shared(tmp_path, topics=[{"match": "logs.*", "seal": "none"}, *rules]).settings
    (found,) = re.findall("Rules, the first.*?</table>", page(settings, look(), READY), re.DOTALL)
    assert "logs.* plain" in text(found)
    assert re.findall(r"<tr><td>(?:<b>)?([^<]+)", found)[-1] == last


class TestStatus:
    def test_of_a_process(self, converse):
        talk = converse(topics=[{"match": "t", "mode": "record"}])
        talk.client(PRODUCE, 9, produced({"t": {0: client_batch(1)}, "u": {0: client_batch(2)}}))
        talk.clock.now += 5
        served = [talk, talk]
        for one in served:
            one.in_flight = 0
        told = status_of(Survey(talk.shared, None, served))
        assert {(one["topic"], one["mode"], one["version"], one["age_seconds"]) for one in told["topics"]} == {
            ("t", "record", "1", 5),
            ("u", "batch", "1", 5),
        }
        assert told["clients"] == [{"client_id": "app", "address": "127.0.0.1", "principal": None, "connections": 2}]

    def test_is_bounded(self, tmp_path):
        shared = make_shared(tmp_path)
        for number in range(MAX_TOPICS + 10):
            shared.metrics.count_sealed(f"t{number}", 1, number)
        told = [one["topic"] for one in status_of(Survey(shared, None, ()))["topics"]]
        assert len(told) == MOST - 1  # the rest together is no topic
        assert told[0] == f"t{MAX_TOPICS - 1}"


class TestOverview:
    def test_one_that_is_gone(self):
        overview = Overview(keeps_history=False)
        metrics = Metrics()
        metrics.count_sealed("t", 1, 5)
        overview.update(1, metrics.samples(), {"topics": [], "clients": [], "refusals": []})
        overview.retire(1)
        assert overview.look()["statuses"] == []
        assert overview.samples()["kveil_sealed_bytes_total"] == 5
        assert overview.look()["points"] == []
