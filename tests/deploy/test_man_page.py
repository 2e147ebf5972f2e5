"""`man kveil`: roff without a warning, which says what `--help` says, and comes with the wheel."""

import os
import re
import shutil
import tomllib

import pytest

from deploy.reference import ROOT
from deploy.reference.man import man_page
from deploy.reference.program import Command, commands, root
from tests.support.processes import run

PAGE = ROOT / "deploy" / "kveil.1"
REQUESTS = {".TH", ".SH", ".SS", ".TP", ".B"}


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_it_has_the_sections_of_a_man_page():
    titles = re.findall(r"^\.SH (.*)$", PAGE.read_text(), re.MULTILINE)
    assert titles == [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EXIT STATUS",
        "SIGNALS",
        "ENVIRONMENT",
        "FILES",
    ]


def test_each_line_is_text_or_a_known_request():
    for line in PAGE.read_text().splitlines():
        assert not line.startswith("'"), line
        assert line.startswith('.\\"') or not line.startswith(".") or line.split()[0] in REQUESTS, line


def test_every_command_and_option_is_in_it():
    text = PAGE.read_text().replace(r"\-", "-")
    for command in commands():
        (section,) = [part for part in text.split("\n.SS ") if part.startswith(f'"{command.usage}"')]
        for names, _ in (*command.options, *command.arguments):
            assert names in section


def test_what_roff_would_take_for_its_own_is_escaped(monkeypatch: pytest.MonkeyPatch):
    odd = Command(name="kveil", usage="kveil", help=".cert is 'read'", arguments=[], options=[("--a", r'"C:\n"')])
    monkeypatch.setattr("deploy.reference.man.root", lambda: odd)
    page = man_page()
    assert "\n" + r"\&.cert is \(aqread\(aq" + "\n" in page
    assert "\n" + r"\(dqC:\en\(dq" + "\n" in page


@needs("groff")
def test_groff_has_nothing_to_say_of_it():
    done = run(["groff", "-man", "-ww", "-rCHECKSTYLE=3", "-z", "-Tutf8", str(PAGE)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("mandoc")
def test_mandoc_has_nothing_to_say_of_it():
    done = run(["mandoc", "-T", "lint", "-W", "warning", str(PAGE)])
    assert done.returncode == 0, done.stdout


@needs("man")
def test_man_shows_it_as_it_was_written():
    environment = {"PATH": os.environ["PATH"], "MANWIDTH": "500", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"}
    done = run(["man", "-l", str(PAGE)], environment=environment)
    assert done.returncode == 0, done.stderr
    shown = re.sub(r" +", " ", done.stdout)
    assert root().help in shown
    for command in commands():
        assert command.usage in shown
        assert command.help in shown


def test_wheel_and_image_take_it_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert project["wheel"]["shared-data"] == {"deploy/kveil.1": "share/man/man1/kveil.1"}
    assert "deploy/kveil.1" in project["sdist"]["only-include"]
    assert "deploy/kveil.1" in (ROOT / "Dockerfile").read_text()
