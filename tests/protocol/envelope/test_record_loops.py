"""The compiled loops against those in Python: the same bytes, or the same refusal, whatever comes in."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from struct import Struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import record_loops
from kveil.protocol.envelope.crypto import RecordCipher
from kveil.protocol.envelope.header import HEADER, SIGNATURE_EXTENSION, KeyBlock, encode_extensions
from kveil.protocol.envelope.origin import COMMON_LENGTH
from kveil.protocol.kafka.errors import ProtocolError
from kveil.protocol.kafka.records import NO_HEADERS
from kveil.protocol.kafka.varint import write_varint
from tests.protocol.envelope.conftest import LOOPS
from tests.vectors.record_reference import header, headers
from tests.vectors.reference import record

compiled = LOOPS.get("compiled")
differential = pytest.mark.skipif(compiled is None, reason="not compiled here: no compiler, or no headers of Python")
thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])

EXTENSIONS = encode_extensions(KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=bytes(72)))
OTHER_EXTENSIONS = encode_extensions(KeyBlock(provider=1, name="main", mechanism=1, version="2", wrapped=bytes(72)))
SIGNED_EXTENSIONS = encode_extensions(KeyBlock(7, "main", 0, "", b"")) + SIGNATURE_EXTENSION
CIPHER = RecordCipher(bytes(range(32)), bytes(range(100, 112)))
PREFIX = Struct(">BIqi")
MOST = 5000


def hide(key):
    return (key * 32 + bytes(32))[:32]


def common(mode, salt=bytes(24), extensions=EXTENSIONS):
    return HEADER.pack(b"\xc5\x4b\x56", 1, mode, 1, len(extensions), bytes(16), salt, 0, 0)[:COMMON_LENGTH]


def outcome(call, *given, **named):
    """What a call returns, or what it raises."""
    try:
        return call(*given, **named)
    except ProtocolError as error:
        return type(error), str(error)


def seal(loops, section, count, *, last=None, base=1_700_000_000_000, is_hidden=True):
    return outcome(
        loops.seal_each,
        section,
        count,
        count - 1 if last is None else last,
        base,
        record_common=common(2),
        tombstone_common=common(3),
        extensions=EXTENSIONS,
        cipher=CIPHER,
        hide=hide if is_hidden else None,
        most=MOST,
    )


def find(loops, section, count, last=None):
    """What is found, with origins as values: each call makes its own."""
    origins = {}
    found = outcome(loops.find_each, section, count, count - 1 if last is None else last, origins, MOST)
    described = [(each.mode, each.kid, each.salt, each.extensions, each.ciphertext_at) for each in origins.values()]
    if isinstance(found, tuple):
        return found, described
    places = {id(each): place for place, each in enumerate(origins.values())}
    return [(places[id(each[0])], *each[1:]) for each in found], described


def open_all(loops, section, count, *, is_hidden=True, add_headers=None):
    origins = {}
    found = record_loops.find_each(section, count, count - 1, origins, MOST)
    openers = dict.fromkeys(origins.values(), (CIPHER, hide if is_hidden else None))
    return outcome(loops.open_each, found, openers, add_headers)


parts = st.none() | st.binary(max_size=40) | st.sampled_from([0, 63, 64, 127, 128, 4900, 5000, 8192]).map(bytes)
header_lists = st.lists(
    st.builds(header, st.binary(max_size=9) | st.just(b"kveil"), st.none() | st.binary(max_size=9)), max_size=3
).map(lambda made: headers(*made))
numbers = st.integers(-200, 200) | st.sampled_from(
    [2**14, 2**31 - 1, 2**31, -(2**31), 2**62 - 1, 2**62, -(2**62), 2**63]
)


@st.composite
def sections(draw):
    """Records as a client writes them, sometimes with numbers that none does, and their count."""
    made = []
    for index in range(draw(st.integers(1, 5))):
        offset = index if draw(st.integers(0, 15)) else draw(st.integers(-2, 9))
        delta = draw(numbers) if not draw(st.integers(0, 7)) else draw(st.integers(0, 100))
        made.append(record(offset, draw(parts), draw(parts), delta, draw(st.just(NO_HEADERS) | header_lists)))
    return b"".join(made), len(made)


@st.composite
def damaged(draw, whole):
    """A section with a byte changed, left out or put in, or cut off, or as it is."""
    section, count = draw(whole)
    at = draw(st.integers(0, max(len(section) - 1, 0)))
    how = draw(st.integers(0, 4))
    more = draw(st.binary(min_size=1, max_size=6))
    section = {
        0: section,
        1: section[:at] + more[:1] + section[at + 1 :],
        2: section[:at] + section[at + 1 :],
        3: section[:at] + more + section[at:],
        4: section[:at],
    }[how]
    return section, count + draw(st.sampled_from([0, 0, 0, 1, -1]))


@st.composite
def sealed_sections(draw):
    """Sealed records, of up to two writers, with envelopes that aren't quite right."""
    made = []
    for index in range(draw(st.integers(1, 4))):
        mode = draw(st.sampled_from([2, 2, 2, 3, 1, 9]))
        extensions = draw(st.sampled_from([EXTENSIONS, EXTENSIONS, OTHER_EXTENSIONS, SIGNED_EXTENSIONS]))
        has_trailer = (extensions == SIGNED_EXTENSIONS) == bool(draw(st.integers(0, 19)))
        start = common(mode, bytes([draw(st.integers(0, 1))]) * 24, extensions)
        content = draw(st.binary(min_size=draw(st.sampled_from([17, 18])), max_size=60))
        size = len(content) + draw(st.sampled_from([0] * 9 + [1]))
        number = index if draw(st.integers(0, 9)) else draw(st.sampled_from([2**20 - 1, 2**20, 2**32 - 1]))
        envelope = start + number.to_bytes(4, "big") + size.to_bytes(4, "big") + extensions + content + bytes(16)
        envelope += bytes(64) if has_trailer else b""
        if not draw(st.integers(0, 9)):
            envelope = envelope[: draw(st.integers(0, len(envelope)))]
        key, extra = draw(parts), draw(st.just([]) | st.just([header(b"trace", b"0a")]))
        if draw(st.booleans()) if mode == 3 else not draw(st.integers(0, 9)):
            made.append(record(index, key, None, 0, headers(header(b"kveil", envelope), *extra)))
        else:
            made.append(record(index, key, envelope, 0, headers(*extra)))
    return b"".join(made), len(made)


