"""What an envelope says without a key, and what it doesn't where it is damaged."""

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER, KeyBlock, encode_extensions
from kveil.protocol.envelope.outline import MODES, SUITES, read_outline, version_of

BLOCK = KeyBlock(registry.KEY_FILE, "default", registry.KVEIL_WRAP, "3", b"w" * 72)
EXTENSIONS = encode_extensions(BLOCK)


def front(*, version: int = 1, mode: int = 1, suite: int = 1, extensions: bytes = EXTENSIONS) -> bytes:
    head = HEADER.pack(b"\xc5KV", version, mode, suite, len(extensions), b"k" * 16, b"s" * 24, 5, 400)
    return head + extensions


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_whole_front_says_all(kind):
    found = read_outline(kind(front() + b"ciphertext"))
    assert (found.mode, found.suite, found.kid, found.number, found.plaintext_length) == (1, 1, b"k" * 16, 5, 400)
    assert found.ciphertext_at == len(front())
    assert found.says.block == BLOCK


def test_every_known_number_has_a_name():
    assert {read_outline(front(mode=mode)).mode_name for mode in MODES} == {"batch", "record", "tombstone"}
    assert read_outline(front()).suite_name == SUITES[registry.HKDF_SHA512_AES_256_GCM]
    unknown = read_outline(front(mode=9, suite=8))
    assert (unknown.mode_name, unknown.suite_name) == ("9", "8")


def test_every_cut_says_as_much_as_holds():
    whole = front()
    for end in range(len(whole)):
        found = read_outline(whole[:end])
        assert (found is None) == (end < HEADER.size)
        assert found is None or (found.says, found.kid) == (None, b"k" * 16)
        assert version_of(whole[:end]) == (1 if end > 3 else None)


@pytest.mark.parametrize("extensions", [b"", b"\x81", b"\x82\x00\x00" + EXTENSIONS])
def test_extensions_that_can_not_be_read_leave_the_header(extensions):
    found = read_outline(front(extensions=extensions))
    assert (found.says, found.number) == (None, 5)


def test_another_version_says_its_number_only():
    assert (version_of(front(version=2)), read_outline(front(version=2))) == (2, None)


@pytest.mark.parametrize("value", [b"", b"\xc5K", b"\xc5KX" + bytes(60), b"plain"])
def test_what_is_no_envelope(value):
    assert (version_of(value), read_outline(value)) == (None, None)
