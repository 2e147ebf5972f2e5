"""Writes the vectors: `python -m tests.vectors.generate`. Deterministic, and without a line of the product.

batch-opens.json   sealed batches with the batch that each opens to
batch-refused.json sealed batches with one fault each, and the reason to refuse it
record-opens.json, record-refused.json  the same for record mode
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.vectors import example, faults, openings, record_faults, record_openings, signed
from tests.vectors.record_reference import RecordSealer
from tests.vectors.reference import Sealer

HERE = Path(__file__).parent


def reader_of(sealer: Sealer) -> dict[str, Any]:
    """What a reader has: its own view of realm, topic and partition, and the key-encryption key."""
    return {
        "realm": sealer.realm,
        "topic": sealer.topic,
        "partition": sealer.partition,
        "kek": sealer.kek.hex(),
    }


def opens() -> list[dict[str, Any]]:
    return [
        {
            "name": case.name,
            "reader": reader_of(case.sealer) | case.reader,
            "batch": case.sealer.seal().hex(),
            "opens_to": replace(case.sealer.client, **case.delivered).encode().hex(),
        }
        for case in openings.CASES + signed.OPENINGS
    ]


def refused() -> list[dict[str, Any]]:
    return [
        {
            "name": case.name,
            "reader": reader_of(Sealer()) | case.reader,
            "batch": case.batch().hex(),
            "reason": case.reason,
        }
        for case in faults.CASES + signed.FAULTS
    ]


def record_reader_of(sealer: RecordSealer) -> dict[str, Any]:
    """What a reader of record mode has besides."""
    return reader_of(sealer) | {"hiding_key": {"id": sealer.hiding_id.hex(), "secret": RecordSealer.hiding.hex()}}


def record_opens() -> list[dict[str, Any]]:
    return [
        {
            "name": case.name,
            "reader": record_reader_of(case.sealer) | case.reader,
            "batch": case.batch().hex(),
            "opens_to": case.opens_to().hex(),
        }
        for case in record_openings.CASES + signed.RECORD_OPENINGS
    ]


def record_refused() -> list[dict[str, Any]]:
    return [
        {
            "name": case.name,
            "reader": record_reader_of(RecordSealer()) | case.reader,
            "batch": case.batch().hex(),
            "reason": case.reason,
        }
        for case in record_faults.CASES + signed.RECORD_FAULTS
    ]


def written(vectors: list[dict[str, Any]]) -> str:
    return json.dumps(vectors, indent=1) + "\n"


FILES = {
    "batch-opens.json": opens,
    "batch-refused.json": refused,
    "record-opens.json": record_opens,
    "record-refused.json": record_refused,
}

if __name__ == "__main__":
    if sys.argv[1:] == ["example"]:
        sys.stdout.write(f"{example.text()}\n{example.record_text()}\n{example.signed_text()}")
    else:
        for name, make in FILES.items():
            (HERE / name).write_text(written(make()))
