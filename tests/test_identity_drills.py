"""Each drill of docs/identities.md has tests that do it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "identities.md").read_text()
TABLE = PAGE.partition("\n## Drills\n")[2].partition("\n## ")[0]
DRILLS = re.findall(r"^\| (.+?) \|", TABLE, re.MULTILINE)[1:]

SHOWN = {
    "a host is lost or stolen": ("integration/test_identities_drills.py", "hosts_join_and_are_lost_while_records_flow"),
    "a node's directory was lost, or an old backup of it put back": (
        "integration/test_identities.py",
        "a_node_that_was_rolled_back_does_not_start",
    ),
    "the authority's host is lost": (
        "integration/test_identities_drills.py",
        "the_authority_is_lost_while_records_flow",
    ),
    "two copies of the authority were in use": ("proxy/identity/test_authority.py", "two_copies_in_use"),
    "the control topic was deleted, or made anew": (
        "proxy/identity/test_authority.py",
        "a_topic_that_was_made_anew_gets_all",
    ),
    "a ticket was read by somebody else": ("integration/test_identities_authority.py", "the_walk_through"),
    "a ticket with `--uses` was used once more": (
        "proxy/identity/test_authority.py",
        "of_several_uses_none_is_revoked",
    ),
    "`hiding-key` alarm: members were handed two key-hiding keys": (
        "integration/test_identities_hiding.py",
        "until_it_is_handed_out_clients_are_told_to_try_again",
    ),
    "a host's clock is wrong": ("proxy/keys/test_announced_sealing.py", "a_clock_that_is_wrong"),
}


def test_each_drill_has_a_test():
    assert set(DRILLS) == set(SHOWN)
    for place, name in SHOWN.values():
        assert f"def test_{name}(" in (ROOT / "tests" / place).read_text(), (place, name)
