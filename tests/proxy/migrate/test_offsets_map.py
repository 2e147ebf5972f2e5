"""Offsets translated, and the map as a file."""

import json

import pytest

from kveil.proxy.migrate.comparing import Comparison, Run
from kveil.proxy.migrate.offsets_map import map_lines, translate, write_map

FOUND = Comparison(partition=3, runs=[Run(10, 0, 5), Run(16, 5, 2), Run(30, 8, 1)], source_end=40, dest_end=9)


@pytest.mark.parametrize(
    ("offset", "dest"),
    [
        (0, 0),  # before the log's start
        (10, 0),
        (14, 4),
        (15, 5),  # a marker: the next record
        (16, 5),
        (17, 6),
        (18, 8),
        (30, 8),
        (31, 9),  # behind the last record
        (40, 9),
        (41, None),  # not copied yet
    ],
)
def test_translate(offset, dest):
    assert translate(FOUND, offset) == dest


def test_a_partition_without_records():
    assert translate(Comparison(partition=0, source_end=7, dest_end=2), 7) == 2


def test_runs_grow_as_offsets_follow_each_other():
    found = Comparison(partition=0)
    for source, dest in ((0, 0), (1, 1), (3, 2), (4, 3), (5, 5)):
        found.note(source, dest)
    assert found.runs == [Run(0, 0, 2), Run(3, 2, 2), Run(5, 5, 1)]
    assert found.dest_end == 6


def test_the_file(tmp_path):
    path = tmp_path / "map"
    path.write_text("from before")
    write_map(path, map_lines("a", "b", [FOUND]))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"map": "kveil-offsets/1", "source": "a", "dest": "b"}
    assert lines[1] == {"partition": 3, "source": 10, "dest": 0, "count": 5}
    assert lines[-1] == {"partition": 3, "end": True, "source": 40, "dest": 9}
    assert [each.name for each in tmp_path.iterdir()] == ["map"]
