"""`kveil users`: who may log in at a listener. Nothing here shows a password, or takes one as an option."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.auditing import audited_by_file
from kveil.proxy.cli.telling import tell

if TYPE_CHECKING:
    from kveil.proxy.secret import Secret

app = command_app()

UsersPath = Annotated[Path | None, typer.Option("--users", metavar="FILE", help="The users file.")]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="The user.")]


@app.callback()
def users() -> None:
    """Say who may log in at a listener that has sasl.users."""


@app.command()
def add(
    name: UserName, path: UsersPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Add a user, and make the file if there is none. The password is asked for, or read from standard input."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.users.users import add_user, checked_user_name
    from kveil.proxy.users.users_store import change_users_file

    where = _users_path(path, config)
    checked_user_name(name)
    password = _read_password()
    with audited_by_file("kveil users add", config):
        change_users_file(where, lambda content: add_user(content, name, password), make=True)
        audit("user.added", name, path=str(where))
    text = f"Added user {name} to {where}. Proxies that run with this file notice by themselves."
    tell(text, {"path": str(where), "added": name}, as_json=as_json)


@app.command()
def passwd(
    name: UserName, path: UsersPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Give a user another password. It is asked for, or read from standard input."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.users.users import change_password
    from kveil.proxy.users.users_store import change_users_file

    where = _users_path(path, config)
    password = _read_password()
    with audited_by_file("kveil users passwd", config):
        change_users_file(where, lambda content: change_password(content, name, password))
        audit("user.changed", name, path=str(where))
    text = f"User {name} in {where} logs in with the new password from now on."
    tell(text, {"path": str(where), "changed": name}, as_json=as_json)


@app.command()
def remove(
    name: UserName, path: UsersPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Remove a user. Connections that have logged in stay until they end."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.users.users import remove_user
    from kveil.proxy.users.users_store import change_users_file

    where = _users_path(path, config)
    with audited_by_file("kveil users remove", config):
        change_users_file(where, lambda content: remove_user(content, name))
        audit("user.removed", name, path=str(where))
    text = f"Removed user {name} from {where}. Connections that have logged in stay until they end."
    tell(text, {"path": str(where), "removed": name}, as_json=as_json)


@app.command("list")
def list_users(path: UsersPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False) -> None:
    """Show the users, and when their passwords were set."""
    from kveil.proxy.users.users_store import read_users_file

    where = _users_path(path, config)
    content, _ = read_users_file(where)
    if as_json:
        found = [{"name": user.name, "changed": user.changed} for user in content.users]
        typer.echo(json.dumps({"path": str(where), "users": found}, indent=2))
        return
    typer.echo("\n".join([str(where), *(f"user {user.name}  password set {user.changed}" for user in content.users)]))


def _users_path(path: Path | None, config: Path | None) -> Path:
    """The file of the option, or the one that the configuration's listeners name."""
    from kveil.proxy.config import load_listeners
    from kveil.proxy.users.errors import UsersFileError

    if path is not None:
        return path
    found = {listener.sasl.users for listener in load_listeners(config) if listener.sasl is not None}
    if len(found) != 1:
        text = (
            f"the listeners name several ({', '.join(sorted(map(str, found)))})" if found else "no listener names one"
        )
        msg = f"which users file? {text}: give --users FILE"
        raise UsersFileError(msg)
    return found.pop()


def _read_password() -> "Secret":
    """From the terminal without an echo, twice; else the first line of standard input."""
    from kveil.proxy.secret import Secret
    from kveil.proxy.users.users import MAX_PASSWORD_BYTES

    if sys.stdin.isatty():
        return Secret(str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)).encode())
    # One byte and a line's end more than fit, so that a password that is too long is told of and not cut.
    line = typer.get_binary_stream("stdin").readline(MAX_PASSWORD_BYTES + 3)
    return Secret(line.removesuffix(b"\n").removesuffix(b"\r"))
