"""`kveil inspect` as it is shown: a table that lines up, JSON, and nothing that a terminal would obey."""

import json
import re
from dataclasses import replace

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER, KeyBlock, encode_extensions, extend
from kveil.protocol.envelope.outline import read_outline
from kveil.protocol.kafka.records import NO_HEADERS, write_headers, write_record_header
from kveil.proxy.cli.inspect import _start, _teller
from kveil.proxy.cli.inspect_contents import CONTENT_SHOWN
from kveil.proxy.cli.inspect_report import Report
from kveil.proxy.inspection.opening import Opened
from kveil.proxy.inspection.reading import Part
from kveil.proxy.inspection.rows import CONTROL, PLAIN, SEALED, UNREADABLE, Row
from kveil.proxy.migrate.records import CopiedRecord

T = 1_700_000_000_000
BLOCK = KeyBlock(provider=registry.VAULT_TRANSIT, name="orders", mechanism=2, version="3", wrapped=b"w" * 60)
HOSTILE = "\x1b]0;owned\x07\r\n\u202e"


def outline(mode: int = registry.BATCH, block: KeyBlock = BLOCK, **more):
    extensions = extend(encode_extensions(block), **more)
    front = HEADER.pack(registry.MAGIC, 1, mode, 1, len(extensions), b"\xab" * 16, b"s" * 24, 100, 4000)
    return read_outline(front + extensions)


BATCH = Row(
    partition=0,
    first_offset=8100,
    last_offset=8199,
    batch_offset=8100,
    kind=SEALED,
    records=100,
    timestamp=T,
    stored_bytes=4400,
    payload_bytes=4000,
    codec=4,
    version=1,
    outline=outline(),
)
RECORD = replace(
    BATCH,
    first_offset=8200,
    last_offset=8200,
    records=1,
    stored_bytes=300,
    payload_bytes=50,
    codec=0,
    is_transactional=True,
    outline=outline(registry.RECORD, hiding_key_id=b"h" * 16, origin_partition=3),
)
PLAINLY = replace(BATCH, kind=PLAIN, version=None, outline=None, codec=0, payload_bytes=4400)
DAMAGED = replace(
    BATCH, kind=UNREADABLE, version=9, outline=None, payload_bytes=None, codec=7, problem="version", records=2
)


def report(*rows: Row, opened: Opened | None = None, limit: int = 20, **part) -> Report:
    found = Part(partition=0, first=0, end=9000, rows=[(row, opened) for row in rows], batches=2, batch_bytes=4700)
    for name, value in part.items():
        setattr(found, name, value)
    return Report(topic="orders", decided="orders: sealed", partitions=1, parts=[found], limit=limit)


def inside(**fields) -> Opened:
    record = {"timestamp": T, "key": b"k", "value": b"v", "headers": NO_HEADERS} | fields
    return Opened([(8100, CopiedRecord(**record))])


def test_the_table():
    title, *shown = list(report(BATCH, RECORD, PLAINLY, DAMAGED).lines())
    assert title == "orders: sealed; 1 partitions"
    assert [re.split(" {2,}", line.strip()) for line in shown[:-1]] == [
        [
            *("partition", "offsets", "records", "mode", "version", "suite", "kid", "key"),
            *("stored", "payload", "overhead", "notes"),
        ],
        ["0", "8100-8199", "100", "batch", "1", "1", "ab" * 6, "vault:orders version 3", "4400", "4000", "400", "zstd"],
        [
            *("0", "8200", "1", "record", "1", "1", "ab" * 6, "vault:orders version 3", "300", "50", "250"),
            "in a transaction, key hidden, sealed for partition 3",
        ],
        ["0", "8100-8199", "100", "PLAIN", "-", "-", "-", "-", "4400", "4400", "0"],
        ["0", "8100-8199", "2", "UNREADABLE", "9", "-", "-", "-", "4400", "-", "-", "REFUSED: version, codec 7"],
    ]
    assert {line.index("vault:") for line in shown[1:3]} == {shown[0].index("key")}
    assert {
        line.index(number) + len(number) for line, number in zip(shown[1:3], ("400  z", "250  i"), strict=True)
    } == {shown[0].index("overhead") + len("overhead  n")}
    assert shown[-1] == (
        "2 envelopes, 203 records: 13500 bytes stored, 8450 of payload, 650 of overhead (7.7%); 2 batches, which take "
        "4700 bytes; 1 damaged or refused"
    )


def test_json_says_it_all():
    found = json.loads(json.dumps(report(BATCH, RECORD, DAMAGED, goes_on_at=8300).as_json()))
    first, second, third = found["envelopes"]
    assert (first["mode"], first["suite"], first["kid"]) == ("batch", "HKDF-SHA512 + AES-256-GCM", "ab" * 16)
    assert first["key"] == {
        "provider": "vault",
        "name": "orders",
        "version": "3",
        "mechanism": 2,
        "wrapped_bytes": 60,
    }
    assert (first["stored_bytes"], first["payload_bytes"], first["overhead_bytes"]) == (4400, 4000, 400)
    assert (second["hiding_key_id"], second["origin_partition"]) == ("68" * 16, 3)
    assert second["transactional"] is True
    assert (third["kind"], third["version"], third["mode"], third["key"]) == ("unreadable", 9, None, None)
    assert third["problem"] == "version"
    assert found["partitions"] == [
        {"partition": 0, "first_offset": 0, "end_offset": 9000, "goes_on_at": 8300, "problem": None}
    ]
    assert found["total"]["problems"] == 1
    assert "opened" not in first
    assert b"w" * 8 not in json.dumps(found).encode(), "the wrapped key itself isn't shown"


