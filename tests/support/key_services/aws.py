"""AWS KMS as moto plays it, with an administrator's hands on it."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3

from kveil.proxy.config.key_services import Aws
from kveil.proxy.keys.providers.aws import AwsProvider
from tests.support.ports import reserved_ports
from tests.support.processes import Child

REGION = "eu-central-1"
SECONDS = 60.0
ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLEOFTESTS", "c2VjcmV0LW9mLXRoZS10ZXN0cw"
MODULE = Path(__file__).with_name("moto_server.py")


@contextmanager
def aws_environment(**variables: str) -> Iterator[None]:
    """Have these variables of AWS's SDK and no others, and never ask the host's metadata service."""
    variables |= {"AWS_EC2_METADATA_DISABLED": "true"}
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        variables.setdefault(name, os.devnull)
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)


class Server:
    """moto in a process. While it runs, this process and its children have credentials for it."""

    takes_context = True
    pauses_calls = True
    has_versions = False  # AWS doesn't say which material of a key made a wrap

    def __init__(self, folder: Path) -> None:
        with ExitStack() as stack:
            (port,) = stack.enter_context(reserved_ports(1))
            self.endpoint = f"http://127.0.0.1:{port}"
            self._child = stack.enter_context(
                Child([sys.executable, str(MODULE), str(port)], log_path=folder / "moto.log")
            )
            self._heard = 0
            assert self._hear() == "ready", self._child.lines.so_far()
            stack.enter_context(aws_environment(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY))
            self.kms: Any = boto3.client("kms", region_name=REGION, endpoint_url=self.endpoint)
            stack.callback(self.kms.close)
            self._stack = stack.pop_all()

    def make_key(self, name: str) -> None:
        self.kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=self.new_key())

    def new_key(self, **properties: str) -> str:
        """A key without an alias; its id."""
        wanted = {"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", **properties}
        made: str = self.kms.create_key(**wanted)["KeyMetadata"]["KeyId"]
        return made

    def key_id(self, name: str) -> str:
        """The id of the key that an alias leads to."""
        found: str = self.kms.describe_key(KeyId=f"alias/{name}")["KeyMetadata"]["KeyId"]
        return found

    def rotate(self, name: str) -> None:
        self.kms.rotate_key_on_demand(KeyId=self.key_id(name))

    def disable(self, name: str) -> None:
        self.kms.disable_key(KeyId=self.key_id(name))

    def enable(self, name: str) -> None:
        self.kms.enable_key(KeyId=self.key_id(name))

    def destroy(self, name: str) -> None:
        # AWS waits for a week at least; the key does nothing from now on.
        self.kms.schedule_key_deletion(KeyId=self.key_id(name), PendingWindowInDays=7)

    def provider(self, **settings: Any) -> AwsProvider:
        return AwsProvider(Aws.model_validate({"region": REGION, "endpoint": self.endpoint, **settings}))

    def keys_settings(self) -> dict[str, Any]:
        return {"provider": "aws", "aws": {"region": REGION, "endpoint": self.endpoint}}

    def secrets(self) -> list[str]:
        return [SECRET_KEY]

    def pause(self) -> None:
        self._tell("pause")

    def resume(self) -> None:
        self._tell("resume")

    def fail(self, status: int, code: str) -> None:
        """Answer every call so, until `mend`."""
        self._tell(f"fail {status} {code}")

    def mend(self) -> None:
        self._tell("mend")

    def calls(self) -> list[dict[str, str]]:
        """What KMS was asked since the last time: `operation`, and the access key that it was `signed_by`."""
        found: list[dict[str, str]] = json.loads(self._tell("calls"))
        return found

    def _tell(self, line: str) -> str:
        self._child.write_line(line)
        return self._hear()

    def _hear(self) -> str:
        for place, line in enumerate(self._child.lines.read(SECONDS)):
            if place == self._heard:
                self._heard += 1
                return line
        raise AssertionError(self._child.lines.so_far())

    def stop(self) -> None:
        self._stack.close()
