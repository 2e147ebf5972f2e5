"""Identities: keys, ids, fingerprints, and what they are written as."""

import pytest

from kveil.protocol.identity import cbor
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import (
    Identity,
    PublicKeys,
    format_fingerprint,
    parse_fingerprint,
    verify_identity,
)
from tests.support.realm import identity

KINDS = [(suite, twice) for suite in KemSuite for twice in (False, True)]


@pytest.mark.parametrize(("suite", "twice"), KINDS)
def test_both_ways(suite, twice):
    made = Identity.generate(suite=suite, sign_twice=twice)
    again = Identity.from_private_bytes(made.to_private_bytes())
    assert again.public == made.public
    assert again.to_private_bytes() == made.to_private_bytes()
    assert PublicKeys.from_map(made.public.to_map()) == made.public
    verify_identity(made.public, b"message", again.sign(b"message"))


def test_no_two_are_alike():
    assert Identity.generate().id != Identity.generate().id


def test_post_quantum_wrapping_is_what_one_gets():
    assert Identity.generate().suite is KemSuite.MLKEM768_X25519


def test_secrets_arent_shown():
    made = identity("node", twice=True)
    shown = repr(made) + str(made)
    for secret in (made.ed25519_seed, made.mldsa_seed, made.kem_private):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


@pytest.mark.parametrize(("suite", "twice"), KINDS)
def test_every_signature_is_looked_at(suite, twice):
    made = identity("node", suite=suite, twice=twice)
    signature = made.sign(b"message")
    for at in (0, 63, *((64, len(signature) - 1) if twice else ())):
        bad = bytearray(signature)
        bad[at] ^= 1
        with pytest.raises(Refused, match="signature"):
            verify_identity(made.public, b"message", bytes(bad))
    for wrong in (signature[:-1], signature + b"\0", signature[:64] if twice else signature * 2, b""):
        with pytest.raises(Refused, match="signature"):
            verify_identity(made.public, b"message", wrong)
    with pytest.raises(Refused, match="signature"):
        verify_identity(made.public, b"massage", signature)


def test_every_public_key_counts_for_the_id():
    one, other = identity("one", twice=True), identity("other", twice=True)
    keys, others = one.public.to_map(), other.public.to_map()
    ids = {PublicKeys.from_map(keys | {field: others[field]}).id for field in (1, 2, 4)}
    single = {field: key for field, key in keys.items() if field != 2}
    assert len(ids | {one.id, PublicKeys.from_map(single).id}) == 5


@pytest.mark.parametrize(
    "change", [{1: bytes(31)}, {2: bytes(1951)}, {2: None}, {3: 0}, {3: 3}, {3: 2}, {4: bytes(33)}, {5: 0}]
)
def test_public_keys_of_other_shapes(change):
    with pytest.raises(Malformed):
        PublicKeys.from_map(identity("node", twice=True).public.to_map() | change)


def test_private_keys_of_other_shapes():
    good = cbor.decode(identity("node").to_private_bytes(), "it")
    for change in ({1: bytes(31)}, {2: bytes(31)}, {3: 2}, {4: bytes(33)}, {5: 0}):
        with pytest.raises(Malformed) as caught:
            Identity.from_private_bytes(cbor.encode(good | change))
        assert good[1].hex() not in caught.value.reason
    with pytest.raises(Malformed):
        Identity.from_private_bytes(identity("node").to_private_bytes() + b"\0")


def test_fingerprints():
    node = identity("node")
    text = format_fingerprint(node.id)
    assert len(text.split()) == 16
    for written in (text, text.upper(), text.replace(" ", ""), text.replace(" ", ":"), text.replace(" ", "-\n")):
        assert parse_fingerprint(written) == node.id
    for wrong in ("", text[:-1], text + "0", "g" + text[1:]):
        with pytest.raises(Malformed, match="64 hexadecimal digits"):
            parse_fingerprint(wrong)
