"""`kveil authority`, `enroll`, `identity` and `who-can-read`, as far as they go without a cluster."""

import base64
import json
import os
import stat

import pytest

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.protocol.identity.hiding import Handed
from kveil.proxy.identity.authority_store import AuthorityStore
from kveil.proxy.identity.identity_file import create_identity
from kveil.proxy.identity.node_files import CheckpointMark, Membership, NodeFiles
from tests.support.key_services.own import OWN_PROVIDER
from tests.support.realm import identity

A = identity("a")
GRANT = ("--role", "consumer", "--topics", "demo-*")
NOWHERE = ("--upstream", "127.0.0.1:1")


@pytest.fixture
def made(kveil, tmp_path):
    directory = tmp_path / "authority"
    assert kveil("authority", "init", "--authority", directory, "--realm", "demo").exit_code == 0
    return directory


def listed(kveil, directory):
    return json.loads(kveil("authority", "list", "--authority", directory, "--json").stdout)


@pytest.fixture
def keys_file(tmp_path):
    """What `kveil enroll --out` writes on a node's host, for a realm of this name."""
    from kveil.protocol.identity.crypto import KemSuite
    from kveil.proxy.identity.records_file import encode_records
    from kveil.proxy.net.enrolment import own_record

    def write(node="a", realm="demo"):
        keys = identity(node, suite=KemSuite.MLKEM768_X25519)
        path = tmp_path / f"{node}.keys"
        path.write_bytes(encode_records(realm, [own_record(keys, realm)]))
        return keys.id.hex(), path

    return write


def hiding_key(directory):
    """What an authority hands out: id and key."""
    store = AuthorityStore(directory)
    keys = store.keys(None)
    handed = Handed.from_map(store.load(keys).hiding.fields)
    return handed.key.id, handed.open(keys)


@pytest.fixture
def wrapped(kveil, tmp_path):
    """A key file whose key-hiding key a key service wrapped, the configuration that reaches that, and what it holds."""
    service, old, config = (tmp_path / name for name in ("service.json", "keys.json", "kveil.yaml"))
    assert kveil("keys", "init", "--keys", service, "--realm", "lab").exit_code == 0
    keys = {"provider": OWN_PROVIDER, "path": str(old), "options": {"path": str(service)}}
    config.write_text(json.dumps({"keys": keys, "realm": "lab"}))
    assert kveil("keys", "init", "-c", config).exit_code == 0
    return old, config, service


