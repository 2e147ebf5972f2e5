"""What an ordinary start loads: each library costs every sidecar its time and its memory."""

import json
import subprocess
import sys

import pytest

START = """
import gc, json, sys
import uvloop

uvloop.run = lambda serving: serving.close()  # everything is there then but the event loop
from kveil.proxy.cli import main

sys.argv = ["kveil", "run", "-c", sys.argv[1]]
try:
    main()
except SystemExit as ended:
    assert ended.code == 0, ended.code
print(json.dumps({"modules": sorted(sys.modules), "objects_between_looks": gc.get_threshold()[0]}))
"""

FOR_FEW = {
    "aiohttp": "an authorization server's tokens",
    "aws_msk_iam_sasl_signer": "logins at Amazon MSK",
    "cbor2": "identities",
    "confluent_kafka": "the demo",
    "kveil.proxy.credentials.token_endpoint": "an authorization server's tokens",
    "kveil.proxy.demo": "the demo",
    "kveil.proxy.keys.announced": "identities",
    "kveil.proxy.net.following": "rules with key_per: record_key",
    "kveil.proxy.net.own_client": "commands that ask the cluster, and rules with key_per: record_key",
    "kveil.proxy.net.tunnel": "a forward proxy",
    "multiprocessing": "nothing",
    "opentelemetry": "traces",
    "python_socks": "a forward proxy",
    "typer.rich_utils": "help that is not plain text",
}
"""Modules, and what they are for."""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    kveil = [sys.executable, "-m", "kveil.proxy"]
    subprocess.run([*kveil, "keys", "init", "--keys", folder / "keys.json"], check=True, capture_output=True)
    config = {
        "upstream": {"bootstrap": "127.0.0.1:9092"},
        "keys": {"path": str(folder / "keys.json")},
        "log": {"format": "json"},
    }
    (folder / "kveil.yaml").write_text(json.dumps(config))
    ran = subprocess.run(
        [sys.executable, "-c", START, folder / "kveil.yaml"], check=True, capture_output=True, text=True
    )
    return json.loads(ran.stdout)


def test_it_was_a_start(started):
    assert {"kveil.proxy.server", "kveil.proxy.net.relay", "kveil.proxy.net.upstream"} <= set(started["modules"])


@pytest.mark.parametrize("name", FOR_FEW)
def test_what_few_need_is_not_loaded(started, name):
    assert name not in started["modules"], f"it is for {FOR_FEW[name]}"


def test_other_commands_are_not_loaded(started):
    commands = ("check", "demo", "doctor", "keys", "prepare", "users", "version")
    assert not {f"kveil.proxy.cli.{name}" for name in commands} & set(started["modules"])


def test_schemas_are_loaded_when_they_are_used(started):
    """Kafka has some 600, and a client speaks a dozen of them."""
    loaded = {name for name in started["modules"] if name.startswith("kio.schema.") and name.count(".") >= 4}
    assert {name.split(".")[2] for name in loaded} <= {"request_header", "response_header"}


def test_the_garbage_collector_looks_seldom(started):
    assert started["objects_between_looks"] >= 10_000
