"""Which of an answer's batches its list of aborted transactions leaves out, and where the markers say otherwise."""

import pytest

from kveil.protocol.kafka.aborted import Entry, outcomes_in
from kveil.protocol.kafka.record_batch import CONTROL, TRANSACTIONAL, read_header
from tests.support.records import at_offset, client_batch

MINE, OTHER = 7, 8


def outcomes(log, *entries):
    """`log` by offset: "d" and "D" are batches of two producer ids, the rest of the first one: "c" COMMIT, "a" ABORT,
    "p" plain, "e" an empty one. What is said of the data, one letter each: "C" committed, "A" aborted, and "!" behind
    it where a marker says otherwise.
    """
    batches = []
    for offset, kind in enumerate(log):
        attributes = {"p": 0, "c": TRANSACTIONAL | CONTROL, "a": TRANSACTIONAL | CONTROL}.get(kind, TRANSACTIONAL)
        fields = {"producer_id": OTHER if kind == "D" else MINE, "producer_epoch": 0, "base_sequence": 0}
        header = read_header(at_offset(client_batch(1, attributes=attributes, **fields), offset))
        header = header._replace(record_count=0) if kind == "e" else header
        batches.append((header, {"c": True, "a": False}.get(kind)))
    found = outcomes_in([Entry(*entry) for entry in entries], batches)
    assert [each is not None for each in found] == [kind in "dD" for kind in log]
    return "".join("AC"[one.committed] + "!" * one.is_contradicted for one in found if one is not None)


@pytest.mark.parametrize(
    ("log", "entries", "said"),
    [
        ("ddc", [], "CC"),
        ("dda", [(MINE, 0)], "AA"),
        ("ddadc", [(MINE, 0)], "AAC"),
        ("dcdadc", [(MINE, 2)], "CAC"),
        ("dada", [(MINE, 0), (MINE, 2)], "AA"),
        ("dada", [(MINE, 2), (MINE, 0)], "AA"),
        ("dDac", [(MINE, 0)], "AC"),
        ("pdpa", [(MINE, 0)], "A"),
        ("dd", [(MINE, 0)], "AA"),
        ("dd", [(MINE, 1)], "CA"),
        ("dc", [(MINE, 5)], "C"),
        ("ac", [(MINE, 0)], ""),
        ("eac", [], ""),
        ("adc", [(MINE, 0)], "C"),
    ],
)
def test_honest_answers(log, entries, said):
    assert outcomes(log, *entries) == said


@pytest.mark.parametrize(
    ("log", "entries", "said"),
    [
        ("ddc", [(MINE, 0)], "A!A!"),
        ("dda", [], "C!C!"),
        ("dda", [(OTHER, 0)], "C!C!"),
        ("dcda", [(MINE, 0)], "A!A"),
        ("dadc", [(MINE, 0), (MINE, 0)], "AA!"),
        ("ddc", [(MINE, 1)], "CA!"),
        ("dda", [(MINE, 1)], "C!A"),
    ],
)
def test_answers_that_contradict_themselves(log, entries, said):
    assert outcomes(log, *entries) == said
