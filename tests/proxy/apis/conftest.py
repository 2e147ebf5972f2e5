"""Members of one realm, for what is told of batches' places."""

import pytest

from tests.support.announced import World
from tests.support.conversation import Clock
from tests.support.realm import consumes, produces
from tests.support.told import Log, Member


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path, Clock())


@pytest.fixture
def billing(world, tmp_path) -> Member:
    return Member(tmp_path, world, world.members.join("billing", consumes()))


@pytest.fixture
def shop(world, tmp_path, billing) -> Member:
    return Member(tmp_path, world, world.members.join("shop", produces()))


@pytest.fixture
def log() -> Log:
    return Log()
