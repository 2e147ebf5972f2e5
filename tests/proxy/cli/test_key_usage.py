"""`kveil keys usage` as it is shown: what a broker wrote is named plainly, and who waits hears of it."""

import pytest

from kveil.proxy.cli import scanning
from kveil.proxy.cli.key_usage import _lines, _needed, _not_needed, _spans
from kveil.proxy.cli.scanning import ScanProgress
from kveil.proxy.keys.provider import KeyDescription
from kveil.proxy.keys.usage import Found, KeyVersionRef, Usage
from kveil.proxy.policy import KeyRef

T = 1_700_000_000_000
FOUND = Found(batches=2, records=7, first_offset=3, last_offset=9, oldest=T, newest=T + 60_000)
SPAN = "  partition 0: 2 batches, 7 records, offsets 3 to 9, 2023-11-14T22:13:20Z to 2023-11-14T22:14:20Z"


def lines(usage: Usage, described=None, start: int = 0) -> list[str]:
    shown = {
        "topic": "orders",
        "from": start,
        "partitions": 1,
        "keys": list(_needed(usage)),
        "not_needed": list(_not_needed(usage, described or {})),
        "plain": _spans(usage.plain),
        "unreadable": _spans(usage.unreadable),
    }
    return list(_lines(shown))[1:-1]


def used(*keys: KeyVersionRef) -> Usage:
    usage = Usage()
    usage.keys = {key: {0: FOUND} for key in keys}
    return usage


def test_what_is_needed_is_named_with_its_places():
    found = lines(used(KeyVersionRef(2, "orders", "3")))
    assert found == ["needed: vault:orders version 3, 2 batches, 7 records", SPAN]


def test_what_is_not_needed_is_named_without_what_is():
    described = {KeyRef(2, "orders"): KeyDescription(name="orders", primary="3", versions=("1", "2", "3"))}
    assert lines(used(KeyVersionRef(2, "orders", "2")), described)[2:] == [
        "needed nowhere here: vault:orders version 1, 3 (seals now)"
    ]
    assert lines(used(), described, start=5) == [
        "needed nowhere here from offset 5 on: vault:orders version 1, 2, 3 (seals now)"
    ]


@pytest.mark.parametrize("said", ["it is down", KeyDescription(name="orders", primary="1", versions=("1",))])
def test_nothing_is_said_to_be_free_where_it_can_not_be_told(said):
    """Either the service doesn't answer, or its wraps don't say which version made them."""
    found = lines(used(KeyVersionRef(6, "orders", "")), {KeyRef(6, "orders"): said})
    assert found[0] == "needed: pkcs11:orders, 2 batches, 7 records"
    assert found[2].startswith("can't tell which versions of pkcs11:orders there are: ")
    assert not any("needed nowhere" in line for line in found)


def test_a_brokers_inventions_do_not_reach_the_terminal():
    (line, _) = lines(used(KeyVersionRef(99, "\x1b[2Jorders\n", "é")))
    assert line == r"needed: provider 99:'\x1b[2Jorders\n' version 'é', 2 batches, 7 records"


@pytest.mark.parametrize("stamp", [-1, 2**62, -(2**63)])
def test_a_timestamp_that_no_clock_shows_is_a_number(stamp):
    usage = Usage()
    usage.plain = {0: Found(batches=1, records=1, oldest=stamp, newest=stamp)}
    kind, span = lines(usage)
    assert kind == "plain: 1 batches"
    assert str(stamp) in span or "1969-12-31T23:59:59Z" in span


def test_who_waits_hears_how_far_it_is(capsys, monkeypatch):
    quiet = ScanProgress("orders", 3)
    quiet.tell(0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(scanning, "PROGRESS_SECONDS", 0)
    told = ScanProgress("orders", 3)
    told.tell(0)
    told.tell(2)
    assert capsys.readouterr().err.splitlines() == [
        "orders: 1 batches read, partition 1 of 3",
        "orders: 2 batches read, partition 2 of 3",
    ]
