"""Erasing one customer where a key service keeps the keys, the key-hiding key among them."""

from pathlib import Path

import yaml

from tests.support.clients import Record, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import kafka_cluster
from tests.support.key_services import start_key_server
from tests.support.proxy import Proxy, kveil, kveil_proxy

T = 1_700_000_000_000
RULES = [
    {
        "match": "people*",
        "mode": "record",
        "key": "customers",
        "key_per": "record_key",
        "erased": "null",
        "keys": "clear",
    }
]
CUSTOMERS = [Record(key=name, value=b"of %b" % name, timestamp=T) for name in (b"alice", b"bob", b"alice")]


def command(proxy: Proxy, *arguments: str) -> tuple[int, str]:
    """The exit code of a command with the proxy's configuration, and all that it says."""
    done = kveil(*arguments, "-c", str(proxy.folder / "kveil.yaml"))
    return done.returncode, done.stdout + done.stderr


def test_an_erasure_is_finished_when_the_service_has_destroyed_the_old_version(topic: str, tmp_path: Path):
    people = f"people-{topic}"
    with kafka_cluster() as kafka, start_key_server("vault", tmp_path) as server:
        kafka.create_topic(people)
        for name in ("default", "customers"):
            server.make_key(name)
        file = tmp_path / "keys.json"
        config = {"realm": "test", "keys": {**server.keys_settings(), "path": str(file), "seal_lease_seconds": 1}}
        with kveil_proxy(kafka.bootstrap, keys=file, topics=RULES, config=config, start=False) as proxy:
            (proxy.folder / "kveil.yaml").write_text(yaml.safe_dump(proxy.config))
            assert command(proxy, "keys", "init")[0] == 0
            proxy.start()
            librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
            assert librdkafka_read(proxy.bootstrap, people) == numbered(CUSTOMERS)

            assert command(proxy, "keys", "shred", people, "alice")[0] == 0
            assert [one.value for one in librdkafka_read(proxy.bootstrap, people)] == [None, b"of bob", None]
            code, said = command(proxy, "keys", "shred", "--finish")
            assert (code, "rotate" in said) == (1, True)

            server.rotate("customers")
            code, said = command(proxy, "keys", "shred", "--finish")
            assert (code, "transit/keys/customers/trim min_available_version=2" in said) == (1, True)
            server.destroy_older("customers")
            code, said = command(proxy, "keys", "shred", "--finish")
            assert (code, "1 erased keys are gone for everyone" in said) == (0, True), said

            proxy.stop()
            proxy.start()
            assert [one.value for one in librdkafka_read(proxy.bootstrap, people)] == [None, b"of bob", None]


def test_a_key_that_also_keeps_the_key_hiding_key_finishes_nothing(topic: str, tmp_path: Path):
    people = f"people-{topic}"
    with kafka_cluster() as kafka, start_key_server("vault", tmp_path) as server:
        kafka.create_topic(people)
        for name in ("default", "customers"):
            server.make_key(name)
        file = tmp_path / "keys.json"
        config = {"realm": "test", "keys": {**server.keys_settings(), "path": str(file)}}
        with kveil_proxy(kafka.bootstrap, keys=file, topics=RULES, config=config, start=False) as proxy:
            (proxy.folder / "kveil.yaml").write_text(yaml.safe_dump(proxy.config))
            assert command(proxy, "keys", "init", "--key", "customers")[0] == 0
            proxy.start()
            librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
            assert command(proxy, "keys", "shred", people, "alice")[0] == 0
            server.rotate("customers")
            code, said = command(proxy, "keys", "shred", "--finish")
            assert (code, "wraps the key-hiding key too" in said) == (1, True), said
