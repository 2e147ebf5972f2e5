"""Key files and key rings under random input: what was sealed always opens, garbage never gets further."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.proxy.config import Limits, Mode, StubCodec
from kveil.proxy.keys.errors import KeyFileError, KeyRefused
from kveil.proxy.keys.keyfile import add_key, new_key_file, rotate_key
from kveil.proxy.keys.keyfile_json import decode_key_file, encode_key_file
from kveil.proxy.keys.keyfile_store import change_key_file, create_key_file
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.policy import KeyRef, Rule
from tests.support.key_rings import key_file_ring

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
QUICK = settings(max_examples=60, deadline=None)
GOOD = encode_key_file(rotate_key(add_key(new_key_file(realm="r"), "eu"), "eu"))


@QUICK
@given(
    realm=NAMES,
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    turns=st.lists(st.integers(0, 3), max_size=6),
)
def test_any_key_file_survives_its_text(realm, names, turns):
    content = new_key_file(realm=realm, names=names)
    for turn in turns:
        content = rotate_key(content, names[turn % len(names)])
    assert decode_key_file(encode_key_file(content)) == content


@QUICK
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    with pytest.raises(KeyFileError):
        decode_key_file(data)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, inner in items:
        found += places(inner, (*path, step))
    return found


@QUICK
@given(place=st.sampled_from(places(json.loads(GOOD))), value=JSON)
def test_any_value_in_any_place_is_read_or_refused_in_a_sentence(place, value):
    document = json.loads(GOOD)
    node = document
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    try:
        content = decode_key_file(json.dumps(document).encode())
    except KeyFileError as error:
        sentence = str(error)
    else:
        sentence = "read"
        assert decode_key_file(encode_key_file(content)) == content
    assert sentence


@QUICK
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_never_passes_for_another_key(place, byte):
    """A damaged secret can't be told from another secret, but its length and the file's shape always hold."""
    changed = bytearray(GOOD)
    changed[place] = byte
    try:
        content = decode_key_file(bytes(changed))
    except KeyFileError:
        return
    assert all(len(one.secret) == 32 for key in content.keys for one in key.versions)
    assert all(key.version(key.primary) for key in content.keys)


def rule_of(key: str) -> Rule:
    return Rule(
        seal=True,
        mode=Mode.AUTO,
        key=KeyRef(1, key),
        accept_keys=frozenset({KeyRef(1, "default"), KeyRef(1, "eu")}),
        accept_plain=False,
        stub_codec=StubCodec.AUTO,
        sealed_as=None,
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["seal", "rotate", "wait", "reload"]), st.sampled_from(["default", "eu"]), st.integers(0, 3)
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS)
def test_what_was_sealed_opens_for_another_reader_whatever_happens_in_between(steps):
    with tempfile.TemporaryDirectory() as folder, capture_logs():
        asyncio.run(_seal_and_open(Path(folder) / "keys.json", steps))


async def _seal_and_open(path: Path, steps: list[tuple[str, str, int]]) -> None:
    create_key_file(path, new_key_file(realm="r", names=("default", "eu")))
    now = [0.0]
    writer = key_file_ring(KeyFileProvider(path), clock=lambda: now[0])
    reader = key_file_ring(KeyFileProvider(path), limits=Limits(opened_keys=2), clock=lambda: now[0])
    sealed: list[EpochKey] = []
    for action, name, number in steps:
        topic = f"t{number}"
        if action == "seal":
            key = writer.sealing_key(topic, rule_of(name), now[0]) or await writer.renew(topic, rule_of(name))
            assert (key.topic, key.block.name) == (topic, name)
            sealed.append(key)
        elif action == "rotate":
            change_key_file(path, lambda content, name=name: rotate_key(content, name))
        elif action == "wait":
            now[0] += number * 10 * 3600
        else:
            writer.reload()
    for key in sealed:
        opened = await reader.unwrap(key.topic, 0, key.kid, key.block, rule_of("default"))
        assert opened.secret == key.secret
        with pytest.raises(KeyRefused):
            await reader.unwrap("elsewhere", 0, key.kid, key.block, rule_of("default"))
