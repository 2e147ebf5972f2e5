"""The key file's text: what is written is read, and every fault is a sentence that shows no secret."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import KeyFile, WrappedHidingKey, add_key, new_key_file, rotate_key
from kveil.proxy.keys.keyfile_json import decode_key_file, encode_key_file

Document = dict[str, Any]
SECRET = base64.b64encode(bytes(range(32))).decode()


def document() -> Document:
    return {
        "format": "kveil-keys",
        "version": 1,
        "realm": "test",
        "keys": [
            {
                "name": "default",
                "primary": "2",
                "versions": [
                    {"version": "1", "created": "2026-01-31T08:00:00Z", "secret": SECRET},
                    {"version": "2", "created": "2026-02-01T08:00:00Z", "secret": SECRET},
                ],
            }
        ],
        "key_hiding_key": {"id": "00" * 16, "created": "2026-01-31T08:00:00Z", "secret": SECRET},
    }


def decode(changed: object) -> object:
    return decode_key_file(json.dumps(changed).encode())


def test_a_file_as_documented_is_read():
    content = decode_key_file(json.dumps(document()).encode())
    assert content.realm == "test"
    (key,) = content.keys
    assert key.primary == "2"
    assert [one.created[:10] for one in key.versions] == ["2026-01-31", "2026-02-01"]
    assert key.versions[0].secret == bytes(range(32))
    assert content.key_hiding_key.id == bytes(16)


def test_what_is_written_is_read():
    content = rotate_key(add_key(new_key_file(), "eu"), "default")
    text = encode_key_file(content)
    assert decode_key_file(text) == content
    assert encode_key_file(decode_key_file(text)) == text
    assert text.endswith(b"\n")


def test_a_file_for_a_key_service_has_no_keys_and_no_secret():
    block = KeyBlock(provider=2, name="default", mechanism=2, version="1", wrapped=b"vault:v1:...")
    hiding = WrappedHidingKey(id=bytes(16), created="2026-01-31T08:00:00Z", block=block)
    content = KeyFile(realm="test", keys=(), key_hiding_key=hiding)
    text = encode_key_file(content)
    assert decode_key_file(text) == content
    assert json.loads(text) == {
        "format": "kveil-keys",
        "version": 1,
        "realm": "test",
        "keys": [],
        "key_hiding_key": {
            "id": "00" * 16,
            "created": "2026-01-31T08:00:00Z",
            "wrapped": base64.b64encode(block.encode()).decode(),
        },
    }
    assert "vault:v1" not in repr(content)


def test_every_cut_of_a_file_is_refused():
    text = encode_key_file(new_key_file(realm="r")).rstrip()
    for length in range(len(text)):
        with pytest.raises(KeyFileError):
            decode_key_file(text[:length])


def _without(*path: str | int) -> Callable[[Document], object]:
    def change(found: Document) -> None:
        node: Any = found
        for step in path[:-1]:
            node = node[step]
        del node[path[-1]]

    return change


def _with(value: object, *path: str | int) -> Callable[[Document], object]:
    def change(found: Document) -> None:
        node: Any = found
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value

    return change


FIRST = ("keys", 0, "versions", 0)
LEAKED = base64.b64encode(b"hunter2hunter2").decode()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_with("other", "format"), "is no key file"),
        (_without("format"), "is no key file"),
        (_with(2, "version"), "reads version 1; use a newer kveil"),
        (_with("1", "version"), "reads version 1"),
        (_with(True, "version"), "reads version 1"),
        (_with(1.0, "version"), "reads version 1"),
        (_without("version"), "reads version 1"),
        (_without("realm"), "the file lacks realm"),
        (_with("", "realm"), "realm must be"),
        (_with(7, "realm"), "realm must be"),
        (_without("keys"), "the file lacks keys"),
        (_with({}, "keys"), "keys must be a list"),
        (_with(["x"], "keys"), "an entry of keys must be an object"),
        (_without("key_hiding_key"), "lacks key_hiding_key"),
        (_with(None, "key_hiding_key"), "key_hiding_key must be an object"),
        (_with("zz", "key_hiding_key", "id"), "16 bytes in hexadecimal"),
        (_with("00", "key_hiding_key", "id"), "16 bytes in hexadecimal"),
        (_with(5, "key_hiding_key", "id"), "id of key_hiding_key must be text"),
        (_with(LEAKED, "key_hiding_key", "secret"), "secret of key_hiding_key must be 32 bytes"),
        (_without("key_hiding_key", "created"), "key_hiding_key lacks created"),
        (_with(LEAKED, "key_hiding_key", "wrapped"), "key_hiding_key has a member that this program doesn't know"),
        (
            _with({"id": "00" * 16, "created": "", "wrapped": LEAKED}, "key_hiding_key"),
            "wrapped of key_hiding_key must",
        ),
        (_with({"id": "00" * 16, "created": "", "wrapped": "?"}, "key_hiding_key"), "wrapped of key_hiding_key must"),
        (_with("a b", "keys", 0, "name"), "key name must be"),
        (_without("keys", 0, "primary"), "an entry of keys lacks primary"),
        (_with("3", "keys", 0, "primary"), "calls 3 the primary version of key default"),
        (_with(2, "keys", 0, "primary"), "primary version must be"),
        (_with([], "keys", 0, "versions"), "versions of key default must be a list"),
        (_with("2", *FIRST, "version"), "key default has two versions 2"),
        (_with(1, *FIRST, "version"), "version of key default must be"),
        (_with(LEAKED, *FIRST, "secret"), "secret of key default must be 32 bytes in base64"),
        (_with("%%%" + LEAKED, *FIRST, "secret"), "secret of key default must be 32 bytes in base64"),
        (_with("", *FIRST, "secret"), "must be 32 bytes"),
        (_with(None, *FIRST, "secret"), "secret of key default must be text"),
        (_with(0, *FIRST, "created"), "created of key default must be text"),
        (_without(*FIRST, "secret"), "a version of key default lacks secret"),
        (_with("x", "surplus"), "the file has a member that this program doesn't know"),
        (_with("x", "keys", 0, "surplus"), "an entry of keys has a member"),
        (_with("x", *FIRST, "surplus"), "a version of key default has a member"),
        (lambda found: found["keys"].append(found["keys"][0]), "two keys named default"),
    ],
)
def test_one_fault_is_one_sentence(change, sentence):
    changed = document()
    change(changed)
    with pytest.raises(KeyFileError, match=sentence) as caught:
        decode(changed)
    assert SECRET not in str(caught.value)
    assert LEAKED not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\x00" * 50, b"\xff\xfe", b"{'a': 1}", b"[" * 100_000])
def test_what_is_no_json(data):
    with pytest.raises(KeyFileError, match=r"is not JSON.*restore it from your backup"):
        decode_key_file(data)


@pytest.mark.parametrize("data", [b"[]", b"null", b"5", b'"kveil-keys"'])
def test_what_is_no_object(data):
    with pytest.raises(KeyFileError, match="is no key file"):
        decode_key_file(data)


def test_a_member_that_stands_twice():
    text = json.dumps(document()).replace('"realm": "test"', '"realm": "other", "realm": "test"')
    with pytest.raises(KeyFileError, match="names a member twice"):
        decode_key_file(text.encode())
