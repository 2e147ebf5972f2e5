"""Putting new pieces into a message, with kio as the judge of the result."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.kafka.splice import Edit, FrozenShape, Section, Want, request_walker, response_walker, splice
from tests.support.kio_instances import Kind, decode_frame, make, write_frame_of, write_length, write_section

ENDPOINTS = FrozenShape(
    {
        "responses": {"partitions": {"records": Want.DATA, "error_code": Want.SPAN}},
        "node_endpoints": {"host": Want.DATA, "port": Want.SPAN},
    }
)
UNKNOWN = [(3, b"?"), (900, b"from a newer peer")]
FETCH = Kind(1, 17, is_request=False).schema
quick = settings(max_examples=40, deadline=None)


def compact(data):
    return [write_length(len(data), flexible=True), data]


class TestSplice:
    @quick
    @given(st.binary(max_size=60), st.data())
    def test_replaces_spans_and_nothing_else(self, buffer, data):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(buffer)), max_size=8)))
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        pieces = data.draw(st.lists(st.binary(max_size=5), min_size=len(spans), max_size=len(spans)))
        expected, position = b"", 0
        for (start, end), piece in zip(spans, pieces, strict=True):
            expected += buffer[position:start] + piece
            position = end
        edits = [Edit(start, end, [piece]) for (start, end), piece in zip(spans, pieces, strict=True)]
        shuffled = data.draw(st.permutations(edits)) if len({e.start for e in edits}) == len(edits) else edits
        assert b"".join(splice(buffer, shuffled)) == expected + buffer[position:]

    def test_overlapping_edits_are_a_mistake(self):
        with pytest.raises(ValueError, match="overlaps"):
            splice(b"0123456789", [Edit(1, 5, [b"a"]), Edit(4, 6, [b"b"])])

    def test_pieces_outlive_the_buffer(self):
        buffer = bytearray(b"0123456789")
        pieces = splice(memoryview(buffer), [Edit(4, 5, [b"x"])])
        buffer[:] = bytes(10)
        assert b"".join(pieces) == b"0123x56789"

    def test_a_section_that_nothing_touches_stays_as_it_is(self):
        odd = b"\x81\x00" + b"\x05\x01x"  # a count in two bytes where one would do
        assert (
            b"".join(splice(odd + b"tail", [Edit(5, 6, [b"T"])], [Section(0, 5, [(5, 4, 5)], False)])) == odd + b"Tail"
        )

    def test_an_edit_in_a_section_gives_it_new_lengths(self):
        section = write_section([(1, b"keep"), (5, b"x")])
        long = b"y" * 300
        at = section.rindex(b"x")
        edited = splice(
            section, [Edit(at, at + 1, [long])], [Section(0, len(section), [(1, 3, 7), (5, at, at + 1)], False)]
        )
        assert b"".join(edited) == write_section([(1, b"keep"), (5, long)])


class TestAgainstKio:
    @quick
    @given(st.integers(0, 50), st.lists(st.text(max_size=140), min_size=1, max_size=4), st.integers(0, 2**31 - 1))
    def test_new_hosts_in_a_tagged_field(self, seed, hosts, port):
        for unknown, drop in ((), False), ((), True), (UNKNOWN, False), (UNKNOWN, True):
            entity = make(FETCH, seed)
            endpoint = make(Kind(1, 17, is_request=False).schema, 0).node_endpoints[0]
            entity = replace(entity, node_endpoints=tuple(replace(endpoint, host=f"b{at}") for at in range(len(hosts))))
            frame = write_frame_of(entity, unknown)
            (_, endpoints), sections = response_walker(1, 17, ENDPOINTS, drop_unknown=drop)(frame)
            edits = []
            for host, ((start, _, end), port_span) in zip(hosts, endpoints, strict=True):
                edits += [Edit(start, end, compact(host.encode())), Edit(*port_span, [port.to_bytes(4, "big")])]
            expected = replace(
                entity,
                node_endpoints=tuple(
                    replace(old, host=host, port=port) for old, host in zip(entity.node_endpoints, hosts, strict=True)
                ),
            )
            assert b"".join(splice(frame, edits, sections)) == write_frame_of(expected, () if drop else unknown)

    @quick
    @given(st.integers(0, 50), st.binary(max_size=300))
    def test_new_records(self, seed, records):
        entity = make(FETCH, seed)
        frame = write_frame_of(entity, UNKNOWN)
        (responses, _), sections = response_walker(1, 17, ENDPOINTS, drop_unknown=True)(frame)
        spans = [span for (partitions,) in responses for span, _ in partitions]
        edits = [Edit(start, end, compact(records)) for start, _, end in spans]
        new = decode_frame(FETCH, b"".join(splice(frame, edits, sections)))
        assert new == replace(
            entity,
            responses=tuple(
                replace(topic, partitions=tuple(replace(part, records=records) for part in topic.partitions))
                for topic in entity.responses
            ),
        )


def test_walkers_are_made_once():
    shape = FrozenShape({})
    assert request_walker(3, 12, shape) is request_walker(3, 12, shape)
    assert response_walker(3, 12, shape) is not response_walker(3, 12, shape, drop_unknown=True)
    assert (request_walker(3, 8, shape).flexible, request_walker(3, 9, shape).flexible) == (False, True)