class TestInit:
    def test_it_begins_a_realm(self, kveil, tmp_path):
        done = kveil("authority", "init", "--authority", tmp_path / "a", "--realm", "demo", "--json")
        shown = json.loads(done.stdout)
        assert (shown["realm"], shown["directory"]) == ("demo", str(tmp_path / "a"))
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
        found = listed(kveil, tmp_path / "a")
        assert (found["realm"], found["fingerprint"], found["members"]) == ("demo", shown["fingerprint"], [])
        assert found["checkpoint"]["number"] == 1

    def test_beside_the_identity_unless_told_otherwise(self, kveil, tmp_path, monkeypatch):
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        shown = json.loads(kveil("authority", "init", "--json").stdout)
        assert shown["directory"] == str(tmp_path / ".local/share/kveil/authority")
        assert shown["realm"].startswith("realm-")

    def test_one_that_is_there_stays(self, kveil, made):
        before = {path.name: path.read_bytes() for path in made.iterdir()}
        done = kveil("authority", "init", "--authority", made)
        assert done.exit_code == 2
        assert "stays as it is" in done.stderr
        assert {path.name: path.read_bytes() for path in made.iterdir()} == before

    def test_a_bad_name(self, kveil, tmp_path):
        done = kveil("authority", "init", "--authority", tmp_path / "a", "--realm", "a b")
        assert done.exit_code == 2
        assert "the realm must be" in done.stderr
        assert not (tmp_path / "a").exists()

    def test_that_of_a_key_file_is_taken_over(self, kveil, tmp_path):
        """With its realm, which is a part of what hides."""
        old, where = tmp_path / "keys.json", ("--authority", tmp_path / "a")
        assert kveil("keys", "init", "--keys", old, "--realm", "lab").exit_code == 0
        done = kveil("authority", "init", *where, "--hiding-key", old, "--realm", "demo")
        assert done.exit_code == 2
        assert "belongs to realm lab, not to demo" in done.stderr
        assert not (tmp_path / "a").exists()
        assert kveil("authority", "init", *where, "--hiding-key", old).exit_code == 0
        assert listed(kveil, tmp_path / "a")["realm"] == "lab"
        found, secret = hiding_key(tmp_path / "a")
        kept = json.loads(old.read_text())["key_hiding_key"]
        assert (found.hex(), base64.b64encode(secret).decode()) == (kept["id"], kept["secret"])

    def test_a_wrapped_one_is_unwrapped_by_its_service(self, kveil, tmp_path, wrapped):
        old, config, _ = wrapped
        take = ("authority", "init", "--authority", tmp_path / "a", "--hiding-key", old)
        done = kveil(*take)
        assert done.exit_code == 2
        assert "--config says where to ask it" in done.stderr
        assert not (tmp_path / "a").exists()
        done = kveil(*take, "--config", config)
        assert done.exit_code == 0, done.stderr
        found, secret = hiding_key(tmp_path / "a")
        assert found.hex() == json.loads(old.read_text())["key_hiding_key"]["id"]
        assert derive_hiding_key_id(secret, realm="lab") == found

    def test_a_service_that_is_down(self, kveil, tmp_path, wrapped):
        old, config, service = wrapped
        service.write_text(service.read_text().replace('"default"', '"gone"'))
        done = kveil("authority", "init", "--authority", tmp_path / "a", "--hiding-key", old, "-c", config)
        assert done.exit_code == 2
        assert "the key-hiding key can't be had" in done.stderr

    def test_a_passphrase(self, kveil, tmp_path, monkeypatch):
        monkeypatch.setenv("WORD", "open")
        where = ("--authority", tmp_path / "a")
        assert kveil("authority", "init", *where, "--passphrase", "env:WORD").exit_code == 0
        assert kveil("authority", "ticket", *where, *GRANT, "--passphrase", "env:WORD").exit_code == 0
        for given, sentence in (((), "is protected by a passphrase"), (("--passphrase", "env:NOT"), "NOT is not set")):
            done = kveil("authority", "ticket", *where, *GRANT, *given)
            assert done.exit_code == 2
            assert sentence in done.stderr
        done = kveil("authority", "list", *where, "--passphrase", "hunter2")
        assert done.exit_code == 2
        assert "hunter2" not in done.stderr


class TestTickets:
    def test_one_on_standard_output_alone(self, kveil, made):
        done = kveil("authority", "ticket", "--authority", made, *GRANT)
        assert done.stdout.startswith("kveil1.")
        assert done.stdout.count("\n") == 1
        assert done.stdout.strip() not in done.stderr
        (ticket,) = listed(kveil, made)["tickets"]
        assert ticket["grants"] == [{"role": "consumer", "topics": ["demo-*"], "history": "from-join"}]
        assert ticket["uses_left"] == 1

    def test_several_roles_and_topics(self, kveil, made):
        wanted = ("--role", "consumer", "--role", "producer", "--topics", "a,b", "--topics", "c", "--history", "all")
        assert kveil("authority", "ticket", "--authority", made, *wanted).exit_code == 0
        (ticket,) = listed(kveil, made)["tickets"]
        assert ticket["grants"] == [
            {"role": "consumer", "topics": ["a", "b", "c"], "history": "all"},
            {"role": "producer", "topics": ["a", "b", "c"]},
        ]

    @pytest.mark.parametrize(
        ("wanted", "sentence"),
        [
            (("--role", "reader", "--topics", "x"), "must be one of producer, consumer, keeper"),
            ((*GRANT, "--history", "some"), "must be one of none, from-join, all"),
            (("--role", "producer", "--topics", "x", "--history", "all"), "--history is for consumers"),
            (("--role", "producer", "--topics", ","), "1 to 64 patterns"),
            ((*GRANT, "--uses", "2", "--name", "a"), "--name is for one member"),
        ],
    )
    def test_what_can_not_be(self, kveil, made, wanted, sentence):
        done = kveil("authority", "ticket", "--authority", made, *wanted)
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert not done.stdout

    def test_without_an_authority(self, kveil, tmp_path):
        done = kveil("authority", "ticket", "--authority", tmp_path, *GRANT)
        assert done.exit_code == 2
        assert "`kveil authority init` makes it" in done.stderr

    def test_a_lost_state(self, kveil, made):
        (made / "state.json").unlink()
        done = kveil("authority", "ticket", "--authority", made, *GRANT)
        assert done.exit_code == 2
        assert "Restore the authority's directory from a backup" in done.stderr


