"""A secret shows itself to nobody who doesn't ask for it by name."""

import copy
import json
import pickle

import pytest

from kveil.proxy.secret import Secret

SECRET = Secret(b"hunter2")


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET!r:>40}",
        f"{SECRET:>40}",
        "%s" % SECRET,  # noqa: UP031
        repr([SECRET]),
        json.dumps({"a": SECRET}, default=str),
    ],
)
def test_it_never_shows_itself(shown):
    assert "hunter2" not in shown
    assert "redacted" in shown


def test_it_can_be_revealed():
    assert SECRET.reveal() == b"hunter2"


@pytest.mark.parametrize("spread", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_can_not_be_copied_elsewhere(spread):
    with pytest.raises(TypeError, match="secret"):
        spread(SECRET)


def test_it_has_no_dictionary_to_look_into():
    assert not hasattr(SECRET, "__dict__")