def test_there_may_be_nothing_and_there_may_be_more():
    assert list(report().lines())[1] == "nothing is there"
    assert list(report(BATCH, goes_on_at=8300).lines())[-1] == (
        "partition 0 goes on up to offset 9000: --partition 0 --offset 8300, or a higher --limit"
    )
    assert list(report(problem="cut").lines())[-1] == "partition 0: cut"


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (report(BATCH, PLAINLY, replace(PLAINLY, kind=CONTROL)), True),
        (report(BATCH, DAMAGED), False),
        (report(BATCH, opened=Opened([], "no key")), False),
        (report(BATCH, opened=inside()), True),
        (report(BATCH, problem="cut"), False),
    ],
)
def test_what_is_good(found, good):
    assert found.is_good is good


def test_what_is_inside():
    headers = write_headers([write_record_header(b"trace", b"1"), b"\x02x\x01"])
    shown = list(report(BATCH, opened=inside(headers=headers, value=None)).lines())
    assert shown[3] == "    8100  2023-11-14T22:13:20Z  key 'k'  value null  headers  'trace': '1'  'x': null"
    found = report(BATCH, opened=inside(headers=headers, key=b"\xff")).as_json()["envelopes"][0]
    assert found["opened"] == [
        {
            "offset": 8100,
            "timestamp": T,
            "key": {"base64": "/w=="},
            "value": "v",
            "headers": [["trace", "1"], ["x", None]],
        }
    ]
    assert found["more_records"] == 0


def test_what_did_not_open_says_why():
    closed = report(BATCH, opened=Opened([], "no key \x1b[2J"))
    assert list(closed.lines())[3] == r"    not opened: no key \x1b[2J"
    assert closed.as_json()["envelopes"][0]["unopened"] == "no key \x1b[2J"


def test_the_records_of_an_envelope_have_a_limit_too():
    many = Opened(inside().records * 5)
    shown = list(report(BATCH, opened=many, limit=2).lines())
    assert shown[5] == "    and 3 records more: a higher --limit shows them"
    found = report(BATCH, opened=many, limit=2).as_json()["envelopes"][0]
    assert (len(found["opened"]), found["more_records"]) == (2, 3)


@pytest.mark.parametrize("where", ["key", "value", "header", "key name", "binary"])
def test_nothing_that_a_terminal_would_obey_is_shown(where):
    written = HOSTILE.encode() + (b"\xff" if where == "binary" else b"")
    opened = {
        "key": inside(key=written),
        "value": inside(value=written),
        "binary": inside(value=written),
        "header": inside(headers=write_headers([write_record_header(written, written)])),
        "key name": inside(),
    }[where]
    row = replace(BATCH, outline=outline(block=BLOCK._replace(name=HOSTILE, version=HOSTILE)))
    found = report(row if where == "key name" else BATCH, opened=opened)
    lines = list(found.lines())
    assert all(line.isprintable() for line in lines), lines
    assert any(r"\x1b]0;owned\x07\r\n" in line for line in lines)
    assert json.dumps(found.as_json()).isprintable()


@pytest.mark.parametrize("content", [b"x" * 5000, "é".encode() * 5000, b"\xff" * 5000])
def test_long_contents_are_cut_in_the_table_only(content):
    line = list(report(BATCH, opened=inside(value=content)).lines())[3]
    assert line.endswith(f"... ({len(content)} bytes)")
    assert len(line) < 5 * CONTENT_SHOWN
    assert len(json.dumps(report(BATCH, opened=inside(value=content)).as_json())) > 5000


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        *(("earliest", 10), ("beginning", 10), ("latest", 100), ("end", 100)),
        *(("0", 10), ("42", 42), ("500", 500), ("-10", 90), ("-1000", 10)),
    ],
)
def test_where_it_begins(text, begins):
    """Of a partition with offsets 10 to 99."""
    assert _start(text)(10, 100) == begins


@pytest.mark.parametrize("arguments", [("--offset", "soon"), ("--limit", "0"), ("--partition", "-1")])
def test_wrong_use(kveil, arguments):
    result = kveil("inspect", "orders", "--upstream", "127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_a_cluster_out_of_reach(kveil, key_path):
    result = kveil("inspect", "orders", "--upstream", "127.0.0.1:1", "--keys", key_path, "--offset", "-10")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("kveil: the cluster can't be reached")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_for_a_terminal(capsys, monkeypatch, is_terminal):
    monkeypatch.setattr("kveil.proxy.cli.scanning.PROGRESS_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    _teller("orders", 3)(0)
    assert capsys.readouterr().err == ("orders: 1 batches read, partition 1 of 3\n" if is_terminal else "")
