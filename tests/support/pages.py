"""The commands of the documentation, and a shell that they are typed into.

for block in blocks(ROOT / "docs" / "tutorial.md"):
    block.section, block.language, block.lines
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import Child

ROOT = Path(__file__).parents[2]
TYPE_SECONDS = 120.0
_PART = re.compile(
    r"^#+ (?P<title>[^\n]*)$|^ *```(?P<language>\w*)\n(?P<fenced>.*?)^ *```$|(?P<indented>(?:^    \S[^\n]*\n)+)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Code of a page: in a fence, or indented by four columns, as README.md has it."""

    section: str
    language: str
    lines: Sequence[str]
    """Without indentation; a line that goes on in the next one is one line."""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def blocks(page: Path) -> Iterator[Block]:
    """All code of a page, in its order."""
    section = ""
    for part in _PART.finditer(page.read_text()):
        if part["title"] is not None:
            section = part["title"]
            continue
        code = (part["fenced"] if part["indented"] is None else part["indented"]).replace("\\\n", " ")
        lines = [line.strip() for line in code.splitlines() if line.strip()]
        yield Block(section=section, language=part["language"] or "", lines=lines)


class Shell(Child):
    """A bash of one's own: what is set in it stays."""

    def __init__(self, environment: Mapping[str, str], cwd: Path) -> None:
        super().__init__(["bash", "--noprofile", "--norc"], environment=environment, cwd=cwd)
        self._typed = 0
        self._told = 0
        self.code = 0
        """The exit code of what was typed last."""

    def type(self, line: str, stdin: str = "", timeout: float = TYPE_SECONDS) -> list[str]:
        """Run a line to its end, and give what it said on standard output."""
        self._typed += 1
        end = f"=== {self._typed} ==="
        self.write_line(f"{{ {line}\n}} <<'END-OF-INPUT'\n{stdin}\nEND-OF-INPUT")
        # A program's last line may lack its end.
        self.write_line(f'code=$?; printf "\\n{end}\\n%s\\n" "$code"')
        said = list(self.lines.read_until(end, timeout))[self._told :]
        self.code = int(
            next(line for at, line in enumerate(self.lines.read(timeout)) if at == self._told + len(said) + 1)
        )
        self._told += len(said) + 2
        return said[:-1] if said and not said[-1] else said