class TestOffline:
    def grant(self, kveil, made, tmp_path, *more, role=GRANT):
        return kveil("authority", "grant", *more, *role, "--authority", made, "--out", tmp_path / "out")

    def test_a_grant_and_a_revocation(self, kveil, made, tmp_path, keys_file):
        fingerprint, path = keys_file()
        done = self.grant(kveil, made, tmp_path, fingerprint, "--identity", path, "--name", "reader")
        assert done.exit_code == 0, done.stderr
        assert [one["name"] for one in listed(kveil, made)["members"]] == ["reader"]
        done = kveil("authority", "revoke", "reader", "--authority", made, "--out", tmp_path / "out", "--json")
        assert json.loads(done.stdout)["checkpoint"] == 3
        found = listed(kveil, made)
        assert (found["members"], [one["name"] for one in found["revoked"]]) == ([], ["reader"])
        assert json.loads((tmp_path / "out").read_text())["realm"] == "demo"

    def test_a_producer_s_end_needs_the_topic(self, kveil, made, tmp_path, keys_file):
        fingerprint, path = keys_file()
        produces = ("--role", "producer", "--topics", "x", "--name", "writer")
        self.grant(kveil, made, tmp_path, fingerprint, "--identity", path, role=produces)
        done = kveil("authority", "revoke", "writer", "--authority", made, "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert "give --upstream or --config beside --out" in done.stderr
        assert [one["name"] for one in listed(kveil, made)["members"]] == ["writer"]

    def test_keys_of_another(self, kveil, made, tmp_path, keys_file):
        _, path = keys_file()
        done = self.grant(kveil, made, tmp_path, "ab" * 32, "--identity", path)
        assert done.exit_code == 2
        assert "doesn't have the keys of this fingerprint" in done.stderr

    def test_keys_for_another_realm(self, kveil, made, tmp_path, keys_file):
        fingerprint, path = keys_file(realm="other")
        assert "for realm demo" in self.grant(kveil, made, tmp_path, fingerprint, "--identity", path).stderr

    def test_no_keys(self, kveil, made, tmp_path):
        assert "`kveil enroll --out FILE` writes" in self.grant(kveil, made, tmp_path, "ab" * 32).stderr

    def test_an_unknown_member(self, kveil, made, tmp_path):
        done = kveil("authority", "revoke", "nobody", "--authority", made, "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert "there is no member nobody; there are: none" in done.stderr

    @pytest.mark.parametrize("text", ["ab", "zz" * 32, ""])
    def test_no_fingerprint(self, kveil, made, tmp_path, text):
        done = self.grant(kveil, made, tmp_path, text)
        assert done.exit_code == 2
        assert "64 hexadecimal digits" in done.stderr

    def test_a_file_that_is_none(self, kveil, tmp_path):
        (tmp_path / "x").write_text("{}")
        for path, sentence in ((tmp_path / "x", "is no file of records"), (tmp_path / "y", "can't be read")):
            done = kveil("authority", "publish", path, *NOWHERE)
            assert done.exit_code == 2
            assert sentence in done.stderr

    def test_who_has_no_keeper_is_told(self, kveil, made, tmp_path, keys_file):
        fingerprint, path = keys_file()
        self.grant(kveil, made, tmp_path, fingerprint, "--identity", path, role=("--role", "producer", "--topics", "x"))
        assert "There is no keeper" in kveil("authority", "list", "--authority", made).stderr
        fingerprint, path = keys_file("k")
        self.grant(kveil, made, tmp_path, fingerprint, "--identity", path, role=("--role", "keeper", "--topics", "*"))
        assert "There is no keeper" not in kveil("authority", "list", "--authority", made).stderr


def test_nobody_at_the_other_end(kveil, made):
    done = kveil("authority", "checkpoint", "--authority", made, *NOWHERE)
    assert done.exit_code == 1
    assert "the topic _kveil.control can't be used now" in done.stderr
    assert listed(kveil, made)["checkpoint"]["number"] == 1, "what can't be published is not decided"


class TestEnroll:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ((), "give a ticket's FILE, or --authority"),
            (("a.ticket", "--authority", "ab" * 32), "give a ticket's FILE, or --authority"),
            (("a.ticket", "--out", "x"), "--out goes with --authority"),
            (("--authority", "ab" * 32, "--name", "x"), "--name with a ticket"),
            (("--authority", "hello"), "64 hexadecimal digits"),
            (("nowhere.ticket",), "can't be read: No such file"),
        ],
    )
    def test_wrong_use(self, kveil, tmp_path, arguments, sentence):
        done = kveil("enroll", *arguments, "--identity", tmp_path / "n", *NOWHERE)
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert not (tmp_path / "n").exists()

    def test_a_ticket_that_is_none_is_not_repeated(self, kveil, tmp_path):
        path = tmp_path / "t"
        path.write_text("kveil1.hunter2")
        done = kveil("enroll", path, "--identity", tmp_path / "n", *NOWHERE)
        assert done.exit_code == 2
        assert "that is no ticket" in done.stderr
        assert "hunter2" not in done.stderr

    def test_a_member_is_left_alone(self, kveil, tmp_path):
        NodeFiles(tmp_path).enrol(Membership("demo", bytes(32)), CheckpointMark(1, bytes(32)))
        done = kveil("enroll", "t", "--identity", tmp_path, *NOWHERE)
        assert done.exit_code == 2
        assert "is enrolled already" in done.stderr


