"""Places where nobody is."""

from collections.abc import Iterator

import pytest

from tests.support.ports import reserved_ports


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections."""
    with reserved_ports(1) as (port,):
        yield port
