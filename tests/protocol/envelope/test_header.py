"""The key block and the extensions: strict both ways."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import (
    HEADER,
    Extensions,
    KeyBlock,
    decode_extensions,
    encode_extensions,
    extend,
    lp,
)
from tests.vectors import reference

PAIRS = [(provider, mechanism) for provider, allowed in registry.ALLOWED_MECHANISMS.items() for mechanism in allowed]


def key_block(pair=(1, 1), **fields):
    wrapped = b"" if pair[1] == 0 else b"wrapped"
    return KeyBlock(
        **{"provider": pair[0], "name": "main", "mechanism": pair[1], "version": "", "wrapped": wrapped} | fields
    )


blocks = st.builds(
    lambda pair, name, version, wrapped: key_block(
        pair, name=name, version=version, wrapped=b"" if pair[1] == 0 else wrapped
    ),
    st.sampled_from(PAIRS),
    st.text(min_size=1, max_size=100),
    st.text(max_size=100),
    st.binary(min_size=1, max_size=1000),
)


@given(blocks)
def test_a_key_block_both_ways(block):
    body = block.encode()
    assert KeyBlock.decode(body) == block
    assert decode_extensions(encode_extensions(block), registry.BATCH) == Extensions(block, None, None)
    sealer = reference.Sealer(
        provider=block.provider,
        name=block.name,
        mechanism=block.mechanism,
        key_version=block.version,
        wrapped=block.wrapped,
    )
    assert body == sealer.made_block()


@given(st.binary(max_size=40))
def test_noise_decodes_to_itself_or_is_refused(body):
    with contextlib.suppress(Unopenable):
        assert KeyBlock.decode(body).encode() == body


@given(st.binary(max_size=60))
def test_noise_as_extensions_is_refused(data):
    with pytest.raises(Unopenable):
        decode_extensions(b"\x81\x00\x00" + data, registry.RECORD)


@pytest.mark.parametrize(
    "block",
    [
        key_block(name=""),
        key_block(wrapped=b""),
        key_block((7, 0), wrapped=b"x"),
        key_block((1, 2)),
        key_block((5, registry.RSA_OAEP_SHA256)),
        key_block((0, 1)),
        key_block((9, 1)),
    ],
)
def test_nothing_is_written_that_would_be_refused(block):
    with pytest.raises(Unopenable):
        block.encode()


def test_extensions_have_a_limit():
    room = 4096 - len(encode_extensions(key_block(wrapped=b"x"))) + 1
    assert len(encode_extensions(key_block(wrapped=bytes(room)))) == 4096
    with pytest.raises(ValueError, match="4097"):
        encode_extensions(key_block(wrapped=bytes(room + 1)))


@pytest.mark.parametrize("origin", [None, 0, 3, 2**31 - 1])
@pytest.mark.parametrize("hiding", [None, bytes(range(16))])
def test_more_extensions_both_ways(origin, hiding):
    block = key_block()
    extensions = extend(encode_extensions(block), hiding_key_id=hiding, origin_partition=origin)
    for mode in (registry.RECORD, registry.TOMBSTONE):
        assert decode_extensions(extensions, mode) == Extensions(block, hiding, origin)
    if hiding is None:
        assert decode_extensions(extensions, registry.BATCH) == Extensions(block, None, origin)
    else:
        with pytest.raises(Unopenable, match="unknown critical"):
            decode_extensions(extensions, registry.BATCH)


def test_more_extensions_have_the_same_limit():
    room = 4096 - len(encode_extensions(key_block(wrapped=b"x"))) + 1
    extensions = encode_extensions(key_block(wrapped=bytes(room - 7)))
    assert len(extend(extensions, origin_partition=1)) == 4096
    with pytest.raises(ValueError, match="4115"):
        extend(extensions, hiding_key_id=bytes(16), origin_partition=1)


def test_which_partition_counts():
    unnamed, named = (
        decode_extensions(extend(encode_extensions(key_block()), origin_partition=p), 1) for p in (None, 3)
    )
    assert [unnamed.partition_for(5, any_partition=either) for either in (False, True)] == [5, 5]
    assert named.partition_for(3, any_partition=False) == named.partition_for(5, any_partition=True) == 3
    with pytest.raises(Unopenable, match="origin partition"):
        named.partition_for(5, any_partition=False)


def test_lp():
    assert lp(b"abc") == b"\x00\x03abc"
    assert len(lp(bytes(65_535))) == 65_537
    with pytest.raises(ValueError, match="65536"):
        lp(bytes(65_536))


def test_the_header_is_56_bytes():
    assert HEADER.size == 56
