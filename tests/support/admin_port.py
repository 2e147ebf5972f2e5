"""The admin port of a running proxy, asked as curl and Prometheus do."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import reserved_ports

SECONDS = 30.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """What it holds."""
        return json.loads(self.text)


class AdminPort:
    """One port."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.config = {"admin": {"address": f"127.0.0.1:{port}"}}

    def get(self, path: str, **headers: str) -> Answer:
        """Ask."""
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as found:
                return Answer(found.status, dict(found.headers), found.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read().decode())

    def metrics(self) -> dict[tuple[str, ...], float]:
        """The samples by name and label values, in the labels' alphabetic order, without those that are 0."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = (sample for family in families for sample in family.samples if sample.value)
        return {(one.name, *(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


@contextmanager
def admin_port() -> Iterator[AdminPort]:
    """Hold a port for one."""
    with reserved_ports(1) as (port,):
        yield AdminPort(port)
