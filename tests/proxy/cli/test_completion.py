"""Completion, in the shells themselves: it names what there is, at once, and touches neither settings nor keys."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kveil.proxy.cli.root import COMMANDS

PROGRAMS = Path(sys.executable).parent
# In the shell's own completion: the words of the line as they stand when TAB is pressed, the last one half typed.
PRESS_TAB = """
source <(_KVEIL_COMPLETE=source_bash kveil)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_kveil_completion kveil "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
complete -p kveil >&2
"""


def in_shell(shell: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": "/nonexistent"}
    if "PYTHONPATH" in os.environ:
        inherited["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.run(
        [shell, *arguments], env=inherited | environment, capture_output=True, text=True, timeout=60, check=True
    )


def completed(*words: str, **environment: str) -> list[str]:
    done = in_shell("bash", "--norc", "-c", PRESS_TAB, "bash", *words, **environment)
    assert done.stderr == "complete -o default -F _kveil_completion kveil\n"
    return done.stdout.split()


def test_the_commands():
    assert completed("kveil", "") == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("kveil", "mig"), ["migrate"]),
        (("kveil", "keys", "d"), ["destroy"]),
        (("kveil", "run", "--tls"), ["--tls", "--tls-ca"]),
        (("kveil", "demo", "--kafka", ""), ["mock", "real"]),
        (("kveil", "nothing"), []),
    ],
    ids=" ".join,
)
def test_what_begins_so(words, found):
    assert completed(*words) == found


def test_it_reads_no_settings():
    """What is wrong with them is not told of while somebody types."""
    broken = {"KVEIL_CONFIG": "/nonexistent/kveil.yaml", "KVEIL_NO_SUCH_KEY": "1", "KVEIL_KEYS__PATH": "/nonexistent"}
    assert completed("kveil", "keys", "ro", **broken) == ["rotate"]


def test_it_loads_none_of_the_rest():
    code = (
        "import json, sys\n"
        "from kveil.proxy.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'yaml', 'structlog', 'cryptography', 'kio', 'uvloop', 'rich', 'kveil.proxy.config'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))\n"
    )
    typed = {"_KVEIL_COMPLETE": "complete_bash", "COMP_WORDS": "kveil ", "COMP_CWORD": "1"}
    done = in_shell(sys.executable, "-c", code, **typed)
    *names, loaded = done.stdout.splitlines()
    assert names == list(COMMANDS)
    assert json.loads(loaded) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell):
    script = in_shell(str(PROGRAMS / "kveil"), _KVEIL_COMPLETE=f"source_{shell}").stdout
    assert f"_KVEIL_COMPLETE=complete_{shell}" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)