@st.composite
def opened_sections(draw):
    """Sealed records that authenticate, whatever is inside, and whether their keys are hidden."""
    made, is_hidden = [], draw(st.booleans())
    for index in range(draw(st.integers(1, 4))):
        mode = draw(st.sampled_from([2, 2, 3]))
        key = draw(st.none() | st.binary(max_size=9))
        key_length = -1 if key is None or not is_hidden else len(key)
        if not draw(st.integers(0, 7)):
            key_length = draw(st.sampled_from([-2, -1, 0, 1, 60, 2**31 - 1]))
        pad = draw(st.sampled_from([0, 0, 0, 1, 5, 30, 2**31, 2**32 - 1]))
        padding = draw(st.just(bytes(min(pad, 40))) | st.binary(max_size=6))
        prefix = PREFIX.pack(0 if draw(st.integers(0, 9)) else 1, pad, draw(times), key_length)
        inner = draw(st.just(NO_HEADERS) | header_lists | st.binary(min_size=1, max_size=4))
        inner += b"" if mode == 3 and draw(st.integers(0, 3)) else draw(st.binary(max_size=30))
        plaintext = prefix + ((key or b"") if is_hidden else b"") + inner + padding
        wire_key = key if not is_hidden or key is None else hide(key)
        if not draw(st.integers(0, 9)):
            wire_key = draw(st.none() | st.just(bytes(32)))
        head = common(mode) + index.to_bytes(4, "big") + len(plaintext).to_bytes(4, "big") + EXTENSIONS
        aad = head + (b"\x00" if wire_key is None else b"\x01" + wire_key)
        envelope = head + CIPHER.encrypt(index, plaintext, aad)
        if not draw(st.integers(0, 19)):
            envelope = envelope[:-1] + bytes([envelope[-1] ^ 1])
        extra = draw(st.just([]) | st.just([header(b"trace", b"0a")]))
        if mode == 3:
            made.append(record(index, wire_key, None, 0, headers(header(b"kveil", envelope), *extra)))
        else:
            made.append(record(index, wire_key, envelope, 0, headers(*extra)))
    return b"".join(made), len(made), is_hidden


times = st.integers(1_700_000_000_000, 1_700_000_000_200) | st.sampled_from([0, -1, 2**63 - 1, -(2**63), 2**62])


