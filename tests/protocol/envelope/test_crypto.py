"""The primitives against published answers, and that they are used from one module only."""

import ast
from pathlib import Path

import pytest

import kveil.protocol
import kveil.proxy
from kveil.protocol.envelope import crypto
from kveil.protocol.envelope.errors import Unopenable
from tests.vectors import reference

PACKAGES = {name: Path(package.__path__[0]) for name, package in (("protocol", kveil.protocol), ("proxy", kveil.proxy))}


def test_aes_256_gcm_of_the_gcm_specification():
    """McGrew and Viega, test cases 13 and 14."""
    key, nonce = bytes(32), bytes(12)
    assert crypto.encrypt(key, nonce, b"").hex() == "530f8afbc74536b9a963b4f1c4cb738b"
    sealed = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919")
    assert crypto.encrypt(key, nonce, bytes(16)) == sealed
    assert crypto.decrypt(key, nonce, sealed, "tag") == bytes(16)


@pytest.mark.parametrize("length", [1, 44, 48, 64, 65, 76, 128, 200])
def test_hkdf_expand_is_the_references(length):
    assert crypto.hkdf_expand(b"k" * 32, b"info", length) == reference.hkdf_expand(b"k" * 32, b"info", length)


@pytest.mark.parametrize("length", [32, 64])
def test_one_block_is_the_same(length):
    block = crypto.HkdfBlock(b"k" * 32, b"begins alike ", length)
    for end in (b"", b"one", b"another" * 50):
        assert block.expand(end) == reference.hkdf_expand(b"k" * 32, b"begins alike " + end, length)


class TestRecordCipher:
    KEY, BASE = b"k" * 32, bytes(range(12))

    @pytest.mark.parametrize("index", [0, 1, 255, 256, 2**20 - 1])
    def test_the_index_is_in_the_nonce(self, index):
        nonce = (int.from_bytes(self.BASE, "big") ^ index).to_bytes(12, "big")
        cipher = crypto.RecordCipher(self.KEY, self.BASE)
        assert cipher.encrypt(index, b"plain", b"") == crypto.encrypt(self.KEY, nonce, b"plain")
        assert cipher.decrypt(index, cipher.encrypt(index, b"plain", b"aad"), b"aad", "why") == b"plain"

    def test_anything_else_raises(self):
        cipher = crypto.RecordCipher(self.KEY, self.BASE)
        sealed = cipher.encrypt(7, b"plain", b"aad")
        for index, data, aad in ((8, sealed, b"aad"), (7, sealed, b"aae"), (7, sealed[:-1], b"aad"), (7, b"", b"aad")):
            with pytest.raises(Unopenable, match=r"^why$"):
                cipher.decrypt(index, data, aad, "why")


@pytest.mark.parametrize("length", [0, -1, 255 * 64 + 1])
def test_hkdf_expand_gives_no_other_lengths(length):
    with pytest.raises(ValueError, match="1 to 16320"):
        crypto.hkdf_expand(b"k" * 32, b"info", length)


def test_any_buffer_will_do():
    data = bytearray(b"x" * 100)
    sealed = crypto.encrypt(bytes(32), bytes(12), memoryview(data)[10:])
    assert sealed == crypto.encrypt(bytes(32), bytes(12), b"x" * 90)
    assert crypto.decrypt(bytes(32), bytes(12), memoryview(bytearray(sealed)), "tag") == b"x" * 90


@pytest.mark.parametrize("at", [0, 15, 16, -1])
def test_what_does_not_authenticate_raises_with_its_reason(at):
    sealed = bytearray(crypto.encrypt(bytes(32), bytes(12), bytes(20)))
    sealed[at] ^= 1
    with pytest.raises(Unopenable, match=r"^why$"):
        crypto.decrypt(bytes(32), bytes(12), bytes(sealed), "why")


@pytest.mark.parametrize("size", [0, 1, 15])
def test_less_than_a_tag(size):
    with pytest.raises(Unopenable, match=r"^why$"):
        crypto.decrypt(bytes(32), bytes(12), bytes(size), "why")


def test_a_fingerprint_is_of_all_bytes_and_of_its_key():
    batch = bytearray(range(200)) * 100
    of_one, of_another = crypto.Fingerprint(bytes(32)), crypto.Fingerprint(bytes(31) + b"k")
    found = of_one(batch)
    assert of_one(memoryview(batch)) == found
    assert of_another(batch) != found
    assert len({of_one(batch[:end]) for end in (0, 1, 19_999)} | {found}) == 4
    for place in (0, 9_999, 19_999):
        batch[place] ^= 1
        assert of_one(batch) != found
        batch[place] ^= 1


def test_check_equal():
    crypto.check_equal(b"abc", b"abc", "why")
    for other in (b"abd", b"ab", b""):
        with pytest.raises(Unopenable, match=r"^why$"):
            crypto.check_equal(other, b"abc", "why")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def importers(package, of):
    root = PACKAGES[package]
    return {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(name.split(".")[: len(of)] == of for name in imports(path))
    }


def test_the_protocol_has_one_module_for_each_library():
    assert importers("protocol", ["cryptography"]) == {"envelope/crypto.py", "identity/crypto.py"}
    assert importers("protocol", ["cramjam"]) == {"kafka/compression.py"}
    assert importers("protocol", ["crc32c"]) == {"kafka/record_batch.py"}


def test_the_protocol_is_pure():
    for name in ("socket", "asyncio", "time", "logging", "structlog"):
        assert importers("protocol", [name]) == set()
    assert importers("protocol", ["kveil", "proxy"]) == set()
