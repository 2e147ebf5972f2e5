"""What can be said of Kveil by its code alone: the reference of the configuration and of the commands, the man page.

`python -m deploy.reference`, or `make docs`, writes the files. A test says where they are behind the code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.reference.commands import commands_page
from deploy.reference.configuration import configuration_page
from deploy.reference.man import man_page

ROOT: Final = Path(__file__).parents[2]

FILES: Final[dict[Path, Callable[[], str]]] = {
    ROOT / "docs" / "reference" / "configuration.md": configuration_page,
    ROOT / "docs" / "reference" / "commands.md": commands_page,
    ROOT / "deploy" / "kveil.1": man_page,
}
"""Each file, and what it must hold."""


def write_all() -> None:
    """Bring every file up to the code."""
    for path, page in FILES.items():
        path.write_text(page())
