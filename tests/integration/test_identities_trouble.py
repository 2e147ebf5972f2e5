"""What the authority and nodes say when the control topic isn't as it must be."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation, ResourceType

from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.processes import Child, tethered
from tests.support.proxy import KVEIL, kveil
from tests.support.security import USERS, login

CONTROL_TOPIC = "_kveil.control"
SECONDS = 30.0
FOREIGN = 10_000


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster of its own, with ACLs: nobody but admin may do anything."""
    with kafka_cluster(security=Security.SASL_SSL, acls=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A realm, and a configuration for each user."""
    folder = tmp_path_factory.mktemp("realm")
    assert kafka.certificates is not None
    for user in ("alice", "admin"):
        secret = folder / f"{user}.password"
        secret.write_text(USERS[user])
        upstream = {
            "bootstrap": kafka.bootstrap.split(","),
            "tls": {"ca": str(kafka.certificates.authority.path)},
            "sasl": {"mechanism": "PLAIN", "username": user, "password": f"file:{secret}"},
        }
        (folder / f"{user}.yaml").write_text(yaml.safe_dump({"upstream": upstream, "log": {"format": "json"}}))
    done = kveil("authority", "init", "--authority", str(folder / "authority"), "--realm", "demo")
    assert done.returncode == 0, done.stderr
    return folder


def ticket(folder: Path, name: str) -> Path:
    wanted = ("--role", "consumer", "--topics", "*", "--name", name)
    done = kveil("authority", "ticket", "--authority", str(folder / "authority"), *wanted)
    assert done.returncode == 0, done.stderr
    path = folder / f"{name}.ticket"
    path.write_text(done.stdout)
    return path


def test_trouble_from_the_first_start_to_the_last(kafka: Cluster, folder: Path):
    """One cluster goes through it: no topic, no rights, rights, garbage."""
    alice, admin = str(folder / "alice.yaml"), str(folder / "admin.yaml")
    authority = ("--authority", str(folder / "authority"))

    missing = kveil("enroll", str(ticket(folder, "early")), "--identity", str(folder / "early"), "-c", admin)
    assert missing.returncode == 1
    assert f"there is no topic {CONTROL_TOPIC}: is this the realm's cluster?" in missing.stderr

    denied = kveil("authority", "checkpoint", *authority, "-c", alice)
    assert denied.returncode == 1
    assert f"needs the ACLs Describe, Read and Write on the topic {CONTROL_TOPIC}" in denied.stderr

    assert kveil("authority", "checkpoint", *authority, "-c", admin).returncode == 0
    for operation in (AclOperation.DESCRIBE, AclOperation.READ):
        kafka.allow("alice", ResourceType.TOPIC, CONTROL_TOPIC, operation)
    unwritable = kveil("enroll", str(ticket(folder, "mute")), "--identity", str(folder / "mute"), "-c", alice)
    assert unwritable.returncode == 1
    assert "answered Produce with topic_authorization_failed" in unwritable.stderr
    assert "needs the ACLs" in unwritable.stderr

    kafka.allow("alice", ResourceType.TOPIC, CONTROL_TOPIC, AclOperation.WRITE)
    writer = Producer(kafka.client_settings(login("admin")))
    for number in range(FOREIGN):
        writer.produce(CONTROL_TOPIC, b"\x01\x02garbage %d" % number, b"%d" % number)
    assert writer.flush(SECONDS) == 0
    writer.close()

    alone = kveil("enroll", str(ticket(folder, "b")), "--identity", str(folder / "b"), "-c", alice, "--wait", "1")
    assert alone.returncode == 1
    assert "is `kveil authority run` running, on this cluster?" in alone.stderr
    assert f"{FOREIGN} records on the topic count for nothing" in alone.stderr

    with_rights = [*KVEIL, "authority", "run", *authority, "-c", alice]
    running = Child(with_rights)
    try:
        running.errors.wait_for('"authority_running"', SECONDS)
        second = kveil("authority", "run", *authority, "-c", alice)
        assert second.returncode == 2
        assert "runs already" in second.stderr
        done = kveil("enroll", str(folder / "b.ticket"), "--identity", str(folder / "b"), "-c", alice)
        assert done.returncode == 0, done.stderr
        assert running.stop() == 0
    finally:
        if running.exit_code is None:
            running.kill()

    unasked = kveil("authority", "run", *authority, "-c", alice, "--approve")
    assert unasked.returncode == 2
    assert "--approve asks on a terminal" in unasked.stderr


@pytest.mark.parametrize(("said", "sentence"), [("n", "the authority says no"), ("y", "")])
def test_a_person_is_asked(kafka: Cluster, folder: Path, said: str, sentence: str):
    """At a terminal, which is one that the test has made."""
    admin, name = str(folder / "admin.yaml"), f"asked-{said}"
    run = [*KVEIL, "authority", "run", "--authority", str(folder / "authority"), "-c", admin, "--approve"]
    ours, theirs = pty.openpty()
    asking = subprocess.Popen(tethered(run), stdin=theirs, stderr=subprocess.PIPE, text=True)
    try:
        assert asking.stderr is not None
        path = ticket(folder, name)
        node = ("--identity", str(folder / name), "-c", admin)
        with ThreadPoolExecutor(1) as thread:
            enrolled = thread.submit(kveil, "enroll", str(path), *node)
            for line in asking.stderr:
                if f"wants in as {name}: consumer *" in line:
                    break
            os.write(ours, said.encode() + b"\n")
            done = enrolled.result(SECONDS)
        assert (done.returncode == 0) is not bool(sentence)
        assert sentence in done.stderr
        asking.terminate()
        asking.communicate(timeout=SECONDS)
        assert asking.returncode == 0
    finally:
        asking.kill()
        asking.wait()
        os.close(ours)
        os.close(theirs)
    members = kveil("authority", "list", "--authority", str(folder / "authority"), "--json").stdout
    assert (name in [one["name"] for one in json.loads(members)["members"]]) is not bool(sentence)
