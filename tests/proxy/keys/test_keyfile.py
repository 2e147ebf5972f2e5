"""What a key file holds, and how it grows."""

import re

import pytest

from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import (
    KeyVersion,
    NamedKey,
    add_key,
    destroy_key,
    destroy_version,
    new_key_file,
    rotate_key,
)


def test_a_new_file_has_one_version_of_the_default_key_and_a_hiding_key():
    content = new_key_file()
    (key,) = content.keys
    assert (key.name, key.primary) == ("default", "1")
    (version,) = key.versions
    assert version.version == "1"
    assert len(version.secret) == 32
    assert len(content.key_hiding_key.id) == 16
    assert len(content.key_hiding_key.secret) == 32
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", version.created)


def test_nothing_of_two_new_files_is_alike():
    files = [new_key_file() for _ in range(20)]
    assert len({one.realm for one in files}) == 20
    secrets = {one.keys[0].versions[0].secret for one in files} | {one.key_hiding_key.secret for one in files}
    assert len(secrets) == 40
    assert len({one.key_hiding_key.id for one in files}) == 20


def test_a_realm_and_several_names_may_be_given():
    content = new_key_file(realm="production", names=("eu", "us"))
    assert content.realm == "production"
    assert [key.name for key in content.keys] == ["eu", "us"]


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a/b", "ä", "a" * 129, "a\n"])
def test_a_name_that_may_not_be(name):
    with pytest.raises(KeyFileError, match="realm must be"):
        new_key_file(realm=name)
    with pytest.raises(KeyFileError, match="key name must be"):
        new_key_file(names=(name,))


def test_a_rotation_adds_a_primary_version_and_takes_nothing_away():
    before = new_key_file(names=("default", "eu"))
    after = rotate_key(before, "default")
    key = after.key("default")
    assert key is not None
    assert key.primary == "2"
    assert [one.version for one in key.versions] == ["1", "2"]
    assert key.versions[0] == before.keys[0].versions[0]
    assert key.versions[1].secret != key.versions[0].secret
    assert after.key("eu") == before.key("eu")
    assert after.key_hiding_key == before.key_hiding_key
    assert after.realm == before.realm
    assert before.keys[0].primary == "1"


def test_versions_go_on_counting_from_the_highest():
    content = new_key_file()
    for expected in ("2", "3", "4"):
        content = rotate_key(content, "default")
        assert content.keys[0].primary == expected


@pytest.mark.parametrize(("names", "expected"), [(("7", "3"), "8"), (("blue",), "2"), (("9", "blue"), "10")])
def test_versions_that_a_person_named_are_never_reused(names, expected):
    content = new_key_file()
    versions = tuple(KeyVersion(version=name, created="", secret=bytes(32)) for name in names)
    named = NamedKey(name="default", primary=names[0], versions=versions)
    rotated = rotate_key(type(content)(realm="r", keys=(named,), key_hiding_key=content.key_hiding_key), "default")
    assert rotated.keys[0].primary == expected
    assert len({one.version for one in rotated.keys[0].versions}) == len(names) + 1


def test_an_unknown_key_can_not_be_rotated():
    with pytest.raises(KeyFileError, match=r"no key eu; there are: default.*kveil keys add eu"):
        rotate_key(new_key_file(), "eu")


def test_a_key_is_added_once():
    content = add_key(new_key_file(), "eu")
    assert [key.name for key in content.keys] == ["default", "eu"]
    with pytest.raises(KeyFileError, match=r"already.*kveil keys rotate eu"):
        add_key(content, "eu")


def test_a_look_for_what_is_not_there():
    content = new_key_file()
    assert content.key("eu") is None
    assert content.keys[0].version("2") is None


def test_no_secret_is_in_a_repr():
    content = new_key_file()
    secrets = [content.keys[0].versions[0].secret, content.key_hiding_key.secret]
    shown = repr(content)
    for secret in secrets:
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "secret" not in shown


def test_a_destroyed_key_is_gone_and_the_others_stay():
    content = rotate_key(new_key_file(realm="r", names=("a", "b")), "b")
    after = destroy_key(content, "a")
    assert after.keys == content.keys[1:]
    assert (after.realm, after.key_hiding_key) == (content.realm, content.key_hiding_key)
    assert destroy_key(after, "b").keys == ()


def test_a_destroyed_version_is_gone_and_the_others_stay():
    content = rotate_key(rotate_key(new_key_file(realm="r", names=("a", "b")), "a"), "a")
    after = destroy_version(content, "a", "2")
    assert [one.version for one in after.keys[0].versions] == ["1", "3"]
    assert after.keys[0].primary == "3"
    assert after.keys[1] == content.keys[1]
    assert [one.version for one in rotate_key(after, "a").keys[0].versions] == ["1", "3", "4"]


def test_the_version_that_seals_is_not_destroyed():
    content = rotate_key(new_key_file(realm="r"), "default")
    with pytest.raises(KeyFileError, match="kveil keys rotate default"):
        destroy_version(content, "default", "2")


@pytest.mark.parametrize(
    ("destroy", "reason"),
    [
        (lambda content: destroy_key(content, "eu"), "no key eu; there are: default"),
        (lambda content: destroy_version(content, "eu", "1"), "no key eu; there are: default"),
        (lambda content: destroy_version(content, "default", "7"), "no version 7; there are: 1"),
        (lambda content: destroy_key(destroy_key(content, "default"), "eu"), "there are: none"),
    ],
)
def test_what_is_not_there_is_not_destroyed(destroy, reason):
    with pytest.raises(KeyFileError, match=reason):
        destroy(new_key_file(realm="r"))
