"""The units of deploy/systemd, as systemd itself judges them."""

import configparser
import shutil
from pathlib import Path

import pytest

from kveil.proxy.config.limits import DRAIN_SECONDS
from kveil.proxy.workers.supervisor import GRACE_SECONDS
from tests.support.pages import ROOT, blocks
from tests.support.processes import run

UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/kveil/bin/kveil"
MOST_EXPOSED = 15
"""Tenths, of `systemd-analyze security`."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


class Unit(configparser.RawConfigParser):
    """A unit file; a key that is there more than once has the values together."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, delimiters="=", comment_prefixes="#")
        self.optionxform = str  # type: ignore[assignment]
        self.read_string((UNITS / name).read_text())


def seconds(unit: Unit, key: str) -> float:
    return float(unit["Service"][key])


@pytest.fixture(params=["kveil.service", "kveil@.service"])
def name(request) -> str:
    return request.param


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The units, with a program that is here: whether the real one is installed is not their fault."""
    for path in UNITS.iterdir():
        text = path.read_text()
        assert f"ExecStart={INSTALLED} run " in text
        (tmp_path / path.name).write_text(text.replace(INSTALLED, "/bin/true"))
    return tmp_path


def test_systemd_finds_no_fault(copies: Path, name: str):
    done = run(["systemd-analyze", "verify", "--man=no", str(copies / name)])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_drop_in_for_identities(copies: Path):
    """Without a key file the service starts all the same: nothing is left that asks for one."""
    (block,) = (block for block in blocks(ROOT / "docs" / "identities.md") if block.lines[0] == "[Service]")
    folder = copies / "kveil.service.d"
    folder.mkdir()
    (folder / "override.conf").write_text(block.text)
    done = run(["systemd-analyze", "verify", "--man=no", str(copies / "kveil.service")])
    assert (done.returncode, done.stderr) == (0, "")
    service = Unit("kveil.service")["Service"]
    assert service["LoadCredential"].startswith("keys.json:")
    assert "LoadCredential=" in block.lines
    assert "UnsetEnvironment=KVEIL_KEYS__PATH" in block.lines
    assert service["StateDirectory"] == "kveil"
    typed = next(block.text for block in blocks(ROOT / "docs" / "identities.md") if "systemd-run" in block.text)
    assert "-p DynamicUser=yes -p User=kveil -p StateDirectory=kveil " in typed


def test_little_is_exposed(copies: Path, name: str):
    options = ("--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager")
    done = run(["systemd-analyze", "security", *options, str(copies / name)])
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_it_may_drain_before_it_is_killed(name: str):
    assert seconds(Unit(name), "TimeoutStopSec") > DRAIN_SECONDS + GRACE_SECONDS


def test_a_watchdog_leaves_no_copy_of_the_memory(name: str):
    service = Unit(name)["Service"]
    assert (service["LimitCORE"], service["WatchdogSignal"]) == ("0", "SIGKILL")
    assert seconds(Unit(name), "WatchdogSec") >= 10


def test_instances_are_users_of_their_own():
    """By itself systemd names a dynamic user for the part before the @, the same for all."""
    assert Unit("kveil@.service")["Service"]["User"] == "kveil-%i"


def test_both_are_alike_but_for_whose_configuration():
    """What is mended in one must not be forgotten in the other."""
    one, each = ((UNITS / unit).read_text().partition("[Unit]")[2] for unit in ("kveil.service", "kveil@.service"))
    own_user = "User=kveil-%i\n"
    each = "".join(line for line in each.splitlines(keepends=True) if line != own_user and "Else all" not in line)
    for instance, alone in {
        " (%i)\n": "\n",
        "kveil/%i.yaml": "kveil/kveil.yaml",
        "kveil/%i.keys.json": "kveil/keys.json",
        "kveil-%i\n": "kveil\n",
    }.items():
        assert instance in each
        each = each.replace(instance, alone)
    assert each == one
