"""The program itself: lazily loaded, with the exit codes of a good citizen, and documented as it is."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kveil.proxy.cli import root
from kveil.proxy.cli.root import COMMANDS

DOCS = Path(__file__).parents[3] / "docs" / "commands.md"


def kveil_process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kveil")
    return subprocess.run(
        [str(program), *arguments], env={"HOME": "/nonexistent", **environ}, capture_output=True, text=True, check=False
    )


def test_the_installed_program_says_its_version():
    result = kveil_process("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"kveil \d+\.\d+\.\d+\S*\n", result.stdout)
    assert kveil_process("version").stdout == result.stdout


def test_the_installed_program_fails_in_plain_sentences():
    result = kveil_process("run", "--upstream", "a:1", KVEIL_KEYS__PATH="/nope/keys.json")
    assert result.returncode == 2
    assert result.stderr.startswith("kveil: there is no key file /nope/keys.json: `kveil keys init")
    assert result.stderr.count("\n") == 1


def test_help_loads_none_of_the_rest():
    code = (
        "import sys, kveil.proxy.cli as cli\n"
        "sys.argv = ['kveil', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'yaml', 'structlog', 'cryptography', 'kio', 'uvloop', 'asyncio', 'rich'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands:" in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded []"


def test_only_the_command_that_is_used_is_loaded():
    code = (
        "import sys, kveil.proxy.cli as cli\n"
        "sys.argv = ['kveil', 'version']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', sorted(name for name in sys.modules if name.startswith('kveil.proxy')))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kveil.proxy.cli.run", "kveil.proxy.cli.keys", "kveil.proxy.config"} & set(
        re.findall(r"'([a-z._]+)'", result.stdout)
    )


def test_no_command_shows_help(kveil):
    result = kveil()
    assert result.exit_code == 2
    assert "Usage: kveil" in result.stdout + result.stderr


def test_an_unknown_command(kveil):
    result = kveil("frobnicate")
    assert result.exit_code == 2
    assert "frobnicate" in result.stderr


def test_commands_stand_in_the_order_in_which_they_are_needed(kveil):
    shown = re.findall(r"^  ([a-z-]+) ", kveil("--help").stdout.split("Commands:")[1], re.MULTILINE)
    assert shown == [name for name in COMMANDS if name in shown]
    assert set(shown) >= {"run", "producer", "consumer", "keys", "check", "version"}


def test_a_command_whose_module_is_missing_is_left_out(kveil, monkeypatch):
    monkeypatch.setattr(root, "COMMANDS", ("run", "nowhere"))
    assert "nowhere" not in kveil("--help").stdout
    assert kveil("nowhere").exit_code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_no_variables_in_a_traceback(name):
    if not (Path(root.__file__).parent / f"{name.replace('-', '_')}.py").exists():
        pytest.skip(f"{name} is not built yet")
    app = importlib.import_module(root.module_of(name)).app
    assert app.pretty_exceptions_enable is False


# The documentation

PRIVATE = {"--help"}


def commands() -> dict[str, set[str]]:
    """Every command and its options, read off the program."""
    found: dict[str, set[str]] = {}

    def walk(command, name: str) -> None:
        children = getattr(command, "commands", {})
        if command.name == "kveil" or isinstance(command, root.LazyGroup):
            children = {child: command.get_command(None, child) for child in command.list_commands(None)}
        for child, inner in children.items():
            walk(inner, f"{name} {child}")
        if not children:
            flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
            found[name] = {flag for flag in flags if flag.startswith("-")} - PRIVATE

    walk(typer.main.get_command(root.app), "kveil")
    return found


def documented() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for section in DOCS.read_text().split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        name = re.sub(r" (\[?[A-Z]+\]?(\.\.\.)?)$", "", title)
        cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `-")]
        found[name] = set(re.findall(r"`(--?[a-z0-9-]+)`", " ".join(cells)))
    return found


def test_every_command_is_documented():
    built = {name for name in commands() if name != "kveil demo"}
    assert built == set(documented()) - {"kveil demo"}


@pytest.mark.parametrize("name", sorted(documented()))
def test_every_option_is_documented(name):
    built = commands()
    if name not in built:
        pytest.skip(f"{name} is not built yet")
    assert documented()[name] == built[name]


def test_rotations_by_several_processes_all_count(tmp_path):
    path = tmp_path / "keys.json"
    assert kveil_process("keys", "init", "--keys", str(path)).returncode == 0
    program = str(Path(sys.executable).with_name("kveil"))
    running = [
        subprocess.Popen([program, "keys", "rotate", "--keys", str(path)], stdout=subprocess.DEVNULL) for _ in range(4)
    ]
    assert [process.wait(30) for process in running] == [0] * 4
    listed = json.loads(kveil_process("keys", "list", "--keys", str(path), "--json").stdout)
    assert listed["keys"][0]["primary"] == "5"
    assert [one["version"] for one in listed["keys"][0]["versions"]] == ["1", "2", "3", "4", "5"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_a_debugger_s_view_of_a_failure_shows_no_key(tmp_path):
    """Python's own traceback, without the variables of the frames."""
    path = tmp_path / "keys.json"
    kveil_process("keys", "init", "--keys", str(path))
    secrets = re.findall(r'"secret": "([^"]+)"', path.read_text())
    code = (
        "import sys, kveil.proxy.cli as cli, kveil.proxy.private_file as store\n"
        "def fail(descriptor): raise MemoryError('boom')\n"
        "store.os.fsync = fail\n"
        f"sys.argv = ['kveil', 'keys', 'rotate', '--keys', {str(path)!r}]\n"
        "cli.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "MemoryError: boom" in result.stderr
    assert len(secrets) == 2
    assert not any(secret in result.stderr for secret in secrets)
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]