class TestShow:
    def test_before_and_after(self, kveil, tmp_path):
        done = kveil("identity", "show", "--identity", tmp_path)
        assert done.exit_code == 2
        assert "`kveil enroll` makes it" in done.stderr
        create_identity(tmp_path, A, None)
        assert "not enrolled yet" in kveil("identity", "show", "--identity", tmp_path).stdout
        NodeFiles(tmp_path).enrol(Membership("demo", bytes(32)), CheckpointMark(7, bytes(32)))
        shown = json.loads(kveil("identity", "show", "--identity", tmp_path, "--json").stdout)
        assert (shown["fingerprint"], shown["realm"], shown["checkpoint"]) == (A.id.hex(), "demo", 7)

    def test_the_configuration_s_directory(self, kveil, tmp_path):
        create_identity(tmp_path / "there", A, None)
        config = tmp_path / "kveil.yaml"
        config.write_text(f"identity: {{path: {tmp_path / 'there'}}}\n")
        assert A.id.hex() in kveil("identity", "show", "-c", config, "--json").stdout

    def test_a_lost_mark(self, kveil, tmp_path):
        create_identity(tmp_path, A, None)
        NodeFiles(tmp_path).enrol(Membership("demo", bytes(32)), CheckpointMark(7, bytes(32)))
        os.unlink(tmp_path / "checkpoint.json")
        for command in (("identity", "show"), ("who-can-read", "x", *NOWHERE)):
            done = kveil(*command, "--identity", tmp_path)
            assert done.exit_code == 2
            assert "enrol as a new identity" in done.stderr


def test_who_can_read_is_for_members(kveil, tmp_path):
    done = kveil("who-can-read", "orders", "--identity", tmp_path, *NOWHERE)
    assert done.exit_code == 2
    assert "`kveil enroll` makes it" in done.stderr
