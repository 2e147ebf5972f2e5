"""Which partition is taken for which, by its topic's name and id."""

import pytest

from kveil.protocol.envelope.stream import Kind
from kveil.proxy.keys.streams import Partition, Streams

ID, OTHER_ID = bytes(range(16)), bytes(range(1, 17))
READ = Partition("orders", ID, 0, refuses_gaps=False)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (READ, READ._replace(place=OTHER_ID), {Kind.REMADE: 1}),
        (READ, READ._replace(number=1), {}),
        (READ._replace(place="orders"), READ, {}),
        (READ, READ._replace(refuses_gaps=True), {}),
    ],
    ids=["made again", "another partition", "its id has become known", "a reload changed its rule"],
)
def test_what_is_taken_for_a_topic_that_was_made_again(before, after, told):
    streams = Streams()
    streams.of(before, 0.0)
    streams.of(after, 1.0)
    assert dict(streams.alarms) == told
