"""The reference pages say what the code says, and nothing is left unsaid."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from deploy.reference import FILES, ROOT, commands, configuration
from deploy.reference.program import Command
from kveil.proxy.config.schema import config_keys
from kveil.proxy.config.upstream import UpstreamTls


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_what_the_code_makes(path: Path):
    assert path.read_text() == FILES[path](), f"{path.relative_to(ROOT)} is behind the code: make docs"


def cells(page: str, first: str) -> list[str]:
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{first}` |")]
    return re.split(r"(?<!\\) \| ", row.strip("| "))


class TestTheConfiguration:
    PAGE = configuration.configuration_page()

    def test_every_key_has_a_row_in_order(self):
        assert re.findall(r"^\| `([^`]+)` \|", self.PAGE, re.MULTILINE) == [key.path for key in config_keys()]

    @pytest.mark.parametrize(
        ("key", "kind", "default"),
        [
            ("upstream.bootstrap", "list of `host:port`", "required"),
            ("upstream.sasl.username", "text or reference", "`null`"),
            ("limits.frame_bytes", "whole number, at least 65536, at most 2147483647", "`104857600`"),
            ("limits.login_seconds", "number, more than 0, at most 3600", "`10.0`"),
            ("topics[].seal", "`batch`, `none`", "`batch`"),
            ("topics[].plain_before", "map of whole number to whole number", "`{}`"),
            ("keys.aws.keys", "map of text to list of text", "`{}`"),
            ("keys.path", "file", "`/var/lib/kveil/keys.json`"),
            ("listeners[].tls", "map", "`null`"),
            ("keys.lazy", "`true` or `false`", "`false`"),
        ],
    )
    def test_a_key_s_type_and_default(self, key: str, kind: str, default: str):
        assert cells(self.PAGE, key)[1:3] == [kind, default]

    def test_a_key_s_meaning_and_variable(self):
        *_, meaning, variable = cells(self.PAGE, "upstream.tls.cert")
        assert meaning == "PEM file of the client certificate, with its chain."
        assert variable == "`KVEIL_UPSTREAM__TLS__CERT`"

    def test_no_row_breaks_out_of_its_table(self):
        rows = [line for line in self.PAGE.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}

    def test_a_key_without_a_meaning_is_named(self, monkeypatch: pytest.MonkeyPatch):
        found = {name: text for name, text in configuration.meanings(UpstreamTls).items() if name != "cert"}
        monkeypatch.setattr(configuration, "meanings", lambda _: found)
        with pytest.raises(configuration.Undescribed, match=r"write a docstring below"):
            configuration.configuration_page()


class Example(BaseModel):
    """Keys of every shape."""

    told: int = 1
    """One sentence,
    over two lines."""
    untold: int = 2
    last: str = ""
    """The last one."""

    def method(self) -> None:
        """Belongs to no field."""


def test_a_docstring_belongs_to_the_field_above_it():
    assert configuration.meanings(Example) == {"told": "One sentence, over two lines.", "last": "The last one."}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Annotated[float, Field(gt=0, le=60)], "number, more than 0, at most 60"),
        (Annotated[int, Field(ge=2)] | None, "whole number, at least 2"),
        (Literal["a", "b"], "`a`, `b`"),
        (tuple[Annotated[str, "note"], ...], "list of text"),
        (tuple[Example, ...], "list of map"),
    ],
    ids=str,
)
def test_types_in_words(annotation: object, text: str):
    assert configuration.type_text(annotation) == text


class TestTheCommands:
    PAGE = commands.commands_page()

    def test_groups_are_told_by_their_commands(self):
        titles = re.findall(r"^## (.*)$", self.PAGE, re.MULTILINE)
        assert "kveil keys usage" in titles
        assert "kveil keys" not in titles
        assert titles[0] == "kveil init"

    def test_a_command_with_its_arguments_and_options(self):
        (section,) = [one for one in self.PAGE.split("\n## ") if one.startswith("kveil keys rotate\n")]
        assert "```\nkveil keys rotate [OPTIONS] [NAME]\n```" in section
        assert "| `NAME` | The key to rotate. [default: default] |" in section
        assert "| `-c, --config FILE` | The configuration file. [env var: KVEIL_CONFIG] |" in section

    def test_it_says_how_commands_end(self):
        assert "Exit codes: 0 done, 1 failed, 2 wrong use or configuration." in self.PAGE

    def test_a_bar_stays_in_its_cell(self, monkeypatch: pytest.MonkeyPatch):
        odd = Command(name="kveil odd", usage="kveil odd", help="", arguments=[], options=[("--a A|B", "a <b>|c")])
        monkeypatch.setattr(commands, "commands", lambda: iter([odd]))
        assert r"| `--a A\|B` | a &lt;b>\|c |" in commands.commands_page()


def test_the_guides_and_the_reference_know_each_other():
    for name in ("configuration.md", "commands.md"):
        assert f"reference/{name}" in (ROOT / "docs" / name).read_text()
        assert f"../{name}" in (ROOT / "docs" / "reference" / name).read_text()
