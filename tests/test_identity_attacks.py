"""docs/identity-attacks.md names a test for each attack of the cluster, and all that the hostile broker does."""

import re
from pathlib import Path

import pytest

from tests.integration import test_hostile_broker, test_hostile_control, test_hostile_transactions

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "identity-attacks.md").read_text()
ROWS = re.findall(r"^\| (It [^|]*) \| ([^|]*) \| ?([^|]*?) ?\|$", PAGE, re.MULTILINE)
NAMED = {name for _, _, tests in ROWS for name in re.findall(r"`(\w+)`", tests)}
WITHOUT = (
    *("It holds back the beacons", "It deletes what wasn't read", "It drops what nobody vouched for"),
    *("It says that the topic is compacted", "It claims that a transaction is still open"),
    "It does so where no proxy saw the whole",
)
"""What isn't seen, or looks like something honest: there is nothing to be caught."""

ATTACKS = {
    row[0].__name__
    for row in (*test_hostile_broker.REFUSED, *test_hostile_broker.HARMLESS, *test_hostile_broker.STREAM)
} | {lie.__name__ for lie in (*test_hostile_control.LIES, *(row[0] for row in test_hostile_transactions.LIES))}


def named_in(path: Path) -> set[str]:
    return set(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))


def test_each_name_is_one_of_a_test_or_of_an_attack():
    tests = set().union(*(named_in(path) for path in (ROOT / "tests").rglob("test_*.py")))
    assert tests | ATTACKS >= NAMED


def test_each_attack_of_the_suite_is_on_the_page():
    of_tables = {"test_refused", "test_harmless", "test_position"}
    of_tables |= {"test_announcement_that_is_not_told", "test_lies_about_transactions"}
    of_tables.add("test_no_alarm_however_transactions_end")  # no attack at all
    modules = (test_hostile_broker, test_hostile_control, test_hostile_transactions)
    alone = set().union(*(named_in(Path(module.__file__ or "")) for module in modules)) - of_tables
    assert ATTACKS | alone == NAMED & (ATTACKS | alone)
    assert len(ATTACKS) >= 25


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_each_row_has_a_test(row: tuple[str, str, str]):
    attack, _, tests = row
    assert "`" in tests or attack.startswith(WITHOUT)