@differential
class TestDifferential:
    @thorough
    @given(damaged(sections()), st.booleans(), times, st.sampled_from([None, 0, 3, -1]))
    @example((record(0, None, b"v", 1), 1), False, 2**63 - 1, None)
    @example((record(0, None, b"v", -1), 1), True, -(2**63), None)
    def test_sealing(self, made, is_hidden, base, last):
        section, count = made
        asked = {"last": last, "base": base, "is_hidden": is_hidden}
        assert seal(compiled, section, count, **asked) == seal(record_loops, section, count, **asked)

    @thorough
    @given(damaged(sealed_sections()), st.sampled_from([None, None, 0, 9]))
    def test_finding(self, made, last):
        section, count = made
        assert find(compiled, section, count, last) == find(record_loops, section, count, last)

    @thorough
    @given(st.binary(max_size=60), st.integers(0, 4))
    def test_noise(self, section, count):
        assert seal(compiled, section, count) == seal(record_loops, section, count)
        assert find(compiled, section, count) == find(record_loops, section, count)

    @settings(thorough, max_examples=1500)
    @given(opened_sections(), st.booleans())
    def test_opening(self, made, is_passing):
        section, count, is_hidden = made
        asked = {"is_hidden": is_hidden, "add_headers": (lambda own, wire: own + b"") if is_passing else None}
        assert open_all(compiled, section, count, **asked) == open_all(record_loops, section, count, **asked)

    @pytest.mark.parametrize(
        "value", [0, 63, 64, 8191, 8192, 2**31 - 1, 2**31, 2**61, 2**62 - 1, -1, -64, -65, -(2**31), -(2**62) + 1]
    )
    def test_timestamps(self, value):
        section = record(0, b"k", b"v", value)
        sealed = seal(compiled, section, 1, base=0)
        assert sealed == seal(record_loops, section, 1, base=0)
        opened = open_all(compiled, sealed, 1)
        assert (opened.base_timestamp, opened.max_timestamp) == (value, value)

    def test_headers_are_passed_on(self):
        inner = headers(header(b"own", b"1"))
        sealed = seal(compiled, record(0, b"k", b"v", 0, inner), 1)
        ((origin, index, offset, key, envelope, _),), _ = find(record_loops, sealed, 1)
        assert (origin, index, offset, key) == (0, 0, 0, hide(b"k"))
        stored = record(0, key, envelope, 0, headers(header(b"trace", b"0a")))
        seen = []

        def add_headers(own, wire):
            seen.append((own, wire))
            return headers(header(b"own", b"1"), header(b"trace", b"0a"))

        opened = open_all(compiled, stored, 1, add_headers=add_headers)
        assert seen == [(inner, [(b"trace", b"0a", header(b"trace", b"0a"))])]
        assert opened.section == record(0, b"k", b"v", 0, headers(header(b"own", b"1"), header(b"trace", b"0a")))

    def test_long_varints(self):
        """More bytes than a number needs are passed by, more than it may have aren't."""
        for length in (b"\x80\x00", b"\x80\x80\x80\x80\x00", b"\x80\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\x1f"):
            body = b"\x00\x00\x00" + write_varint(-1) + length + NO_HEADERS
            section = write_varint(len(body)) + body
            assert seal(compiled, section, 1) == seal(record_loops, section, 1)

    def test_wrong_lengths_are_not_believed(self):
        """Callers see to these. If one doesn't, memory beyond an object must not be touched."""
        with pytest.raises(RuntimeError, match="length"):
            compiled.seal_each(
                b"",
                0,
                0,
                0,
                record_common=b"",
                tombstone_common=common(3),
                extensions=EXTENSIONS,
                cipher=CIPHER,
                hide=None,
                most=MOST,
            )


def test_it_is_compiled_where_that_can_be():
    """Where the tests run, the set-up has compiled it, unless there is nothing to do it with."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    can_be = shutil.which(compiler) and Path(sysconfig.get_paths()["include"], "Python.h").exists()
    assert compiled or not can_be


def test_without_it_the_loops_are_pythons():
    program = (
        "import sys; sys.modules['kveil.protocol.envelope._record_loops'] = None\n"
        "from kveil.protocol.envelope import compiled; print(compiled.loops.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "kveil.protocol.envelope.record_loops\n"
