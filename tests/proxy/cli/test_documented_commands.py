"""Every `kveil` command that a page tells somebody to type is one: its subcommands and options are there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from kveil.proxy.cli.root import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
# In a code block, at a line's beginning, or in backquotes.
TYPED = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(kveil [a-z].*)$|`(kveil [a-z][^`]*)`", re.MULTILINE)
PROSE = re.compile(r"^kveil [a-z]+ (?:is|are|does|makes|says)\b")


def typed(page: Path) -> list[str]:
    """The commands, without comments and without what comes of redirections and pipes."""
    found = (line or quoted for line, quoted in TYPED.findall(page.read_text()))
    commands = (re.split(r"\s#|\s[|>&;]|;|\s&&", one)[0].strip().rstrip(".,\\") for one in found)
    return [one for one in commands if not PROSE.match(one)]


CASES = [(page.relative_to(ROOT), command) for page in PAGES for command in typed(page)]


@pytest.mark.parametrize(("page", "command"), CASES, ids=str)
def test_a_command_that_a_page_names_is_there(page, command):
    words = shlex.split(command.replace("...", "").replace("…", ""))[1:]
    found = get_command(app)
    while isinstance(found, TyperGroup) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name.isupper() or "|" in name:
            return
        inner = found.get_command(None, name)
        assert inner is not None, f"{page}: no command {name}"
        found = inner
    options = {option for one in found.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert named <= options, f"{page}: {found.name} has no {named - options}"


def test_pages_name_commands():
    assert len({command for _, command in CASES}) >= 60
